package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// keySize is the size of every key, in bytes: AES-256.
const keySize = 32

// masterVersion is the version of the master key that wraps new keys.
const masterVersion = 1

// masterPrefix begins the one line of a master key file: the version and the key in base64 follow.
const masterPrefix = "tongan-master-key:1:"

// Master is the key that wraps all other keys. It never leaves the process.
type Master struct{ aead cipher.AEAD }

// LoadMaster reads a master key file. A file that others may read is refused.
func LoadMaster(path string) (*Master, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("master key %s: cannot be read", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("master key %s: its mode is %o, must be 600", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("master key %s: cannot be read", path)
	}
	encoded, found := strings.CutPrefix(strings.TrimSpace(string(text)), masterPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !found || err != nil || len(key) != keySize {
		return nil, fmt.Errorf("master key %s: is not a master key file", path)
	}
	return NewMaster(key)
}

// CreateMaster writes a new master key file with mode 0600 unless there is one, and loads it.
func CreateMaster(path string) (*Master, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("master key %s: cannot be written", path)
	}
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return LoadMaster(path)
	}
	if err != nil {
		return nil, fmt.Errorf("master key %s: cannot be written", path)
	}
	_, err = f.WriteString(masterPrefix + base64.StdEncoding.EncodeToString(key) + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("master key %s: cannot be written", path)
	}
	return NewMaster(key)
}

// NewMaster returns a master key of 32 bytes.
func NewMaster(key []byte) (*Master, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	return &Master{aead: aead}, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return cipher.NewGCM(block)
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
