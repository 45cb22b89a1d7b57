package serve

import (
	"context"
	"encoding/json"
	"math"
	"reflect"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"google.golang.org/protobuf/reflect/protoreflect"

	"tongan.dev/pkg/access"
)

// headerRequestInfo is set by the bus on every request that comes from another account: whose connection it is.
const headerRequestInfo = "Nats-Request-Info"

// importedReply begins the reply subject of every request that comes from another account. The bus makes it, and refuses it from whoever
// writes it himself, so what a service has JetStream send to another service never carries it.
const importedReply = "_R_."

// maxHeaders is how many headers a request may have.
const maxHeaders = 16

// connection returns the public NKey of the connection a request came from, as the bus says. A request from the services' own account has
// none, nor has one that nobody waits for.
func connection(req micro.Request) (key string, ok bool) {
	if !strings.HasPrefix(req.Reply(), importedReply) || !wholeHeaders(req) {
		return "", false
	}
	text := req.Headers().Get(headerRequestInfo)
	if key, known := keys.Get(text); known {
		return key, true
	}
	var info struct {
		Account string `json:"acc"`
		User    string `json:"user"`
	}
	if json.Unmarshal([]byte(text), &info) != nil || info.Account != access.AccountCallers {
		return "", false
	}
	keys.Add(text, info.User)
	return info.User, true
}

// keys are the public NKeys of connections by what the bus wrote about them, which is the same for one connection most of the time. What is not
// a caller's connection is not in it.
var keys = newKeys()

func newKeys() *lru.Cache[string, string] {
	c, _ := lru.New[string, string](4096) // only a size below 1 is an error
	return c
}

// wholeHeaders reports whether the headers as this library reads them are all that the bus sent, and the bus's own among them once. The bus
// writes its header after the caller's, and removes the caller's own where it sees one; but it knows lines that end with CR LF only, and the
// library any line. So a caller could hide a header of that name from the bus, and the bus's from us: behind an empty line, after the name of
// another header, or in a value. What is hidden is missed in the size; each line may be two bytes shorter than we count, so they are few.
func wholeHeaders(req micro.Request) bool {
	size, lines, names := len("NATS/1.0\r\n\r\n"), 0, 0
	for name, values := range req.Headers() {
		for _, v := range values {
			size += len(name) + len(": ") + len(v) + len("\r\n")
			names += strings.Count(name, headerRequestInfo) + strings.Count(v, headerRequestInfo)
			lines++
		}
	}
	return names == 1 && len(req.Headers().Values(headerRequestInfo)) == 1 && lines <= maxHeaders && headerSize(req) <= size
}

// headerSize is the size of a request's headers as they came. The library's message knows it, but its package micro does not show the message;
// where it cannot be found, the size is as large as can be.
func headerSize(req micro.Request) int {
	if v := reflect.ValueOf(req); v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Struct {
		for i := range v.Elem().NumField() { //nolint:modernize // Fields would make a name for each
			if f := v.Elem().Field(i); f.Type() == reflect.TypeFor[*nats.Msg]() {
				return (*nats.Msg)(f.UnsafePointer()).Size() - len(req.Subject()) - len(req.Reply()) - len(req.Data())
			}
		}
	}
	return math.MaxInt
}

// identify returns who sent a request.
func identify(ctx context.Context, rt *Runtime, req micro.Request) (access.Caller, error) {
	key, ok := connection(req)
	if !ok {
		return access.Caller{}, access.ErrUnknown
	}
	c, ok := rt.Callers.ByKey(ctx, key)
	if !ok {
		return access.Caller{}, access.ErrUnknown
	}
	return c, nil
}

type callerKey struct{}

func withCaller(ctx context.Context, c access.Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf returns who sent the request that is being answered.
func CallerOf(ctx context.Context) access.Caller {
	c, _ := ctx.Value(callerKey{}).(access.Caller)
	return c
}

// bound are the fields that name a place to which a caller may be bound.
var bound = &fields{about: func(fd protoreflect.FieldDescriptor) bool {
	return fd.Kind() == protoreflect.StringKind && (fd.Name() == "adm_code" || fd.Name() == "institution_id")
}}

// checkPlaces refuses a message that names a place the caller is not bound to. A caller bound to an institution may only command what names it.
func checkPlaces(c access.Caller, m protoreflect.Message, command bool) error {
	institution := false
	err := bound.walk(nil, m, func(at *place, _ protoreflect.Message, v protoreflect.Value) error {
		if at.field.Name() == "adm_code" {
			return c.Covers(v.String(), "")
		}
		institution = institution || v.String() != ""
		return c.Covers("", v.String())
	})
	if err == nil && command && c.InstitutionID != "" && !institution {
		return access.ErrInstitution
	}
	return err
}
