package chengine

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"tongan.dev/pkg/transport"
)

// serviceUser is the user the parent itself is when it asks whether the engine
// answers. It is granted nothing.
const serviceUser = "tongan_engine"

// Config says how an engine is started. Dir is needed, the rest may be zero.
type Config struct {
	// Dir is the data folder; it is created with access for its owner only.
	// One engine at a time uses it.
	Dir string
	// Host is the address both interfaces listen on; empty is 127.0.0.1. One
	// that is not loopback needs TLS, or Plaintext.
	Host string
	// HTTPPort and TCPPort are the ports of the HTTP and the native interface;
	// 0 takes a free one.
	HTTPPort, TCPPort int
	// TLS names the files by which both interfaces prove who they are, and with
	// a CA their clients; none means connections in clear. The engine itself
	// then listens on free ports of loopback, see front.
	TLS transport.TLS
	// Plaintext permits a Host other than loopback without TLS: passwords and
	// rows cross the network for everybody there to read.
	Plaintext bool
	// Library is the path of libchdb.so; empty means FindLibrary.
	Library string
	// Users may log in with a password. There are no others.
	Users []User
	// Log gets start, end and trouble; nil is silent.
	Log *slog.Logger
}

//go:embed *.xml.tmpl
var templateFiles embed.FS

// templates are the configuration files; shared.xml.tmpl has what those of the embedded engine and those of a server have in common.
var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"xml": xmlText, "sha256": sha256Hex, "seconds": seconds, "database": database, "table": table, "env": PasswordEnv,
}).ParseFS(templateFiles, "*.xml.tmpl"))

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
	if err := c.validatePlace(); err != nil {
		return err
	}
	for _, u := range c.Users {
		if u.Password == "" {
			return fmt.Errorf("engine user %s: no password", u.Name)
		}
	}
	return validateUsers(c.Users)
}

// validatePlace says what is wrong with where c listens, and how.
func (c Config) validatePlace() error {
	if addr, err := netip.ParseAddr(c.host()); err != nil || addr.Zone() != "" {
		return fmt.Errorf("engine: Host %q is not an IP address", c.Host)
	}
	if _, err := c.TLS.Server(); err != nil {
		return fmt.Errorf("--clickhouse-%w", err)
	}
	if err := transport.Plain(c.host(), c.Plaintext || c.TLS.Enabled()); err != nil {
		return fmt.Errorf("engine: Host: %w", err)
	}
	return nil
}

// host is the address the interfaces are reached at from outside.
func (c Config) host() string { return cmp.Or(c.Host, loopback) }

// engineHost is the address the engine itself listens on.
func (c Config) engineHost() string {
	if c.TLS.Enabled() {
		return loopback
	}
	return c.host()
}

// networks are the addresses users may come from: those that can reach the engine itself.
func (c Config) networks() []string {
	if transport.Loopback(c.engineHost()) {
		return []string{"127.0.0.0/8", "::1"}
	}
	return []string{"::/0"}
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
func (l layout) writeConfig(users []User, networks []string) error {
	write := func(path, name string, data any) error {
		text, err := render(name, data)
		if err != nil {
			return err
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("replace %s: %w", path, err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return fmt.Errorf("data folder %s is not writable: %w", l.Dir, err)
		}
		return nil
	}
	if err := write(l.UsersFile, "users.xml.tmpl", map[string]any{"Users": users, "Networks": networks}); err != nil {
		return err
	}
	return write(l.ConfigFile, "config.xml.tmpl", l)
}

// render makes a configuration file of its template.
func render(name string, data any) (string, error) {
	var b strings.Builder
	if err := templates.ExecuteTemplate(&b, name, data); err != nil {
		return "", fmt.Errorf("render %s: %w", name, err)
	}
	return b.String(), nil
}

// newServiceUser has a password that nobody but this process ever knows.
func newServiceUser() User {
	return User{Name: serviceUser, Password: rand.Text()}
}

func sha256Hex(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// seconds is how the engine's configuration has spans of time.
func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// database and table are the two parts of the name of a table.
func database(name string) string { before, _, _ := strings.Cut(name, "."); return before }

func table(name string) string { _, after, _ := strings.Cut(name, "."); return after }

func xmlText(s string) (string, error) {
	var b strings.Builder
	err := xml.EscapeText(&b, []byte(s))
	return b.String(), err
}
