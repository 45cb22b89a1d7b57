// Package tlstest makes certificates for tests, when they run.
package tlstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tongan.dev/pkg/transport"
)

// CA issues certificates.
type CA struct {
	// File has its certificate, PEM.
	File string

	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// New makes a CA in a folder of its own.
func New(tb testing.TB) *CA {
	tb.Helper()
	c := &CA{dir: tb.TempDir()}
	c.File = filepath.Join(c.dir, "ca.crt")
	c.cert = &x509.Certificate{
		Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	c.key = c.sign(tb, c.cert, c.File)
	return c
}

// Issue writes a certificate for a name, localhost and its addresses, good for servers and clients for an hour, and its key. Change says
// what is to be otherwise. The files are NAME.crt and NAME.key, and the CA's own.
func (c *CA) Issue(tb testing.TB, name string, change ...func(*x509.Certificate)) transport.TLS {
	tb.Helper()
	files := transport.TLS{Cert: filepath.Join(c.dir, name+".crt"), Key: filepath.Join(c.dir, name+".key"), CA: c.File}
	cert := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name, "localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, f := range change {
		f(cert)
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.sign(tb, cert, files.Cert))
	if err != nil {
		tb.Fatal(err)
	}
	write(tb, files.Key, "PRIVATE KEY", der)
	return files
}

// Expired makes a certificate one that was valid until a minute ago.
func Expired(cert *x509.Certificate) { cert.NotAfter = time.Now().Add(-time.Minute) }

// sign completes a certificate for a new key, which it returns, and writes it.
func (c *CA) sign(tb testing.TB, cert *x509.Certificate, file string) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	if cert.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64)); err != nil {
		tb.Fatal(err)
	}
	if cert.NotBefore.IsZero() {
		cert.NotBefore = time.Now().Add(-time.Hour)
	}
	if cert.NotAfter.IsZero() {
		cert.NotAfter = time.Now().Add(time.Hour)
	}
	signer := key
	if c.key != nil {
		signer = c.key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, c.cert, key.Public(), signer)
	if err != nil {
		tb.Fatal(err)
	}
	write(tb, file, "CERTIFICATE", der)
	return key
}

func write(tb testing.TB, file, kind string, der []byte) {
	tb.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		tb.Fatal(err)
	}
}
