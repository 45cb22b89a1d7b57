package chengine

import (
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"
)

// serviceUser is the user the parent itself is when it asks whether the engine
// answers. It is granted nothing.
const serviceUser = "tongan_engine"

// Config says how an engine is started. Dir is needed, the rest may be zero.
type Config struct {
	// Dir is the data folder; it is created with access for its owner only.
	// One engine at a time uses it.
	Dir string
	// HTTPPort and TCPPort are the loopback ports of the HTTP and the native
	// interface; 0 takes a free one.
	HTTPPort, TCPPort int
	// Library is the path of libchdb.so; empty means FindLibrary.
	Library string
	// Users may log in with a password. There are no others.
	Users []User
	// Log gets start, end and trouble; nil is silent.
	Log *slog.Logger
}

// User is an account of the engine. It can do what Grants say and nothing else.
type User struct {
	// Name is lower case letters, digits and underscores.
	Name string
	// Password must not be empty; the engine is told its hash only.
	Password string
	// Readonly gives the reader's profile: no writes whatever the grants say,
	// and limits of time, memory and result size that can only be lowered.
	Readonly bool
	// Grants are SQL without GRANT and TO, for example "SELECT ON tongan.*".
	// Creating a table needs its engine too: "TABLE ENGINE ON ReplacingMergeTree".
	Grants []string
}

var (
	//go:embed config.xml.tmpl
	configText string
	//go:embed users.xml.tmpl
	usersText string

	templateFuncs = template.FuncMap{"xml": xmlText, "sha256": sha256Hex}
	configFile    = template.Must(template.New("config.xml").Funcs(templateFuncs).Parse(configText))
	usersFile     = template.Must(template.New("users.xml").Funcs(templateFuncs).Parse(usersText))

	userName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
	grant    = regexp.MustCompile(`^[^;<>\n]+ ON [^;<>\n]+$`) // without ON it would be a role, and ignored
)

// Validate says what is wrong with c. Start calls it.
func (c Config) Validate() error {
	if c.Dir == "" {
		return errors.New("engine: no data folder given")
	}
	if c.HTTPPort < 0 || c.HTTPPort > 65535 || c.TCPPort < 0 || c.TCPPort > 65535 {
		return fmt.Errorf("engine: ports %d and %d: not between 0 and 65535", c.HTTPPort, c.TCPPort)
	}
	if c.HTTPPort != 0 && c.HTTPPort == c.TCPPort {
		return fmt.Errorf("engine: port %d given for both interfaces", c.HTTPPort)
	}
	seen := map[string]bool{"default": true, serviceUser: true}
	for _, u := range c.Users {
		switch {
		case !userName.MatchString(u.Name):
			return fmt.Errorf("engine user %q: the name is not lower case letters, digits and underscores", u.Name)
		case seen[u.Name]:
			return fmt.Errorf("engine user %s: the name is taken", u.Name)
		case u.Password == "":
			return fmt.Errorf("engine user %s: no password", u.Name)
		}
		seen[u.Name] = true
		for _, g := range u.Grants {
			if !grant.MatchString(g) {
				return fmt.Errorf("engine user %s: grant %q is not of the form SELECT ON tongan.*", u.Name, g)
			}
		}
	}
	return nil
}

// layout is where an engine keeps things below its Dir.
type layout struct {
	Dir        string
	DataDir    string
	RunDir     string
	WorkDir    string
	ConfigFile string
	UsersFile  string
	LogFile    string
	LockFile   string
}

// makeLayout creates the folders below dir.
func makeLayout(dir string) (layout, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return layout{}, fmt.Errorf("data folder %s: %w", dir, err)
	}
	l := layout{
		Dir:        dir,
		DataDir:    filepath.Join(dir, "data"),
		RunDir:     filepath.Join(dir, "run"),
		WorkDir:    filepath.Join(dir, "run", "cwd"),
		ConfigFile: filepath.Join(dir, "run", "config.xml"),
		UsersFile:  filepath.Join(dir, "run", "users.xml"),
		LogFile:    filepath.Join(dir, "run", "engine.log"),
		LockFile:   filepath.Join(dir, "engine.lock"),
	}
	for _, d := range []string{l.Dir, l.DataDir, l.RunDir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return layout{}, fmt.Errorf("data folder %s is not writable: %w", dir, err)
		}
	}
	for _, d := range []string{l.DataDir, l.RunDir} { // Dir may have been there, open to others
		if err := os.Chmod(d, 0o700); err != nil {
			return layout{}, fmt.Errorf("data folder %s is not ours: %w", dir, err)
		}
	}
	return l, nil
}

// writeConfig writes the engine's two configuration files.
func (l layout) writeConfig(users []User) error {
	write := func(path string, t *template.Template, data any) error {
		var b strings.Builder
		if err := t.Execute(&b, data); err != nil {
			return fmt.Errorf("render %s: %w", path, err)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("replace %s: %w", path, err)
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
			return fmt.Errorf("data folder %s is not writable: %w", l.Dir, err)
		}
		return nil
	}
	if err := write(l.UsersFile, usersFile, map[string]any{"Users": users}); err != nil {
		return err
	}
	return write(l.ConfigFile, configFile, l)
}

// newServiceUser has a password that nobody but this process ever knows.
func newServiceUser() User {
	return User{Name: serviceUser, Password: rand.Text()}
}

func sha256Hex(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func xmlText(s string) (string, error) {
	var b strings.Builder
	err := xml.EscapeText(&b, []byte(s))
	return b.String(), err
}
