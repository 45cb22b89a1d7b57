package decider

// Waiting is how many commands stand in lines.
func (l *Lines) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, waiting := range l.of {
		n += len(waiting)
	}
	return n
}
