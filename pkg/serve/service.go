package serve

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
)

// Limits of every service.
const (
	// requestTimeout bounds one request.
	requestTimeout = 10 * time.Second
	// sameContext is how far apart requests may begin that share a context; so some have that much longer.
	sameContext = 100 * time.Millisecond
	// atOnce is how many requests a service works on at once; more wait on the bus. It bounds memory: a request has at most MaxRequest bytes.
	atOnce = 1024
	// drainTimeout bounds how long requests under way may take when the service ends.
	drainTimeout = 3 * time.Second
)

// Run offers endpoints under the name of a service until ctx ends; then it takes no new requests and finishes those under way.
func Run(ctx context.Context, rt *Runtime, name, description string, endpoints []Endpoint) error {
	r := &running{
		rt: rt, slots: make(chan struct{}, atOnce), tasks: make(chan task), ended: make(chan struct{}), stats: make(map[string]*stats),
		attempts: access.NewAttempts(rt.JS), room: room{rt: rt, stream: subject.Stream(name)},
	}
	defer close(r.ended)
	for _, e := range endpoints {
		if e.invalid != nil {
			return fmt.Errorf("endpoint %s: %w", e, e.invalid)
		}
		r.stats[e.subject] = &stats{states: e.states}
	}
	if _, err := rt.JS.AccountInfo(ctx); err != nil {
		return fmt.Errorf("service %s: JetStream does not answer: %w", name, err)
	}
	if len(endpoints) > 0 && rt.Callers == nil {
		registry, err := access.Follow(ctx, rt.JS, rt.Issuer, rt.Log)
		if err != nil {
			return fmt.Errorf("service %s: %w", name, err)
		}
		rt.Callers = registry
	}
	before := rt.JS.Conn().NumSubscriptions()
	svc, err := micro.AddService(rt.JS.Conn(), micro.Config{
		Name: subject.Micro(name), Version: Version, Description: description,
		StatsHandler: func(e *micro.Endpoint) any { return r.stats[e.Subject].view() },
	})
	if err != nil {
		return fmt.Errorf("service %s: %w", name, err)
	}
	for _, e := range endpoints {
		err := svc.AddEndpoint(endpointName(e.subject), r.handler(e), micro.WithEndpointSubject(e.subject),
			micro.WithEndpointMetadata(map[string]string{"request": string(e.request)}))
		if err != nil {
			_ = svc.Stop()
			return fmt.Errorf("endpoint %s: %w", e, err)
		}
	}
	// The last subscription: who gets an answer here finds the others too. A ping is answered before they are made.
	healthy := micro.HandlerFunc(func(req micro.Request) {
		if what := rt.Trouble.What(); what != "" {
			_ = req.Error("503", what, nil)
			return
		}
		_ = req.Respond(nil)
	})
	if err := svc.AddEndpoint("health", healthy, micro.WithEndpointSubject(subject.Health(name))); err != nil {
		_ = svc.Stop()
		return fmt.Errorf("endpoint health: %w", err)
	}
	watchBus(ctx, rt)
	if err := svc.Stop(); err != nil {
		return fmt.Errorf("service %s: %w", name, err)
	}
	r.wait(before)
	return ctx.Err()
}

// endpointName turns tongan.cmd.intake.case.open into cmd-case-open.
func endpointName(s string) string {
	t := strings.Split(s, ".")
	return strings.Join(append(t[1:2:2], t[3:]...), "-")
}

type running struct {
	rt *Runtime
	// slots has room for as many workers as there may be; tasks are taken by those that are idle. Workers leave when ended is closed.
	slots chan struct{}
	tasks chan task
	ended chan struct{}
	wg    sync.WaitGroup    // requests under way
	stats map[string]*stats // by subject; not changed after the start
	// attempts writes down what was refused to callers.
	attempts *access.Attempts
	room     room
	contexts contexts
}

// contexts gives requests that come at about the same time one context: a timer for each would cost more than deciding it.
type contexts struct {
	mu      sync.Mutex
	current context.Context
	until   time.Time // when the next one begins
}

// begin returns the context of a request that begins now.
func (c *contexts) begin(now time.Time) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.After(c.until) {
		ctx, end := context.WithDeadline(context.Background(), now.Add(sameContext+requestTimeout))
		context.AfterFunc(ctx, end)
		c.current, c.until = ctx, now.Add(sameContext)
	}
	return c.current
}

// stats are what STATS shows of an endpoint in its field data. The library's own counters of errors and time are not used: it reads them
// when a handler returns, and ours answers later.
type stats struct {
	answered, refused, failed, micros atomic.Uint64
	// states, if not nil, tells of the states that the log of a command keeps; commands of one log tell the same.
	states func() map[string]uint64
}

func (s *stats) view() map[string]uint64 {
	if s == nil { // the endpoint health
		return nil
	}
	done := s.answered.Load() + s.refused.Load() + s.failed.Load()
	view := map[string]uint64{
		"answered": s.answered.Load(), "refused": s.refused.Load(), "failed": s.failed.Load(),
		"average_microseconds": s.micros.Load() / max(done, 1),
	}
	if s.states != nil {
		maps.Copy(view, s.states())
	}
	return view
}

// task is a request that waits for a worker.
type task struct {
	e   Endpoint
	req micro.Request
}

// handler has requests answered by workers, at most atOnce of them. A worker stays for the next request: a new goroutine would begin with a
// small stack and grow it several times for each.
func (r *running) handler(e Endpoint) micro.Handler {
	return micro.HandlerFunc(func(req micro.Request) {
		t := task{e, req}
		r.wg.Add(1)
		select {
		case r.tasks <- t:
			return
		default:
		}
		select {
		case r.tasks <- t:
		case r.slots <- struct{}{}:
			go r.work(t)
		case <-r.ended:
			r.wg.Done()
		}
	})
}

// work answers one request after the other until the service has ended.
func (r *running) work(t task) {
	for {
		begun := time.Now()
		r.answer(r.contexts.begin(begun), t.e, t.req)
		r.stats[t.e.subject].micros.Add(uint64(time.Since(begun).Microseconds()))
		r.wg.Done()
		t = task{} // a request is let go while the next is waited for
		select {
		case t = <-r.tasks:
		case <-r.ended:
			return
		}
	}
}

func (r *running) answer(ctx context.Context, e Endpoint, req micro.Request) {
	defer func() {
		if p := recover(); p != nil { // one request must not end the service; the text of a panic may hold values, so it is not logged
			r.rt.Log.Error("request ended in a panic", "endpoint", e.subject, "stack", string(debug.Stack()))
			r.refuse(e, req, errPanic)
		}
	}()
	caller, err := identify(ctx, r.rt, req)
	if err == nil {
		err = caller.May(e.subject)
	}
	if err == nil && e.orders {
		err = r.room.forOrdinary()
	}
	if err != nil {
		r.deny(ctx, e, req, caller, err)
		return
	}
	reply, err := e.answer(withCaller(ctx, caller), r.rt, req)
	if err != nil {
		r.deny(ctx, e, req, caller, err)
		return
	}
	payload, contentType, err := encode(req, reply)
	if err == nil && e.exports {
		err = access.Record(ctx, r.rt.JS, caller.ID, &auditv1.DataExported{
			Provenance: access.Provenance(caller, r.rt.Clock.Now(), ""), Subject: e.subject, SizeBytes: uint64(len(payload)),
		})
	}
	if err != nil {
		r.refuse(e, req, err)
		return
	}
	r.stats[e.subject].answered.Add(1)
	r.respond(e, req, nats.Header{"Content-Type": {contentType}}, payload)
}

// deny refuses, and where it is a matter of rights writes it down before it answers.
func (r *running) deny(ctx context.Context, e Endpoint, req micro.Request, caller access.Caller, err error) {
	defer r.refuse(e, req, err)
	denied, is := errors.AsType[*access.Denied](err)
	if !is {
		return
	}
	key, _ := connection(req)
	attempt := access.Attempt{Caller: caller, Key: key, Action: auditv1.BusAction_BUS_ACTION_REQUEST, Subject: e.subject, Denied: *denied}
	if err := r.attempts.Refused(ctx, r.rt.Clock.Now(), attempt); err != nil {
		r.rt.Log.Error("refused attempt is not on the audit trail", "endpoint", e.subject, "error", err)
	}
}

// errPanic stands for a request whose handling ended in a panic.
var errPanic = errors.New("panic")

// refuse answers with a micro error: its code and text stand in the headers that micro defines.
func (r *running) refuse(e Endpoint, req micro.Request, err error) {
	code, told := status(err)
	if told {
		r.stats[e.subject].refused.Add(1)
	} else {
		r.stats[e.subject].failed.Add(1)
		r.rt.Log.Error("request failed", "endpoint", e.subject, "code", code, "error", err)
	}
	r.respond(e, req, nats.Header{micro.ErrorCodeHeader: {code}, micro.ErrorHeader: {describe(err)}}, nil)
}

func (r *running) respond(e Endpoint, req micro.Request, h nats.Header, payload []byte) {
	if req.Reply() == "" {
		return // somebody published instead of asking
	}
	if err := r.rt.JS.Conn().PublishMsg(&nats.Msg{Subject: req.Reply(), Header: h, Data: payload}); err != nil {
		r.rt.Log.Warn("reply not sent", "endpoint", e.subject, "error", err)
	}
}

// wait lets requests that were received finish, and their replies go out. Stop hands over what waits in the client meanwhile; that it is
// done shows in the connection's subscriptions, of which there were so many before.
func (r *running) wait(before int) {
	timeout := time.After(drainTimeout)
	done := make(chan struct{})
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for r.rt.JS.Conn().NumSubscriptions() > before {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
		r.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-timeout:
		r.rt.Log.Warn("requests under way were given up")
	}
	if err := r.rt.JS.Conn().FlushTimeout(time.Second); err != nil {
		r.rt.Log.Warn("replies may not have been sent", "error", err)
	}
}
