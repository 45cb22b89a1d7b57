package eventlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/subject"
)

// Limits of a writer.
const (
	// maxWaiting and maxWaitingBytes bound what waits to be sent.
	maxWaiting      = 4096
	maxWaitingBytes = 32 << 20
	// maxBatchBytes bounds a batch; the server holds it in memory.
	maxBatchBytes = 4 << 20
	// few appends are sent one by one: a batch costs the server as many fsyncs and files as about so many single messages.
	few = 8
	// maxFutile is how often appends are sent together again although none of them was at fault.
	maxFutile = 3
)

// writer sends the appends of a process to a stream: a few at once by themselves. Those that come while these are under way wait and go out
// together when they are answered, as one atomic batch with one fsync, each with its expectation on its first message.
type writer struct {
	js     jetstream.JetStream
	stream string
	// few is how many appends are sent one by one.
	few int
	mu  sync.Mutex
	// open holds what is not answered yet, by aggregate.
	open map[string]*pending
	// waiting holds what is not sent yet, of together bytes.
	waiting []*pending
	bytes   int
	// rounds is how many are under way; crowd how many appends went out together lately.
	rounds, crowd int
}

func newWriter(js jetstream.JetStream, stream string, few int) *writer {
	return &writer{js: js, stream: stream, few: few, open: make(map[string]*pending)}
}

// append has an append sent, and waits for its outcome or until its caller gives up.
func (w *writer) append(p *pending) (uint64, error) {
	w.mu.Lock()
	if len(w.waiting) >= maxWaiting || w.bytes+p.size > maxWaitingBytes {
		w.mu.Unlock()
		return 0, fmt.Errorf("append %s: %w: too much waits", p.log.Key(p.id), ErrUnavailable)
	}
	w.open[p.filter] = p
	defer w.close(p)
	if len(w.waiting) == 0 && w.room() { // its own goroutine sends it: another one would have to be woken, and wake this one
		w.rounds, w.crowd = w.rounds+1, w.crowd/2
		w.mu.Unlock()
		w.commit([]*pending{p})
		w.mu.Lock()
		w.rounds--
	} else {
		w.waiting, w.bytes = append(w.waiting, p), w.bytes+p.size
	}
	w.dispatch()
	w.mu.Unlock()
	select {
	case o := <-p.done:
		return o.sequence, o.err
	case <-p.ctx.Done():
		if w.withdraw(p) && !p.unsure { // one that was sent without an answer, and then set aside, waits too
			return 0, fmt.Errorf("append %s: %w: %w", p.log.Key(p.id), ErrUnavailable, p.ctx.Err())
		}
		return 0, fmt.Errorf("append %s: %w", p.log.Key(p.id), ErrUnclear)
	}
}

func (w *writer) close(p *pending) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open[p.filter] == p {
		delete(w.open, p.filter)
	}
}

// suspect notes that somebody else was heard to append to an aggregate.
func (w *writer) suspect(filter string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.open[filter]; p != nil {
		p.suspect.Store(true)
	}
}

// together reports whether n appends cost less as one.
func (w *writer) together(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return n > w.few || w.crowd > w.few
}

// withdraw takes back what is not sent yet.
func (w *writer) withdraw(p *pending) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.waiting, p)
	if i < 0 {
		return false
	}
	w.waiting, w.bytes = slices.Delete(w.waiting, i, i+1), w.bytes-p.size
	return true
}

// dispatch sends what waits as far as there is room: one by one while they are few, otherwise all that wait. The lock is held.
func (w *writer) dispatch() {
	for members := w.next(); members != nil; members = w.next() {
		go w.round(members)
	}
}

// room reports whether one more may be sent by itself. The lock is held.
func (w *writer) room() bool {
	return w.crowd <= w.few && w.rounds+max(1, len(w.waiting)) <= w.few
}

// next takes what there is room to send now; nil is nothing. The lock is held.
func (w *writer) next() (members []*pending) {
	switch {
	case len(w.waiting) == 0:
		return nil
	case w.room():
		members = w.take(1)
	case w.rounds == 0: // the server stores one batch at a time
		members = w.take(len(w.waiting))
	default:
		return nil
	}
	w.crowd = max(len(members), w.crowd/2)
	w.rounds++
	return members
}

// take takes at most n of what waits, as much as fits into a batch, and only one of each aggregate: the server stores two in one batch
// although the second expects what is no longer so. The lock is held.
func (w *writer) take(n int) []*pending {
	var members, rest []*pending
	messages, bytes, met := 0, 0, make(map[string]bool, n)
	for i, p := range w.waiting {
		if len(members) == n || len(members) > 0 && (messages+len(p.msgs) > MaxEvents || bytes+p.size > maxBatchBytes) {
			rest = append(rest, w.waiting[i:]...)
			break
		}
		if met[p.filter] {
			rest = append(rest, p)
			continue
		}
		met[p.filter] = true
		members, messages, bytes = append(members, p), messages+len(p.msgs), bytes+p.size
	}
	w.waiting, w.bytes = rest, w.bytes-bytes
	return members
}

// round sends what was taken, and then what there is room for. It ends when all are answered: each try is bounded, and who gives up is left out
// of the next. The next batch is sent from here, since a goroutine begun for it would run after all those that were just answered.
func (w *writer) round(members []*pending) {
	several := func(p *pending) bool { return len(p.msgs) > 1 }
	for members != nil {
		if len(members) <= w.few && !slices.ContainsFunc(members, several) {
			w.oneByOne(members)
		} else {
			w.commit(members)
		}
		w.mu.Lock()
		w.rounds--
		members = w.next()
		w.dispatch()
		w.mu.Unlock()
	}
}

func (w *writer) oneByOne(members []*pending) {
	var wg sync.WaitGroup
	for _, p := range members {
		wg.Go(func() { w.commit([]*pending{p}) })
	}
	wg.Wait()
}

// commit sends appends together until each is answered. Where some are at fault, these are looked at, and the others go out together again: those
// to whose aggregates others were heard to append, or, once, the one that the server names, or else whoever is found among all.
func (w *writer) commit(members []*pending) {
	futile, asked := 0, false
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		if members = w.setAside(present(members)); len(members) == 0 {
			return
		}
		ended := commonOf(w.js.Conn()).stall.begin()
		err := w.publish(members)
		ended(err)
		if err == nil {
			for _, p := range members {
				p.answer(p.sequence, nil)
			}
			return
		}
		kind := kindOf(err)
		if kind == refused {
			for _, p := range members {
				p.refuse(err)
			}
			return
		}
		for _, p := range members {
			p.unsure = p.unsure || kind == unanswered
		}
		if kind == conflicting && len(members) > 1 {
			if !asked && !slices.ContainsFunc(members, (*pending).suspected) {
				asked = true
				w.suspect(w.atFault(err))
			}
			if slices.ContainsFunc(members, (*pending).suspected) {
				continue
			}
		}
		var found bool
		if members, found = settle(members); found {
			continue
		}
		if futile++; futile >= maxFutile && len(members) > 1 && kind == conflicting {
			go w.oneByOne(members) // who is at fault cannot be found out: nobody waits for the others
			return
		}
		_ = pause(contextOf(members), wait)
	}
}

// atFault returns the filter of an aggregate for which an expectation does not hold. The server says the sequence of its last message, in a text;
// empty where it does not. It is a hint whom to look at first, and decides nothing.
func (w *writer) atFault(conflict error) string {
	api, ok := errors.AsType[*jetstream.APIError](conflict)
	if !ok {
		return ""
	}
	var last uint64
	if _, err := fmt.Sscanf(api.Description, "wrong last sequence: %d", &last); err != nil || last == 0 {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), publishTimeout)
	defer cancel()
	m, err := get(ctx, w.js, w.stream, which{Seq: last})
	if err != nil || m == nil {
		return ""
	}
	s, err := subject.ParseEvent(m.Subject)
	if err != nil {
		return ""
	}
	return s.Filter(s.ID)
}

// contextOf is the caller's context for an append by itself. Of several, some may give up while others wait.
func contextOf(members []*pending) context.Context {
	if len(members) == 1 {
		return members[0].ctx
	}
	return context.Background()
}

// present leaves out those whose callers gave up.
func present(members []*pending) []*pending {
	return slices.DeleteFunc(members, func(p *pending) bool { return p.ctx.Err() != nil })
}

// setAside leaves out those to whose aggregates others were heard to append. They are looked at while the others are sent.
func (w *writer) setAside(members []*pending) []*pending {
	return slices.DeleteFunc(members, func(p *pending) bool {
		suspected := p.suspect.Swap(false)
		if suspected {
			go w.lookAt(p)
		}
		return suspected
	})
}

// lookAt answers an append if it is stored or in conflict, and otherwise has it wait again.
func (w *writer) lookAt(p *pending) {
	if left, _ := settle([]*pending{p}); len(left) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting, w.bytes = append(w.waiting, p), w.bytes+p.size
	w.dispatch()
}

// suspected reports whether somebody else was heard to append to the aggregate.
func (p *pending) suspected() bool { return p.suspect.Load() }

// settle reads back what became of appends, answers those that are stored or in conflict, and returns the others, and whether there were any to
// answer.
func settle(members []*pending) (left []*pending, found bool) {
	read := make([]outcome, len(members))
	var wg sync.WaitGroup
	for i, p := range members {
		wg.Go(func() { read[i].sequence, read[i].err = p.readBack() })
	}
	wg.Wait()
	for i, p := range members {
		if read[i].err == nil && read[i].sequence == 0 {
			left = append(left, p)
			continue
		}
		found = true
		p.answer(read[i].sequence, read[i].err)
	}
	return left, found
}
