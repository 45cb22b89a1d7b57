package serve

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/micro"

	"tongan.dev/pkg/subject"
)

// Limits of every service.
const (
	// requestTimeout bounds one request.
	requestTimeout = 10 * time.Second
	// atOnce is how many requests a service works on at once; more wait on the bus.
	atOnce = 256
	// drainTimeout bounds how long requests under way may take when the service ends.
	drainTimeout = 3 * time.Second
)

// Run offers endpoints under the name of a service until ctx ends; then it takes no new requests and finishes those under way.
func Run(ctx context.Context, rt *Runtime, name, description string, endpoints []Endpoint) error {
	svc, err := micro.AddService(rt.JS.Conn(), micro.Config{Name: subject.Micro(name), Version: Version, Description: description})
	if err != nil {
		return fmt.Errorf("service %s: %w", name, err)
	}
	r := &running{rt: rt, slots: make(chan struct{}, atOnce)}
	for _, e := range endpoints {
		err := svc.AddEndpoint(endpointName(e.subject), r.handler(e), micro.WithEndpointSubject(e.subject),
			micro.WithEndpointMetadata(map[string]string{"request": string(e.request)}))
		if err != nil {
			_ = svc.Stop()
			return fmt.Errorf("endpoint %s: %w", e, err)
		}
	}
	<-ctx.Done()
	if err := svc.Stop(); err != nil {
		return fmt.Errorf("service %s: %w", name, err)
	}
	r.wait()
	return ctx.Err()
}

// endpointName turns tongan.cmd.intake.case.open into cmd-case-open.
func endpointName(s string) string {
	t := strings.Split(s, ".")
	return strings.Join(append(t[1:2:2], t[3:]...), "-")
}

type running struct {
	rt    *Runtime
	slots chan struct{}
	wg    sync.WaitGroup
}

// handler answers requests on goroutines of their own, at most atOnce of them.
func (r *running) handler(e Endpoint) micro.Handler {
	return micro.HandlerFunc(func(req micro.Request) {
		r.slots <- struct{}{}
		r.wg.Go(func() {
			defer func() { <-r.slots }()
			r.answer(e, req)
		})
	})
}

func (r *running) answer(e Endpoint, req micro.Request) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil { // one request must not end the service; the text of a panic may hold values, so it is not logged
			r.rt.Log.Error("request ended in a panic", "endpoint", e.subject, "stack", string(debug.Stack()))
			_ = req.Error("500", "internal error: see the service's log", nil)
		}
	}()
	reply, err := e.answer(ctx, r.rt, req)
	if err != nil {
		r.refuse(e, req, err)
		return
	}
	payload, contentType, err := encode(req, reply)
	if err != nil {
		r.refuse(e, req, err)
		return
	}
	if err := req.Respond(payload, micro.WithHeaders(micro.Headers{"Content-Type": {contentType}})); err != nil {
		r.rt.Log.Warn("reply not sent", "endpoint", e.subject, "error", err)
	}
}

func (r *running) refuse(e Endpoint, req micro.Request, err error) {
	code, told := status(err)
	if !told {
		r.rt.Log.Error("request failed", "endpoint", e.subject, "code", code, "error", err)
	}
	if err := req.Error(code, describe(err), nil); err != nil {
		r.rt.Log.Warn("refusal not sent", "endpoint", e.subject, "error", err)
	}
}

// wait lets requests under way finish.
func (r *running) wait() {
	done := make(chan struct{})
	go func() { r.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(drainTimeout):
		r.rt.Log.Warn("requests under way were given up")
	}
}
