package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// clockEnv names the file from which a service built for this harness reads by how much its clock is off.
const clockEnv = "TONGAN_CHAOS_CLOCK"

// stepped stands beside the clock of the services, which decide by clock.Wall alone. A program of Go reads the time without a system call and
// without a library, so nothing outside of it can step its clock alone.
const stepped = `package clock

import (
	"os"
	"time"
)

func stepped() time.Time {
	text, _ := os.ReadFile(os.Getenv("` + clockEnv + `"))
	off, _ := time.ParseDuration(string(text))
	return time.Now().Add(off)
}
`

// wall is what the clock of the services reads, and what it reads here.
const wall, wallStepped = "return time.Now().UTC()", "return stepped().UTC()"

// overlay writes what go build takes in place of the clock's source, and returns the file that says so.
func (f *fleet) overlay(root string) (string, error) {
	source := filepath.Join(root, "pkg", "clock", "clock.go")
	text, err := os.ReadFile(source)
	if err != nil {
		return "", fmt.Errorf("the clock of the services: %w", err)
	}
	if strings.Count(string(text), wall) != 1 {
		return "", errors.New("the clock of the services does not read the time as it did: see clock.go of the harness")
	}
	files := map[string]string{
		source: strings.Replace(string(text), wall, wallStepped, 1),
		filepath.Join(filepath.Dir(source), "stepped.go"): stepped,
	}
	replace := make(map[string]string)
	for at, text := range files {
		replace[at] = f.path("clock", filepath.Base(at))
		if err := os.WriteFile(replace[at], []byte(text), 0o600); err != nil {
			return "", fmt.Errorf("the clock of the services: %w", err)
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", fmt.Errorf("the clock of the services: %w", err)
	}
	file := f.path("clock", "overlay.json")
	return file, os.WriteFile(file, list, 0o600)
}

// clockFile is where the clock of a service reads by how much it is off.
func (f *fleet) clockFile(service string) string { return f.path("clock", service) }

// step sets by how much the clock of a service is off.
func (f *fleet) step(service string, by time.Duration) error {
	next := f.clockFile(service) + ".next"
	if err := os.WriteFile(next, []byte(by.String()), 0o600); err != nil {
		return fmt.Errorf("clock of %s: %w", service, err)
	}
	return os.Rename(next, f.clockFile(service))
}
