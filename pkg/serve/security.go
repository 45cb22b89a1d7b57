package serve

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/nats-io/nats.go"

	"tongan.dev/pkg/transport"
)

// SecurityFlags say how what goes over a network is kept from others.
type SecurityFlags struct {
	NATSTLS   transport.TLS `embed:"" prefix:"nats-" envprefix:"TONGAN_NATS_"`
	Plaintext bool          `env:"TONGAN_PLAINTEXT" help:"Permit connections without TLS to and from other machines: children's names cross the network in clear."`
}

// NATSOptions are the options of a connection to the bus at a URL, or several with commas between: with TLS where files are named or the
// URL is tls://, otherwise to loopback only, unless Plaintext permits more; and to these addresses only, since servers tell of others about
// which nobody said how they are reached. [Connect] does not need them inside the process.
func (f SecurityFlags) NATSOptions(urls string) ([]nats.Option, error) {
	cfg, err := f.NATSTLS.Client()
	if err != nil {
		return nil, fmt.Errorf("--nats-%w", err)
	}
	secure := cfg != nil
	var plain []string
	for addr := range strings.SplitSeq(urls, ",") {
		if addr = strings.TrimSpace(addr); addr == "" {
			continue
		}
		if !strings.Contains(addr, "://") {
			addr = "nats://" + addr
		}
		u, err := url.Parse(addr)
		if err != nil {
			return nil, errors.New("--nats-url: not an address") // what it says instead may hold a password
		}
		switch u.Scheme {
		case "tls":
			secure = true // for all of them: the client knows no difference
		case "nats":
			plain = append(plain, addr)
		default:
			return nil, fmt.Errorf("--nats-url: %s:// is not supported, only tls:// and nats://", u.Scheme)
		}
	}
	if secure {
		return []nats.Option{nats.IgnoreDiscoveredServers(), nats.Secure(cmp.Or(cfg, &tls.Config{MinVersion: tls.VersionTLS12}))}, nil
	}
	for _, addr := range plain {
		if err := transport.Plain(addr, f.Plaintext); err != nil {
			return nil, fmt.Errorf("--nats-url: %w", err)
		}
	}
	return []nats.Option{nats.IgnoreDiscoveredServers()}, nil
}

// inProcess says whether options are of a connection to a server in the same process.
func inProcess(opts []nats.Option) bool {
	var o nats.Options
	for _, set := range opts {
		// An option that fails here fails in nats.Connect, too.
		if set != nil && set(&o) == nil && o.InProcessServer != nil {
			return true
		}
	}
	return false
}

// withoutTLS is for connections inside the process: the server does not ask them for it, and a handshake that fails there hangs for a
// minute, since both sides of the pipe write and none reads.
func withoutTLS(o *nats.Options) error {
	o.Secure, o.TLSConfig = false, nil
	return nil
}
