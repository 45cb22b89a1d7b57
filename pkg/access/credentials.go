package access

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"tongan.dev/pkg/subject"
)

// Credentials are the private part of an NKey: what somebody connects with.
type Credentials struct {
	pair   nkeys.KeyPair
	public string
}

// NewCredentials makes new ones.
func NewCredentials() (*Credentials, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	return newCredentials(pair)
}

func newCredentials(pair nkeys.KeyPair) (*Credentials, error) {
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	return &Credentials{pair, public}, nil
}

// LoadCredentials reads a file of credentials, which nobody but its owner may be able to read.
func LoadCredentials(path string) (*Credentials, error) {
	pair, err := loadSeed(path)
	if err != nil {
		return nil, err
	}
	c, err := newCredentials(pair)
	if err != nil || !nkeys.IsValidPublicUserKey(c.public) {
		return nil, fmt.Errorf("credentials %s: is not the seed of a user's NKey", path)
	}
	return c, nil
}

// Save writes them to a new file, mode 0600. A file that is there already is an error that errors.Is fs.ErrExist.
func (c *Credentials) Save(path string) error { return saveSeed(c.pair, path) }

func loadSeed(path string) (nkeys.KeyPair, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("credentials %s: cannot be read", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("credentials %s: others may read the file (mode %04o): chmod 600 it, and rotate the key if somebody may have", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("credentials %s: cannot be read", path)
	}
	pair, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(text))))
	if err != nil {
		return nil, fmt.Errorf("credentials %s: is not the seed of an NKey", path)
	}
	return pair, nil
}

func saveSeed(pair nkeys.KeyPair, path string) error {
	seed, err := pair.Seed()
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("credentials %s: cannot be written", path)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("credentials %s: the file is there already (%w)", path, fs.ErrExist)
	}
	if err != nil {
		return fmt.Errorf("credentials %s: cannot be written", path)
	}
	_, err = f.Write(append(seed, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("credentials %s: cannot be written", path)
	}
	return nil
}

// Print writes them to w.
func (c *Credentials) Print(w io.Writer) error {
	seed, err := c.pair.Seed()
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s\n", seed)
	return err
}

// Ensure loads a file of credentials, which it makes if it is not there.
func Ensure(path string) (*Credentials, error) {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return LoadCredentials(path)
	}
	c, err := NewCredentials()
	if err != nil {
		return nil, err
	}
	return c, c.Save(path)
}

// Public is the public part, an NKey that begins with U.
func (c *Credentials) Public() string { return c.public }

// Option signs a connection in.
func (c *Credentials) Option() nats.Option { return nats.Nkey(c.public, c.pair.Sign) }

// CallerOptions are the options of a caller's connection: its key, and the inbox it may subscribe.
func (c *Credentials) CallerOptions() []nats.Option {
	return []nats.Option{c.Option(), nats.CustomInboxPrefix(subject.Inbox(c.public))}
}

// ServiceOptions are the options of the connection of a user of [Users].
func (c *Credentials) ServiceOptions(user string) []nats.Option {
	return []nats.Option{c.Option(), nats.CustomInboxPrefix(subject.Inbox(user))}
}
