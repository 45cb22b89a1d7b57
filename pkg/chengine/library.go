package chengine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// LibraryEnv is the environment variable that names the path of libchdb.so.
const LibraryEnv = "TONGAN_ENGINE_LIBRARY"

// libraryPath is where deploy/engine installs the library, from the root of the repository.
const libraryPath = "deploy/engine/node_modules/@chdb/lib-linux-x64-gnu/libchdb.so"

// ErrNoLibrary is returned when the engine's library is not found.
var ErrNoLibrary = errors.New("engine library libchdb.so not found: run `make engine`, or set " + LibraryEnv + " to its path")

// findLibrary is FindLibrary unless a path is given.
func findLibrary(given string) (string, error) {
	if given != "" {
		return checkLibrary(given)
	}
	return FindLibrary()
}

// FindLibrary returns the path of the engine's library: what the environment
// variable LibraryEnv says, or else the first deploy/engine installation in the
// working directory, the executable's folder, or a folder above one of them.
func FindLibrary() (string, error) {
	if path := os.Getenv(LibraryEnv); path != "" {
		return checkLibrary(path)
	}
	var starts []string
	if dir, err := os.Getwd(); err == nil {
		starts = append(starts, dir)
	}
	if exe, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(exe))
	}
	return searchUpward(starts)
}

// searchUpward looks for the installed library in each folder of starts and those above it.
func searchUpward(starts []string) (string, error) {
	for _, dir := range starts {
		for {
			if path, err := checkLibrary(filepath.Join(dir, libraryPath)); err == nil {
				return path, nil
			}
			up := filepath.Dir(dir)
			if up == dir {
				break
			}
			dir = up
		}
	}
	return "", ErrNoLibrary
}

// checkLibrary returns path, absolute, if there is a file.
func checkLibrary(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return "", fmt.Errorf("%w (looked at %s)", ErrNoLibrary, path)
	}
	return filepath.Abs(path)
}
