package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"

	"github.com/nats-io/nats-server/v2/server"
)

// Denial is something that a server denied a connection.
type Denial struct {
	// Key is the public NKey of the connection.
	Key string
	// Subject is what it wanted to publish or subscribe, as the connection wrote it; empty where it was not let in.
	Subject string
	// Subscribe tells a subscription from a publication.
	Subscribe bool
}

// What the server logs of a denial is the only place where it tells. It hands over a format and arguments; the format begins with the
// connection: address, number, what the client calls itself in quotes, account and key in quotes. Quotes inside quotes are escaped. Format
// and arguments are looked at apart and whole, never the line they make: a client may call itself "%[1]s", and may send the server an error
// of any text, which it logs.
const (
	quoted     = `"(?:[^"\\]|\\.)*"`
	connection = `^\S+ - [cwm]id\w*:(\d+)(?: - ` + quoted + `)??(?: - "[A-Z]+/nkey:(U[A-Z2-7]{55})")?`
)

var (
	published  = regexp.MustCompile(connection + ` - Publish Violation - (?:Subject|Reply) %q$`)
	subscribed = regexp.MustCompile(connection + ` - Subscription Violation - Subject (` + quoted + `)(?:, Queue: ` + quoted + `)?, SID (?s:.*)$`)
	notLetIn   = regexp.MustCompile(connection + ` - %v - %s$`)
	nkey       = regexp.MustCompile(`^Nkey "(U[A-Z2-7]{55})"$`)
	ofClient   = regexp.MustCompile(connection + ` - ([A-Za-z]*(?: [A-Za-z]+)*)(?:[^"]|$)`)
	anyClient  = regexp.MustCompile(`^\S+ - [cwm]id\w*:\d+ - `)
)

// denial takes what the server logs apart.
func denial(format string, v []any) (Denial, bool) {
	if m := published.FindStringSubmatch(format); m != nil && m[2] != "" && len(v) == 1 {
		return Denial{Key: m[2], Subject: fmt.Sprintf("%s", v[0])}, true
	}
	if m := subscribed.FindStringSubmatch(format); m != nil && m[2] != "" && len(v) == 0 {
		subj, err := strconv.Unquote(m[3])
		return Denial{Key: m[2], Subject: subj, Subscribe: true}, err == nil
	}
	if notLetIn.MatchString(format) && len(v) == 2 {
		err, _ := v[0].(error)
		user, _ := v[1].(string)
		if m := nkey.FindStringSubmatch(user); m != nil && errors.Is(err, server.ErrAuthentication) {
			return Denial{Key: m[1]}, true
		}
	}
	return Denial{}, false
}

// logger passes the server's messages on; notices and debugging output are left out. Denials go to denied, without a line in the log. Of what
// is about a client's connection the log gets the number, the key, and the first words of the server: all else may be what the client wrote.
type logger struct {
	log    *slog.Logger
	denied func(Denial)
}

func (l logger) at(level slog.Level, format string, v ...any) {
	d, is := denial(format, v)
	switch {
	case is && l.denied != nil:
		l.denied(d)
	case l.log == nil:
	case anyClient.MatchString(format):
		m := append(ofClient.FindStringSubmatch(format), "", "", "", "")
		l.log.Log(context.Background(), level, "bus", "connection", m[1], "key", m[2], "message", cmp.Or(m[3], "error"))
	default:
		l.log.Log(context.Background(), level, "bus", "message", fmt.Sprintf(format, v...))
	}
}

func (l logger) Noticef(string, ...any)         {}
func (l logger) Debugf(string, ...any)          {}
func (l logger) Tracef(string, ...any)          {}
func (l logger) Warnf(format string, v ...any)  { l.at(slog.LevelWarn, format, v...) }
func (l logger) Errorf(format string, v ...any) { l.at(slog.LevelError, format, v...) }
func (l logger) Fatalf(format string, v ...any) { l.at(slog.LevelError, format, v...) }
