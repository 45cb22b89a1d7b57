package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// where lists calls and how often the process was killed at each.
func where(crashed map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(crashed)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, crashed[name]))
	}
	return strings.Join(parts, ", ")
}
