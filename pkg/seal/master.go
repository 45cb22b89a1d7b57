package seal

import (
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

// keySize is the size of every key, in bytes: AES-256.
const keySize = 32

// masterPrefix begins each line of a master key file: a version and its key in base64 follow.
const masterPrefix = "tongan-master-key:"

// errNoVersion is an ErrBroken that another look may mend: a key may be wrapped again, and the file written again, in the meantime.
var errNoVersion = fmt.Errorf("%w: the master key file does not have the version", ErrBroken)

// version is one version of the master key.
type version struct {
	number uint32
	key    []byte
	aead   cipher.AEAD
}

func newVersion(number uint32, key []byte) (version, error) {
	aead, err := newAEAD(key)
	return version{number, key, aead}, err
}

// Master is the key that wraps all other keys, in its versions: the highest wraps, each unwraps. It never leaves the process.
type Master struct {
	path string // of its file; empty where there is none

	mu       sync.Mutex
	versions []version // ascending
}

// LoadMaster reads a master key file: a line for each version. A file that others may read is refused. Whoever uses the key follows what
// becomes of the file.
func LoadMaster(path string) (*Master, error) {
	versions, err := readVersions(path)
	if err != nil {
		return nil, err
	}
	return &Master{path: path, versions: versions}, nil
}

// CreateMaster writes a new master key file with mode 0600 unless there is one, and loads it.
func CreateMaster(path string) (*Master, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("master key %s: cannot be written", path)
	}
	v, err := makeVersion(1)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return LoadMaster(path)
	}
	if err != nil {
		return nil, fmt.Errorf("master key %s: cannot be written", path)
	}
	_, err = f.WriteString(format([]version{v}))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("master key %s: cannot be written", path)
	}
	return LoadMaster(path)
}

// NewMaster returns a master key of 32 bytes, as version 1.
func NewMaster(key []byte) (*Master, error) {
	v, err := newVersion(1, key)
	if err != nil {
		return nil, err
	}
	return &Master{versions: []version{v}}, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return cipher.NewGCM(block)
}

func makeVersion(number uint32) (version, error) {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails
	return newVersion(number, key)
}

// newest returns the version that wraps, as the file has it now.
func (m *Master) newest() (version, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.read()
	return m.versions[len(m.versions)-1], err
}

// numbered returns a version. One that was not known so far may have been added to the file.
func (m *Master) numbered(number uint32) (version, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	is := func(v version) bool { return v.number == number }
	i := slices.IndexFunc(m.versions, is)
	if i < 0 {
		if err := m.read(); err != nil {
			return version{}, err
		}
		i = slices.IndexFunc(m.versions, is)
	}
	if i < 0 {
		return version{}, errNoVersion
	}
	return m.versions[i], nil
}

// read reads the file again; of one that cannot be read, what was read before stays.
func (m *Master) read() error {
	if m.path == "" {
		return nil
	}
	versions, err := readVersions(m.path)
	if err == nil {
		m.versions = versions
	}
	return err
}

func readVersions(path string) ([]version, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("master key %s: cannot be read", path)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("master key %s: cannot be read", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("master key %s: its mode is %o, must be 600", path, info.Mode().Perm())
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("master key %s: cannot be read", path)
	}
	versions, err := parse(string(text))
	if err != nil {
		if now, gone := os.Stat(path); gone == nil && !os.SameFile(info, now) {
			return readVersions(path) // it was replaced while it was read, and overwritten
		}
		return nil, fmt.Errorf("master key %s: %w", path, err)
	}
	return versions, nil
}

// parse reads the lines of a master key file; an error repeats nothing of them.
func parse(text string) ([]version, error) {
	var versions []version
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		rest, found := strings.CutPrefix(strings.TrimSpace(line), masterPrefix)
		number, encoded, divided := strings.Cut(rest, ":")
		n, notNumber := strconv.ParseUint(number, 10, 32)
		key, notKey := base64.StdEncoding.DecodeString(encoded)
		v, err := newVersion(uint32(n), key)
		switch {
		case !found || !divided || notNumber != nil || notKey != nil || err != nil || len(key) != keySize:
			return nil, fmt.Errorf("line %d: is not %s<version>:<32 bytes in base64>", i+1, masterPrefix)
		case n == 0:
			return nil, fmt.Errorf("line %d: the version must be 1 or more", i+1)
		case slices.ContainsFunc(versions, func(other version) bool { return other.number == v.number }):
			return nil, fmt.Errorf("line %d: the version must not be there twice", i+1)
		}
		versions = append(versions, v)
	}
	slices.SortFunc(versions, func(a, b version) int { return cmp.Compare(a.number, b.number) })
	return versions, nil
}

func format(versions []version) string {
	var b strings.Builder
	for _, v := range versions {
		fmt.Fprintf(&b, "%s%d:%s\n", masterPrefix, v.number, base64.StdEncoding.EncodeToString(v.key))
	}
	return b.String()
}

// File names the master key file, as a flag of a service.
type File struct {
	Path string `name:"master-key" env:"TONGAN_MASTER_KEY" required:"" help:"File of the master key, mode 0600."`
}

// Box opens the file and returns a box over the key stream.
func (f File) Box(ctx context.Context, js jetstream.JetStream) (*Box, error) {
	master, err := LoadMaster(f.Path)
	if err != nil {
		return nil, err
	}
	return NewBox(ctx, js, master)
}
