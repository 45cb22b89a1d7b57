package bus

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A nats-server (2.15) that cannot read or write in the folder of a stream while it starts removes the folder, and goes on without the
// stream: one open file too many, or no inode left, and the events are gone. So each file has a second name while a server starts. A
// stream that is missing then is put back, and the start has failed.

// ErrNotRecovered is returned when a stream could not be recovered at the start. Nothing of it is lost.
var ErrNotRecovered = errors.New("streams could not be recovered; nothing of them is lost")

const (
	streamsDir = "jetstream"
	keptDir    = "kept"
)

// guarded calls start, and puts back the streams that it removes. What was to be removed for good before, is.
func guarded(dir string, start func() error, stop func()) error {
	if err := putBack(dir); err != nil { // of a start that was cut short
		return err
	}
	if _, err := Scrub(dir); err != nil {
		return err
	}
	if err := keep(dir); err != nil {
		return err
	}
	if err := start(); err != nil {
		return errors.Join(err, putBack(dir))
	}
	missing, err := absent(dir)
	if err != nil {
		return err
	}
	if len(missing) == 0 {
		return forget(dir)
	}
	stop()
	return errors.Join(fmt.Errorf("%w: %s: see the log", ErrNotRecovered, strings.Join(missing, ", ")), putBack(dir))
}

// keep gives every file of every stream a second name.
func keep(dir string) error {
	from := filepath.Join(dir, streamsDir)
	err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if path == from && errors.Is(err, fs.ErrNotExist) {
			return fs.SkipAll // the first start
		}
		if err != nil {
			return err
		}
		to := filepath.Join(dir, keptDir, strings.TrimPrefix(path, from))
		if e.IsDir() {
			return os.MkdirAll(to, 0o700)
		}
		return os.Link(path, to)
	})
	if err != nil {
		return errors.Join(fmt.Errorf("data folder %s: streams cannot be kept from harm: %w", dir, err), forget(dir))
	}
	return nil
}

// kept are the folders of streams that have second names, relative to that of all streams.
func kept(dir string) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, keptDir, "*", "streams", "*"))
	for i, p := range paths {
		paths[i] = strings.TrimPrefix(p, filepath.Join(dir, keptDir)+"/")
	}
	return paths, err
}

// absent returns the streams that are only kept.
func absent(dir string) ([]string, error) {
	names, err := kept(dir)
	var out []string
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(dir, streamsDir, name)); errors.Is(err, fs.ErrNotExist) {
			out = append(out, name)
		}
	}
	return out, err
}

// putBack puts back the streams that are only kept.
func putBack(dir string) error {
	missing, err := absent(dir)
	for _, name := range missing {
		to := filepath.Join(dir, streamsDir, name)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(to), 0o700), os.Rename(filepath.Join(dir, keptDir, name), to))
	}
	if err != nil {
		return fmt.Errorf("data folder %s: streams are in its folder %s: %w", dir, keptDir, err)
	}
	return forget(dir)
}

// forget removes the second names. What is destroyed later must not live on under one.
func forget(dir string) error {
	if err := os.RemoveAll(filepath.Join(dir, keptDir)); err != nil {
		return fmt.Errorf("data folder %s: %w", dir, err)
	}
	return nil
}
