package node

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
)

// ServeTLS serves https on port 443 of the node's loopback until the test ends. It returns the certificate that
// clients have to trust, as PEM; its names are 127.0.0.1 and example.com.
func (n *Node) ServeTLS(tb testing.TB, h http.Handler) (certificate string) {
	tb.Helper()
	l, err := n.ns.listen("127.0.0.1:443")
	must(tb, err)
	s := httptest.NewUnstartedServer(h)
	must(tb, s.Listener.Close())
	s.Listener = l
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that leave early
	s.StartTLS()
	tb.Cleanup(s.Close)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

// Translate writes a file of image translations.
func (n *Node) Translate(tb testing.TB, file, text string) {
	tb.Helper()
	must(tb, os.WriteFile(n.path("images.d", file), []byte(text), 0o644))
}
