package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// settings are what a standalone chose when it first ran in a data folder, and must keep. The file's mode is 0600.
type settings struct {
	// MaxStore is what the bus may store, in bytes.
	MaxStore int64 `json:"max_store"`
	// Passwords of the ClickHouse users.
	Passwords map[string]string `json:"passwords"`
}

// storeShare is the part of the free disk that the bus may fill, in hundredths.
const storeShare = 70

// loadSettings reads the settings of a data folder, which is created with new settings for the users if there are none.
func loadSettings(dir string, users []string) (settings, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return settings{}, fmt.Errorf("data folder %s cannot be written: choose another with --data", dir)
	}
	path := settingsFile(dir)
	s, err := readSettings(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return newSettings(dir, path, users)
	}
	if err != nil || !s.addPasswords(users) {
		return s, err
	}
	return s, s.save(path)
}

func settingsFile(dir string) string { return filepath.Join(dir, "settings.json") }

// readSettings reads the settings of a data folder in which a standalone ran before.
func readSettings(dir string) (s settings, err error) {
	text, err := os.ReadFile(settingsFile(dir))
	if err != nil {
		return s, fmt.Errorf("data folder %s cannot be read: choose another with --data: %w", dir, err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("%s is damaged: %w", settingsFile(dir), err)
	}
	return s, nil
}

// addPasswords makes a password for every user that has none, and reports whether there was one.
func (s *settings) addPasswords(users []string) (added bool) {
	for _, u := range users {
		if s.Passwords[u] == "" {
			s.Passwords[u], added = rand.Text(), true
		}
	}
	return added
}

func (s *settings) save(path string) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, text)
}

// writeFile writes a file that only its owner may read: aside and renamed, so that a crash leaves no half a file.
func writeFile(path string, content []byte) error {
	if err := errors.Join(os.WriteFile(path+".new", content, 0o600), os.Rename(path+".new", path)); err != nil {
		return fmt.Errorf("%s cannot be written: choose another data folder with --data", path)
	}
	return nil
}

func newSettings(dir, path string, users []string) (settings, error) {
	free, err := freeBytes(dir)
	if err != nil {
		return settings{}, err
	}
	s := settings{MaxStore: free / 100 * storeShare, Passwords: make(map[string]string)}
	s.addPasswords(users)
	return s, s.save(path)
}

// freeBytes is the space that is free where a folder is.
func freeBytes(dir string) (int64, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return int64(fs.Bavail) * fs.Bsize, nil
}
