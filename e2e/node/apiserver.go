package node

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"strings"
	"sync"
	"testing"
)

// apiToken is the only one that an APIServer accepts.
const apiToken = "e2e-token"

// APIServer answers on the node's loopback, with TLS, what the daemon asks a cluster's API server for.
type APIServer struct {
	server  *httptest.Server
	mu      sync.Mutex
	objects map[string]any
	denied  map[string]bool
	written map[string][][]byte
}

// APIServer starts one and writes the kubeconfig file for it. It ends with the test.
func (n *Node) APIServer(tb testing.TB, kubeconfig string) *APIServer {
	tb.Helper()
	l, err := n.ns.listen("127.0.0.1:6443")
	must(tb, err)
	a := &APIServer{objects: map[string]any{}, denied: map[string]bool{}, written: map[string][][]byte{}}
	a.server = httptest.NewUnstartedServer(a)
	a.server.Listener.Close()
	a.server.Listener = l
	a.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	a.server.StartTLS()
	tb.Cleanup(a.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.server.Certificate().Raw})
	must(tb, os.WriteFile(kubeconfig, []byte(fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: e2e
contexts: [{name: e2e, context: {cluster: e2e, user: e2e}}]
clusters: [{name: e2e, cluster: {server: "https://127.0.0.1:6443", certificate-authority-data: %s}}]
users: [{name: e2e, user: {token: %s}}]
`, base64.StdEncoding.EncodeToString(ca), apiToken)), 0o600))
	return a
}

// Close ends the server before the test does.
func (a *APIServer) Close() { a.server.Close() }

// Put has an object answered at a path of the API.
func (a *APIServer) Put(path string, object any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.objects[path] = object
}

// Deny has RBAC refuse a path.
func (a *APIServer) Deny(path string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.denied[path] = true
}

// Written are the objects that were made at a path, in their order.
func (a *APIServer) Written(path string) [][]byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([][]byte(nil), a.written[path]...)
}

// write keeps an object that is made, and answers with it.
func (a *APIServer) write(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	a.written[r.URL.Path] = append(a.written[r.URL.Path], body)
	a.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(body)
}

// Secret and ConfigMap are objects of the namespace default, as kubectl would make them. The daemon's one-machine mode keeps
// the same JSON.
func Secret(name string, data map[string]string) map[string]any {
	encoded := map[string]string{}
	for key, value := range data {
		encoded[key] = base64.StdEncoding.EncodeToString([]byte(value))
	}
	return object("Secret", name, encoded)
}

// ConfigMap is Secret's sister.
func ConfigMap(name string, data map[string]string) map[string]any {
	return object("ConfigMap", name, data)
}

func object(kind, name string, data map[string]string) map[string]any {
	return map[string]any{"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"name": name, "namespace": "default"}, "data": data}
}

// ServeHTTP answers as the API does.
func (a *APIServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	object, denied := a.objects[r.URL.Path], a.denied[r.URL.Path]
	a.mu.Unlock()
	if r.Method == http.MethodPost && !denied && r.Header.Get("Authorization") == "Bearer "+apiToken {
		a.write(w, r)
		return
	}
	code, reason, message := http.StatusOK, "", ""
	what := path.Base(path.Dir(r.URL.Path)) + " " + fmt.Sprintf("%q", path.Base(r.URL.Path))
	switch {
	case r.Header.Get("Authorization") != "Bearer "+apiToken:
		code, reason, message = http.StatusUnauthorized, "Unauthorized", "Unauthorized"
	case denied:
		code, reason, message = http.StatusForbidden, "Forbidden", what+` is forbidden: User "node" cannot get it`
	case object == nil:
		code, reason, message = http.StatusNotFound, "NotFound", strings.TrimSpace(what)+" not found"
	}
	if code != http.StatusOK {
		object = map[string]any{"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(object)
}

// BringObjects puts objects where the one-machine mode does for a pod. They go with the returned function.
func (vm *VM) BringObjects(tb testing.TB, objects ...map[string]any) (remove func()) {
	tb.Helper()
	dir := vm.Node.path("run", "objects", vm.Pod.Metadata.Uid)
	for _, o := range objects {
		folder := strings.ToLower(o["kind"].(string)) + "s"
		must(tb, os.MkdirAll(dir+"/"+folder, 0o700))
		data, err := json.Marshal(o)
		must(tb, err)
		must(tb, os.WriteFile(dir+"/"+folder+"/"+o["metadata"].(map[string]any)["name"].(string)+".json", data, 0o600))
	}
	return func() { must(tb, os.RemoveAll(dir)) }
}
