package seal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// lockFolder keeps other rotations away from the files of a folder until unlock is called, or the process ends.
func lockFolder(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("folder %s: cannot be read", dir)
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = d.Close()
		return nil, fmt.Errorf("folder %s: cannot be locked: is another rotation under way?", dir)
	}
	return func() { _ = d.Close() }, nil
}

// replace writes a master key file anew: beside it and renamed, so that who is ended in between leaves the one or the other. What stood in
// it is overwritten where it lies. The owner stays.
func replace(path string, versions []version) error {
	aside := path + ".new"
	old, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("master key %s: cannot be written", path)
	}
	defer func() { _ = old.Close() }()
	for _, step := range []func() error{
		func() error { return overwrite(aside) }, // of one that was ended
		func() error { return write(aside, old, format(versions)) },
		func() error { return os.Rename(aside, path) },
		func() error { return syncFolder(filepath.Dir(path)) },
		func() error { return zero(old) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("master key %s: cannot be written", path)
		}
	}
	return nil
}

// write writes a new file, mode 0600, with the owner of another one.
func write(path string, like *os.File, text string) error {
	info, err := like.Stat()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if owner, known := info.Sys().(*syscall.Stat_t); known && int(owner.Uid) != os.Geteuid() {
		err = errors.Join(err, f.Chown(int(owner.Uid), int(owner.Gid)))
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// overwrite overwrites a file and removes it, if there is one.
func overwrite(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(zero(f), f.Close(), os.Remove(path))
}

func zero(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, info.Size()), 0)
	return errors.Join(err, f.Sync())
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
