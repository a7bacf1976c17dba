package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// overSPDY makes kubectl speak as it did before WebSocket.
var overSPDY = []string{"KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false", "KUBECTL_PORT_FORWARD_WEBSOCKETS=false"}

// Streams of a server that is not on loopback are encrypted, and kubelet checks its certificate.
func TestStreamsOverTLS(t *testing.T) {
	c := theCluster(t)
	cert, key := c.Path("pki/streams.crt"), c.Path("pki/streams.key")
	writeServerCertificate(t, cert, key)
	c.Apply(t, vmPod("distant", ""))
	c.changed(t, "qemulet", nil, "--stream-address", NodeIP+":0", "--stream-tls-cert-file", cert, "--stream-tls-key-file", key)
	waitServed(t, c.VMSocket())
	c.WaitReady(t, "app=distant", 1, bootTime)
	if out := c.kubectlFails(t, "attach", "distant"); !strings.Contains(out, "certificate signed by unknown authority") {
		t.Errorf("kubelet does not trust the certificate, and kubectl says %s", out)
	}
	c.changed(t, "kubelet", []string{"SSL_CERT_FILE=" + cert})
	eventually(t, bootTime, "kubelet knows its pods again", func() error {
		_, err := c.TryKubectl(t, "logs", "distant", "--tail=1")
		return err
	})
	for name, env := range map[string][]string{"WebSocket": nil, "SPDY": overSPDY} {
		t.Run(name, func(t *testing.T) {
			person := c.terminalWith(t, env, "attach", "-it", "distant")
			person.Expect("try pressing enter", bootTime)
			if out := person.Command("hostname"); out != "distant" {
				t.Errorf("hostname: %q", out)
			}
			forward := c.backgroundWith(t, env, nil, "port-forward", "pod/distant", ":80")
			port := forward.expect(t, `Forwarding from \[::1\]:(\d+) -> 80\n`, bootTime)[1]
			for _, address := range []string{"127.0.0.1:", "[::1]:"} {
				if out, err := c.httpGet("http://" + address + port + "/cgi-bin/info"); err != nil || !strings.Contains(out, "hostname=distant") {
					t.Errorf("through %s: %v: %q", address, err, out)
				}
			}
		})
	}
}

// writeServerCertificate writes a certificate for the node's address that is signed by itself.
func writeServerCertificate(t *testing.T, cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(NodeIP)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
}
