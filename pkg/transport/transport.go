// Package transport says how what goes over a network is kept from others: TLS from files, refused when half configured, and without TLS
// nothing that leaves the machine, unless that is permitted.
package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
)

// TLS names the files by which one side of a connection proves who it is, and knows who the other is; the zero value is no TLS. Files are
// read when a configuration is made: new ones count after a restart. As flags of a program it is embedded with a prefix:
//
//	NATSTLS transport.TLS `embed:"" prefix:"nats-" envprefix:"TONGAN_NATS_"`
//
// Errors begin with the name of a flag without the prefix; who embeds it writes fmt.Errorf("--nats-%w", err).
type TLS struct {
	// Cert is the certificate, followed by those between it and its CA.
	Cert string `name:"tls-cert" env:"TLS_CERT" default:"" type:"path" help:"Certificate to show, PEM, followed by those between it and its CA."`
	// Key is the key of Cert; nobody but its owner may have access to it.
	Key string `name:"tls-key" env:"TLS_KEY" default:"" type:"path" help:"Key of the certificate, PEM, mode 0600."`
	// CA has the certificates of those who vouch for the other side. A server with a CA lets nobody in without a certificate; a client
	// without one trusts those whom the system trusts.
	CA string `name:"tls-ca" env:"TLS_CA" default:"" type:"path" help:"Certificates of those who vouch for the other side, PEM; a server that has them asks every client for a certificate."`
}

// Enabled says whether any file is named.
func (t TLS) Enabled() bool { return t != TLS{} }

// Server returns the configuration of a server, nil if no file is named.
func (t TLS) Server() (*tls.Config, error) {
	if !t.Enabled() {
		return nil, nil
	}
	if t.Cert == "" && t.Key == "" {
		return nil, errors.New("tls-cert is missing: a server needs a certificate and its key beside tls-ca")
	}
	cfg, ca, err := t.load()
	if err != nil {
		return nil, err
	}
	if ca != nil {
		cfg.ClientCAs, cfg.ClientAuth = ca, tls.RequireAndVerifyClientCert
	}
	return cfg, nil
}

// Client returns the configuration of a client, nil if no file is named. Without a certificate the client proves nothing.
func (t TLS) Client() (*tls.Config, error) {
	if !t.Enabled() {
		return nil, nil
	}
	cfg, ca, err := t.load()
	if err != nil {
		return nil, err
	}
	cfg.RootCAs = ca
	return cfg, nil
}

// load reads what is named.
func (t TLS) load() (*tls.Config, *x509.CertPool, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	switch {
	case t.Cert == "" && t.Key != "":
		return nil, nil, errors.New("tls-cert is missing: it and tls-key belong together")
	case t.Cert != "" && t.Key == "":
		return nil, nil, errors.New("tls-key is missing: it and tls-cert belong together")
	case t.Cert != "":
		pair, err := t.pair()
		if err != nil {
			return nil, nil, err
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	if t.CA == "" {
		return cfg, nil, nil
	}
	text, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, nil, fmt.Errorf("tls-ca: %w", err)
	}
	ca := x509.NewCertPool()
	if !ca.AppendCertsFromPEM(text) {
		return nil, nil, fmt.Errorf("tls-ca: %s holds no certificate", t.CA)
	}
	return cfg, ca, nil
}

// pair reads certificate and key. One that is out of its time is refused here, since the other side would say it less clearly.
func (t TLS) pair() (tls.Certificate, error) {
	cert, err := os.ReadFile(t.Cert)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("tls-cert: %w", err)
	}
	key, err := readKey(t.Key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("tls-key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("tls-cert %s and tls-key %s do not fit: %w", t.Cert, t.Key, err)
	}
	if from, to := pair.Leaf.NotBefore, pair.Leaf.NotAfter; time.Now().Before(from) || time.Now().After(to) {
		return tls.Certificate{}, fmt.Errorf("tls-cert: %s is valid from %s to %s only", t.Cert, from.Format(time.RFC3339), to.Format(time.RFC3339))
	}
	return pair, nil
}

// readKey reads a file that nobody but its owner may have access to.
func readKey(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s is open to others (mode %04o): chmod 600 it, and renew it if somebody may have read it", path, info.Mode().Perm())
	}
	return io.ReadAll(f)
}

// Plain reports whether what goes to an address, or comes in there, may do so without TLS: on loopback always, elsewhere only where it is
// allowed. The address is a host, host:port or a URL.
func Plain(addr string, allowed bool) error {
	if allowed || Loopback(addr) {
		return nil
	}
	return fmt.Errorf("%q is not loopback: without TLS, children's names would cross the network in clear; "+
		"give certificates, or permit it with --plaintext", host(addr))
}

// Loopback says whether an address (a host, host:port or a URL) is of this machine only. A name other than localhost is not: it may stand
// for any address. No host at all is not either: a listener takes that for every address.
func Loopback(addr string) bool {
	h := host(addr)
	if strings.EqualFold(h, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(h)
	return err == nil && ip.Unmap().IsLoopback()
}

// host of an address; never a part that holds a password.
func host(addr string) string {
	if strings.Contains(addr, "://") {
		u, err := url.Parse(addr)
		if err != nil {
			return ""
		}
		return u.Hostname()
	}
	if h, _, err := net.SplitHostPort(addr); err == nil {
		return h
	}
	return strings.Trim(addr, "[]")
}
