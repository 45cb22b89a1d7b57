package model

import (
	"slices"
	"testing"
)

// What is answered is there once, what is not is there once or not at all, and nothing else is: each way to break that is found.
func TestWhatIsNotAsTheModelSaysIsFound(t *testing.T) {
	t.Parallel()
	m := New()
	m.Sent("a")
	m.Sent("b")
	m.Answered("a")
	m.Sent("a") // again: it stays answered
	if !m.Knows("a") || m.Knows("b") || m.Knows("c") {
		t.Error("what is answered is not known")
	}
	for _, tt := range []struct {
		name  string
		found map[string]int
		want  []string
	}{
		{"all", map[string]int{"a": 1, "b": 1}, nil},
		{"without what has no answer", map[string]int{"a": 1}, nil},
		{"lost", map[string]int{"b": 1}, []string{"lost: a"}},
		{"twice", map[string]int{"a": 2, "b": 3}, []string{"2 times: a", "3 times: b"}},
		{"of nobody", map[string]int{"a": 1, "c": 1}, []string{"nobody sent: c"}},
	} {
		if got := m.compare(tt.found); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestAVisitIsCountedOnceItIsAnswered(t *testing.T) {
	t.Parallel()
	m := New()
	m.Sent(VisitFact("v1"))
	m.Visited("v2")
	if m.visits != 1 || !m.Knows("VisitRecorded v2") {
		t.Errorf("%d visits are done", m.visits)
	}
}
