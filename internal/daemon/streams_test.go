package daemon_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeKeyPair writes a certificate for 127.0.0.1, and returns who trusts it.
func writeKeyPair(t *testing.T, cert, key string) *x509.CertPool {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	check(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	check(t, err)
	check(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	check(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	leaf, err := x509.ParseCertificate(der)
	check(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return pool
}

// A certificate that was renewed is shown to the next who connects.
func TestStreamsOverTLS(t *testing.T) {
	cfg := settings(t)
	cfg.StreamAddress = freeAddress(t)
	cfg.StreamCertFile, cfg.StreamKeyFile = filepath.Join(t.TempDir(), "cert"), filepath.Join(t.TempDir(), "key")
	if err := refused(cfg); err == nil || !strings.Contains(err.Error(), cfg.StreamCertFile) {
		t.Errorf("without the files: %v", err)
	}
	before := writeKeyPair(t, cfg.StreamCertFile, cfg.StreamKeyFile)
	stop := start(t, cfg)
	check(t, handshake(cfg.StreamAddress, before))
	after := writeKeyPair(t, cfg.StreamCertFile, cfg.StreamKeyFile)
	check(t, handshake(cfg.StreamAddress, after))
	if err := handshake(cfg.StreamAddress, before); err == nil {
		t.Error("the old certificate is still shown")
	}
	check(t, stop())
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	return l.Addr().String()
}

func handshake(address string, trusted *x509.CertPool) error {
	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: trusted})
	if err != nil {
		return err
	}
	return conn.Close()
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
