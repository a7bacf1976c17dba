package daemon

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/url"

	"github.com/qemulet/qemulet/internal/config"
)

// listenForStreams opens the listener to which kubelet connects attach, exec
// and port-forward, and says how its URLs begin.
func listenForStreams(cfg *config.Config) (net.Listener, url.URL, error) {
	pair := keyPair{cfg.StreamCertFile, cfg.StreamKeyFile}
	if pair.cert != "" {
		if _, err := pair.load(); err != nil {
			return nil, url.URL{}, err
		}
	}
	l, err := net.Listen("tcp", cfg.StreamAddress)
	if err != nil {
		return nil, url.URL{}, fmt.Errorf("stream-address %s: %w", cfg.StreamAddress, err)
	}
	if pair.cert == "" {
		return l, url.URL{Scheme: "http", Host: l.Addr().String()}, nil
	}
	// The protocols take the connection over, which HTTP/2 has no way for.
	l = tls.NewListener(l, &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.load() },
	})
	return l, url.URL{Scheme: "https", Host: l.Addr().String()}, nil
}

// keyPair is a certificate and its key, in files. They are read for each
// connection, of which there are few: who renews them needs to tell nobody.
type keyPair struct{ cert, key string }

func (p keyPair) load() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(p.cert, p.key)
	if err != nil {
		return nil, fmt.Errorf("stream-tls-cert-file %s, stream-tls-key-file %s: %w", p.cert, p.key, err)
	}
	return &pair, nil
}
