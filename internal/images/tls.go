package images

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// TLSProfile is the TLS part of a transport profile.
type TLSProfile struct {
	// Certificates are authorities and client certificates.
	Certificates []TLSCertificate `json:"certificates,omitempty"`
	// ServerName replaces the URL's host in SNI and verification.
	ServerName string `json:"serverName,omitempty"`
	// Insecure switches verification off.
	Insecure bool `json:"insecure,omitempty"`
}

// TLSCertificate is PEM text. Authorities (basic constraint CA) are trusted in
// addition to the system's. Other certificates need Key, in PKCS #1, PKCS #8 or
// SEC 1 form, and are shown to servers that ask for one; without a key they are
// ignored, as Virtlet did. Several certificates in Cert may share the key.
type TLSCertificate struct {
	Cert string `json:"cert"`
	Key  string `json:"key,omitempty"`
}

func (p *TLSProfile) config(warn func(error)) (*tls.Config, error) {
	c := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         p.ServerName,
		InsecureSkipVerify: p.Insecure,
	}
	for i, entry := range p.Certificates {
		if err := entry.addTo(c, warn); err != nil {
			return nil, fmt.Errorf("transport tls certificate %d: %w", i+1, err)
		}
	}
	return c, nil
}

func (e TLSCertificate) addTo(c *tls.Config, warn func(error)) error {
	authorities, others, err := e.split()
	if err != nil {
		return err
	}
	if err := addRoots(c, authorities); err != nil {
		return err
	}
	for _, leaf := range others {
		if e.Key == "" {
			warn(fmt.Errorf("transport tls certificate %q ignored: it is no authority and has no key", leaf.Subject))
			continue
		}
		cert, err := clientCertificate(leaf, authorities, e.Key)
		if err != nil {
			return err
		}
		c.Certificates = append(c.Certificates, cert)
	}
	return nil
}

// split sorts the certificates of the PEM text.
func (e TLSCertificate) split() (authorities, others []*x509.Certificate, _ error) {
	for rest := []byte(e.Cert); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, fmt.Errorf("cert: %w", err)
		}
		if cert.IsCA {
			authorities = append(authorities, cert)
		} else {
			others = append(others, cert)
		}
	}
	if len(authorities)+len(others) == 0 {
		return nil, nil, errors.New("cert: no CERTIFICATE block in the PEM text")
	}
	return authorities, others, nil
}

func addRoots(c *tls.Config, authorities []*x509.Certificate) error {
	if len(authorities) == 0 {
		return nil
	}
	if c.RootCAs == nil {
		pool, err := x509.SystemCertPool()
		if err != nil {
			return fmt.Errorf("system certificates: %w", err)
		}
		c.RootCAs = pool
	}
	for _, a := range authorities {
		c.RootCAs.AddCert(a)
	}
	return nil
}

// clientCertificate pairs a certificate with its key; the authorities beside it
// are sent along as its chain.
func clientCertificate(leaf *x509.Certificate, chain []*x509.Certificate, key string) (tls.Certificate, error) {
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})
	// X509KeyPair takes all three key forms, and compares key and certificate.
	cert, err := tls.X509KeyPair(certPEM, []byte(key))
	if err != nil {
		// The error speaks of forms and types; it does not quote the key.
		return tls.Certificate{}, fmt.Errorf("key for %q: %w", leaf.Subject, err)
	}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert, nil
}
