package node

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
)

// Web is an http server on port 80 of the node's loopback: the place where images come from.
type Web struct {
	server *http.Server
	mu     sync.Mutex
	pages  map[string]http.Handler
	node   *Node
}

func newWeb(tb testing.TB, n *Node) *Web {
	tb.Helper()
	l, err := n.ns.listen("127.0.0.1:80")
	must(tb, err)
	w := &Web{pages: map[string]http.Handler{}, node: n}
	w.server = &http.Server{Handler: w}
	go w.server.Serve(l)
	return w
}

func (w *Web) close() { w.server.Close() }

// ServeHTTP answers with what was put there.
func (w *Web) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	page := w.pages[r.URL.Path]
	w.mu.Unlock()
	if page == nil {
		http.NotFound(rw, r)
		return
	}
	page.ServeHTTP(rw, r)
}

// Handle makes the image NAME (as in virtlet.cloud/NAME) one that h answers for.
func (w *Web) Handle(tb testing.TB, name string, h http.Handler) {
	tb.Helper()
	path := "/" + name + ".qcow2"
	w.mu.Lock()
	w.pages[path] = h
	w.mu.Unlock()
	// One translation file for each image, as an operator would add them one after another.
	file := w.node.path("images.d", strings.ReplaceAll(name, "/", "_")+".yaml")
	must(tb, os.WriteFile(file, []byte(fmt.Sprintf("translations:\n  - name: %s\n    url: http://127.0.0.1%s\n", name, path)), 0o644))
}

// File makes the image NAME the content of a file.
func (w *Web) File(tb testing.TB, name, path string) {
	tb.Helper()
	w.Handle(tb, name, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { http.ServeFile(rw, r, path) }))
}

// Bytes makes the image NAME these bytes.
func (w *Web) Bytes(tb testing.TB, name string, data []byte) {
	tb.Helper()
	w.Handle(tb, name, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { rw.Write(data) }))
}

// Guest makes the image NAME one of the built guests.
func (w *Web) Guest(tb testing.TB, name, guest string) {
	tb.Helper()
	w.File(tb, name, Guest(tb, guest))
}
