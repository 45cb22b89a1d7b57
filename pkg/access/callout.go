package access

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
)

// Issuer signs what the bus is told about callers. The bus knows its public part.
type Issuer struct {
	pair   nkeys.KeyPair
	public string
}

// NewIssuer makes a new one.
func NewIssuer() (*Issuer, error) {
	pair, err := nkeys.CreateAccount()
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	return newIssuer(pair)
}

func newIssuer(pair nkeys.KeyPair) (*Issuer, error) {
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	return &Issuer{pair, public}, nil
}

// LoadIssuer reads the seed of an issuer from a file that nobody but its owner may be able to read.
func LoadIssuer(path string) (*Issuer, error) {
	pair, err := loadSeed(path)
	if err != nil {
		return nil, err
	}
	i, err := newIssuer(pair)
	if err != nil || !nkeys.IsValidPublicAccountKey(i.public) {
		return nil, fmt.Errorf("credentials %s: is not the seed of an account's NKey", path)
	}
	return i, nil
}

// EnsureIssuer loads an issuer from a file, which it makes if it is not there.
func EnsureIssuer(path string) (*Issuer, error) {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return LoadIssuer(path)
	}
	i, err := NewIssuer()
	if err != nil {
		return nil, err
	}
	return i, saveSeed(i.pair, path)
}

// Public is the public part, an NKey that begins with A.
func (i *Issuer) Public() string { return i.public }

// headerSignature holds the issuer's signature of an event about a caller.
const headerSignature = "Tongan-Signature"

// signedText is what is signed of an event: where it stands, which one it is, and what it says.
func signedText(subj string, h nats.Header, payload []byte) []byte {
	return bytes.Join([][]byte{[]byte(subj), []byte(h.Get(eventlog.HeaderID)), payload}, []byte{0})
}

// Sign signs an event about a caller. JetStream writes answers and deliveries wherever a service asks for, without asking for the service's
// rights; so that an event stands in the audit stream does not say that the audit service put it there.
func (i *Issuer) Sign(m *nats.Msg) error {
	signature, err := i.pair.Sign(signedText(m.Subject, m.Header, m.Data))
	if err != nil {
		return fmt.Errorf("sign event: %w", err)
	}
	m.Header.Set(headerSignature, base64.RawURLEncoding.EncodeToString(signature))
	return nil
}

// Genuine reports whether this issuer signed an event.
func (i *Issuer) Genuine(subj string, h nats.Header, payload []byte) bool {
	return verify(i.public, subj, h, payload)
}

// verify reports whether the issuer with this public key signed an event.
func verify(issuer, subj string, h nats.Header, payload []byte) bool {
	pair, err := nkeys.FromPublicKey(issuer)
	if err != nil || !nkeys.IsValidPublicAccountKey(issuer) {
		return false
	}
	signature, err := base64.RawURLEncoding.DecodeString(h.Get(headerSignature))
	return err == nil && pair.Verify(signedText(subj, h, payload), signature) == nil
}

// Door decides whom the bus lets in beside its own users.
type Door struct {
	Issuer *Issuer
	// Find returns the caller with a public NKey.
	Find func(ctx context.Context, key string) (Caller, bool)
	// Refused is told of keys that were not let in; nil means nobody is.
	Refused func(ctx context.Context, key string)
}

// Open answers the bus's questions whether to let a connection in, until the subscription ends. Several may do so for one bus.
func (d Door) Open(nc *nats.Conn) (*nats.Subscription, error) {
	sub, err := nc.QueueSubscribe(subject.Callout, "door", func(m *nats.Msg) {
		go d.answer(m) // finding somebody may take a moment; the bus bounds how many knock at once by its time-out
	})
	if err != nil {
		return nil, fmt.Errorf("door of the bus: %w", err)
	}
	return sub, nil
}

func (d Door) answer(m *nats.Msg) {
	asked, err := jwt.DecodeAuthorizationRequestClaims(string(m.Data))
	if err != nil {
		return // not from a server
	}
	answer := jwt.NewAuthorizationResponseClaims(asked.UserNkey)
	answer.Audience = asked.Server.ID
	user, err := d.user(asked)
	if err == nil {
		answer.Jwt, err = user.Encode(d.Issuer.pair)
	}
	if err != nil {
		answer.Error = err.Error()
	}
	if text, err := answer.Encode(d.Issuer.pair); err == nil {
		_ = m.Respond([]byte(text))
	}
}

// errNotLetIn is all that a connection is told.
var errNotLetIn = errors.New("the key is not known, or no longer")

// user returns the account and rights of who connects: the caller whose key signed the server's nonce.
func (d Door) user(asked *jwt.AuthorizationRequestClaims) (*jwt.UserClaims, error) {
	key := asked.ConnectOptions.Nkey
	if !signed(key, asked.ClientInformation.Nonce, asked.ConnectOptions.SignedNonce) {
		return nil, errNotLetIn
	}
	ctx, cancel := context.WithTimeout(context.Background(), lag)
	defer cancel()
	c, known := d.Find(ctx, key)
	if !known {
		if d.Refused != nil {
			d.Refused(context.Background(), key)
		}
		return nil, errNotLetIn
	}
	rights := Of(c.Role)
	user := jwt.NewUserClaims(asked.UserNkey)
	user.Audience = AccountCallers
	if rights.Outside {
		user.Audience = AccountReaders
	}
	user.Pub.Allow = rights.Send
	if len(rights.Send) == 0 {
		user.Pub.Deny = []string{">"}
	}
	user.Sub.Allow = append([]string{subject.Inbox(key) + ".>"}, rights.Read...)
	return user, nil
}

// signed reports whether the private part of a user's key signed the nonce.
func signed(key, nonce, signature string) bool {
	if !nkeys.IsValidPublicUserKey(key) || nonce == "" {
		return false
	}
	pair, err := nkeys.FromPublicKey(key)
	if err != nil {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(signature, "="))
	return err == nil && pair.Verify([]byte(nonce), raw) == nil
}
