package seal

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

// Rotation is a rotation of the master key: how it goes on, and what it did, in numbers.
type Rotation struct {
	// AddOnly stops it once the version is added: for files that are copied to other machines before anything is wrapped under it.
	AddOnly bool
	// Progress is told after each message of the key stream how many of how many were looked at; that begins anew several times. Required.
	Progress func(done, total int)

	// Begun says that it added a version; otherwise it went on with a rotation that was begun before.
	Begun bool
	// Before and After are the versions that the file had and has.
	Before, After []uint32
	// Wrapped is how many keys it wrapped again, Destroyed how many destroyed ones it passed over.
	Wrapped, Destroyed int

	box *Box    // with all versions in memory
	to  version // what is wrapped under
}

// Rotate adds a version to the master key file, wraps every key under it, overwrites what was wrapped before, and removes earlier versions
// from the file once no key needs them. Services go on meanwhile. Who is ended at any point calls it again, and it finishes what was begun.
func (f File) Rotate(ctx context.Context, js jetstream.JetStream, r *Rotation) error {
	path, err := filepath.EvalSymlinks(f.Path)
	if err != nil {
		return fmt.Errorf("master key %s: cannot be read", f.Path)
	}
	unlock, err := lockFolder(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer unlock()
	versions, err := readVersions(path)
	if err != nil {
		return err
	}
	if r.box, err = NewBox(ctx, js, &Master{}); err != nil {
		return err
	}
	if r.box.keys.CachedInfo().Config.MaxMsgsPerSubject == 1 { // what is replaced would be dropped and not overwritten
		return fmt.Errorf("stream %s is one of an earlier release: run `tongan migrate` first", subject.StreamKeys)
	}
	r.Begun, r.Before = len(versions) == 1, numbers(versions)
	r.use(versions)
	if r.Begun {
		if err := r.settle(ctx); err != nil { // it shows that every key opens, before anything is changed
			return err
		}
		v, err := makeVersion(r.to.number + 1)
		if err != nil {
			return err
		}
		if err := replace(path, append(versions, v)); err != nil {
			return err
		}
		r.use(append(versions, v))
	}
	if r.AddOnly {
		return nil
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	if err := replace(path, []version{r.to}); err != nil {
		return err
	}
	r.After = numbers([]version{r.to})
	return r.settle(ctx) // who read the file before the version was added may have made a key since
}

func (r *Rotation) use(versions []version) {
	r.box.master.versions, r.to, r.After = versions, versions[len(versions)-1], numbers(versions)
}

func numbers(versions []version) (out []uint32) {
	for _, v := range versions {
		out = append(out, v.number)
	}
	return out
}

// settle goes through the stream until everything in it is settled.
func (r *Rotation) settle(ctx context.Context) error {
	for {
		settled, err := r.pass(ctx)
		if settled || err != nil {
			return err
		}
	}
}

// pass goes through the stream once. It is settled if each key stands there once, under the version that wraps. A key is never wrapped
// again but in place of the message that was read, so who destroys or wraps it meanwhile is not undone.
func (r *Rotation) pass(ctx context.Context) (settled bool, err error) {
	info, err := eventlog.Info(ctx, r.box.js, subject.StreamKeys)
	if err != nil {
		return false, fmt.Errorf("%w: %w", eventlog.ErrUnavailable, err)
	}
	broken, before := make(map[string]bool), make(map[string]uint64)
	settled, r.Destroyed = true, 0
	for done, next := 0, uint64(1); next <= info.State.LastSeq; {
		m, err := r.box.get(ctx, subject.StreamKeys, which{Seq: next, Next: subject.AllKeys})
		if err != nil {
			return false, err
		}
		if m == nil || m.Seq > info.State.LastSeq {
			break
		}
		next, done = m.Seq+1, done+1
		if earlier, twice := before[m.Subject]; twice { // the same key, wrapped again after it
			settled = false
			delete(broken, m.Subject)
			if err := r.erase(ctx, earlier); err != nil {
				return false, err
			}
		}
		before[m.Subject] = m.Seq
		same, err := r.settleOne(ctx, m)
		if err != nil && !errors.Is(err, ErrBroken) {
			return false, err
		}
		if err != nil {
			broken[m.Subject] = true
		}
		settled = settled && same
		r.Progress(done, max(done, int(info.State.Msgs)))
	}
	if len(broken) > 0 {
		return false, fmt.Errorf("stream %s: %d keys: %w under the versions of the master key file: is it the right one?",
			subject.StreamKeys, len(broken), ErrBroken)
	}
	return settled, nil
}

// settleOne looks at one message, and reports whether there was nothing to do.
func (r *Rotation) settleOne(ctx context.Context, m *message) (same bool, err error) {
	w := &eventv1.WrappedKey{}
	if proto.Unmarshal(m.Data, w) != nil || subject.Key(w.GetKeyId()) != m.Subject {
		return false, ErrBroken
	}
	if len(w.GetCiphertext()) == 0 {
		r.Destroyed++
		return true, nil
	}
	key, err := r.box.unwrap(w)
	if err != nil {
		return false, err
	}
	if w.GetMasterVersion() == r.to.number {
		return true, nil
	}
	_, err = r.box.put(ctx, w.GetKeyId(), key, r.to, m.Seq)
	if exists(err) {
		return false, nil // somebody was faster; the next pass sees what they did
	}
	if err != nil {
		return false, fmt.Errorf("wrap key: %w: %w", eventlog.ErrUnavailable, err)
	}
	r.Wrapped++ // the next pass would erase it too, but until then the stream would be twice as large
	return false, r.erase(ctx, m.Seq)
}

// erase overwrites a message, unless somebody did.
func (r *Rotation) erase(ctx context.Context, sequence uint64) error {
	err := r.box.keys.SecureDeleteMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
		if m, read := r.box.get(ctx, subject.StreamKeys, which{Seq: sequence}); read == nil && m == nil {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("overwrite wrapped key: %w: %w", eventlog.ErrUnavailable, err)
	}
	return nil
}
