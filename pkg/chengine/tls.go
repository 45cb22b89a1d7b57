package chengine

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TLS names the files, PEM, by which an interface proves who it is, and its
// clients who they are. They are read when the engine starts.
type TLS struct {
	// Cert is the certificate, followed by those between it and its CA.
	Cert string
	// Key is the key of Cert; nobody but its owner may have access to it.
	Key string
	// CA has the certificates of those who vouch for the other side. An engine
	// with a CA lets nobody in without a certificate; a client without one
	// trusts those whom the system trusts.
	CA string
}

// on says whether anything is given.
func (t TLS) on() bool { return t != TLS{} }

// server returns the configuration of an interface. Errors name the field.
func (t TLS) server() (*tls.Config, error) {
	if t.Cert == "" || t.Key == "" {
		return nil, errors.New("TLS: Cert and Key belong together: one is missing")
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

// Client returns the configuration of a client, for the field TLS of
// clickhouse.Options or of an http.Transport. Without Cert and Key the client
// proves nothing. Errors name the field.
func (t TLS) Client() (*tls.Config, error) {
	if (t.Cert == "") != (t.Key == "") {
		return nil, errors.New("TLS: Cert and Key belong together: one is missing")
	}
	cfg, ca, err := t.load()
	if err != nil {
		return nil, err
	}
	cfg.RootCAs = ca
	return cfg, nil
}

// load reads what is given.
func (t TLS) load() (*tls.Config, *x509.CertPool, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.Cert != "" {
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
		return nil, nil, fmt.Errorf("TLS: CA: %w", err)
	}
	ca := x509.NewCertPool()
	if !ca.AppendCertsFromPEM(text) {
		return nil, nil, fmt.Errorf("TLS: CA: no certificate in %s", t.CA)
	}
	return cfg, ca, nil
}

// pair reads certificate and key.
func (t TLS) pair() (tls.Certificate, error) {
	cert, err := os.ReadFile(t.Cert)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("TLS: Cert: %w", err)
	}
	info, err := os.Stat(t.Key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("TLS: Key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return tls.Certificate{}, fmt.Errorf("TLS: Key: %s is open to others (mode %04o): chmod 600", t.Key, info.Mode().Perm())
	}
	key, err := os.ReadFile(t.Key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("TLS: Key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("TLS: Cert and Key: %s, %s: %w", t.Cert, t.Key, err)
	}
	return pair, nil
}
