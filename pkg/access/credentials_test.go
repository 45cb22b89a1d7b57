package access_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"

	"tongan.dev/pkg/access"
)

func newCredentials(t *testing.T) *access.Credentials {
	t.Helper()
	c, err := access.NewCredentials()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The private part is written once, for nobody but the owner, and never over a file that is there.
func TestCredentialsAreWrittenOnceAndForTheirOwner(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "w1.nk")
	c := newCredentials(t)
	if err := c.Save(path); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v (%v)", p, info.Mode(), err)
		}
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := newCredentials(t).Save(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file that is there: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the file that was there is another now (%v)", err)
	}
	again, err := access.LoadCredentials(path)
	if err != nil || again.Public() != c.Public() || !nkeys.IsValidPublicUserKey(c.Public()) {
		t.Errorf("loaded they are another key's (%v)", err)
	}
}

func TestCredentialsThatOthersMayReadAreRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "w1.nk")
	if err := newCredentials(t).Save(path); err != nil {
		t.Fatal(err)
	}
	for mode, refused := range map[fs.FileMode]bool{
		0o600: false, 0o400: false, 0o700: false, 0o640: true, 0o604: true, 0o644: true, 0o620: true, 0o602: true, 0o610: true, 0o601: true,
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := access.LoadCredentials(path)
		if refused != (err != nil) || refused && !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}

// Whatever else a file holds, it is refused in one line that repeats nothing of it.
func TestWhatIsNoUsersSeedIsRefused(t *testing.T) {
	t.Parallel()
	seed := func(pair nkeys.KeyPair, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		s, err := pair.Seed()
		if err != nil {
			t.Fatal(err)
		}
		return string(s)
	}
	user := seed(nkeys.CreateUser())
	for name, text := range map[string]string{
		"nothing":            "",
		"a word":             "hush-1f2e3d",
		"half a seed":        user[:30],
		"a seed with a slip": user[:20] + string('A'+(user[20]-'A'+1)%26) + user[21:],
		"two seeds":          user + "\n" + user,
		"a public key":       newCredentials(t).Public(),
		"an account's seed":  seed(nkeys.CreateAccount()),
		"an operator's seed": seed(nkeys.CreateOperator()),
		"a server's seed":    seed(nkeys.CreateServer()),
		"a file of a JWT":    "-----BEGIN NATS USER JWT-----\n1f2e3d\n------END NATS USER JWT------\n",
	} {
		path := filepath.Join(t.TempDir(), "w1.nk")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := access.LoadCredentials(path)
		if err == nil {
			t.Errorf("%s is taken", name)
			continue
		}
		if told := strings.ReplaceAll(err.Error(), path, ""); strings.Contains(told, "\n") || strings.Contains(told, "1f2e3d") || text != "" && strings.Contains(told, text) {
			t.Errorf("%s: it says %q", name, told)
		}
	}
	if _, err := access.LoadCredentials(filepath.Join(t.TempDir(), "nobody.nk")); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("no file: %v", err)
	}
	path := filepath.Join(t.TempDir(), "w1.nk")
	if err := os.WriteFile(path, []byte("  "+user+"\r\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := access.LoadCredentials(path); err != nil {
		t.Errorf("with white space around it: %v", err)
	}
}

func TestEnsureMakesCredentialsOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "services", "intake.nk")
	first, err := access.Ensure(path)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := access.Ensure(path); err != nil || again.Public() != first.Public() {
		t.Errorf("the second time it makes others (%v)", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := access.Ensure(path); err == nil {
		t.Error("it takes credentials that others may read")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := access.Ensure(filepath.Join(file, "intake.nk")); err == nil {
		t.Error("it makes credentials inside a file")
	}
}
