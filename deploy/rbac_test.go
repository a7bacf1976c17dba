package deploy

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/qemulet/qemulet/internal/kube"
)

// recorder answers every question with an error and remembers what was asked.
type recorder struct {
	mu       sync.Mutex
	requests []request.RequestInfo
}

// wait waits until so many requests have come.
func (r *recorder) wait(t *testing.T, want int) []request.RequestInfo {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		got := slices.Clone(r.requests)
		r.mu.Unlock()
		if len(got) >= want {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d requests", len(got))
		}
	}
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	resolver := request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	info, err := resolver.NewRequestInfo(req)
	if err != nil {
		panic(err)
	}
	r.mu.Lock()
	r.requests = append(r.requests, *info)
	r.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
}

// asked is all that the daemon asks the API server for.
func asked(t *testing.T) []request.RequestInfo {
	t.Helper()
	r := &recorder{}
	server := httptest.NewServer(r)
	defer server.Close()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: k, user: u}}],
clusters: [{name: k, cluster: {server: %q}}], users: [{name: u, user: {token: t}}]}`, server.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	api := &kube.API{Kubeconfig: file}
	pod := kube.Pod{Namespace: "somewhere", Name: "vm", UID: "u"}
	for _, kind := range []kube.Kind{kube.ConfigMap, kube.Secret} {
		if _, err := api.Data(t.Context(), pod, kind, "it"); err == nil {
			t.Errorf("%s: no error", kind)
		}
	}
	if _, err := api.ImageMappings(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := api.Settings(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := api.NodeLabels(t.Context(), "node-1"); err == nil {
		t.Error("labels of no node")
	}
	requests := r.wait(t, 6)
	// What it lists of settings it also watches.
	for _, req := range requests[3:5] {
		req.Verb = "watch"
		requests = append(requests, req)
	}
	events := api.Events("node", slog.New(slog.DiscardHandler))
	defer events.Close()
	for range 2 { // the second is a change of the first, and then written anew
		events.Tell(pod, false, "Emulated", "text")
	}
	return append(requests, r.wait(t, 9)[6:]...)
}

// grant is one verb for one resource; namespace and name "" are all of them.
type grant struct{ group, resource, verb, namespace, name string }

// grants are what the service account is given by way of its bindings.
func grants(t *testing.T) []grant {
	t.Helper()
	account := rbacv1.Subject{Kind: "ServiceAccount", Name: "qemulet", Namespace: "kube-system"}
	var given []grant
	add := func(namespace string, rules []rbacv1.PolicyRule) {
		for _, r := range rules {
			for _, group := range r.APIGroups {
				for _, resource := range r.Resources {
					for _, verb := range r.Verbs {
						names := r.ResourceNames
						if len(names) == 0 {
							names = []string{""}
						}
						for _, name := range names {
							given = append(given, grant{group, resource, verb, namespace, name})
						}
					}
				}
			}
		}
	}
	everywhere, within := one[*rbacv1.ClusterRole](t), one[*rbacv1.Role](t)
	if b := one[*rbacv1.ClusterRoleBinding](t); b.RoleRef.Kind == "ClusterRole" && b.RoleRef.Name == everywhere.Name && slices.Contains(b.Subjects, account) {
		add("", everywhere.Rules)
	}
	if b := one[*rbacv1.RoleBinding](t); b.RoleRef.Kind == "Role" && b.RoleRef.Name == within.Name && b.Namespace == within.Namespace && slices.Contains(b.Subjects, account) {
		add(within.Namespace, within.Rules)
	}
	return given
}

// The service account may do what the daemon does, and nothing that it does not.
func TestRBACIsWhatTheDaemonNeeds(t *testing.T) {
	used := map[grant]bool{}
	given := grants(t)
	for _, r := range asked(t) {
		i := slices.IndexFunc(given, func(g grant) bool {
			return g.group == r.APIGroup && g.resource == r.Resource && g.verb == r.Verb && (g.namespace == "" || g.namespace == r.Namespace) && (g.name == "" || g.name == r.Name)
		})
		if i < 0 {
			t.Errorf("%s of %s.%s in %s is not granted", r.Verb, r.Resource, r.APIGroup, r.Namespace)
			continue
		}
		used[given[i]] = true
	}
	for _, g := range given {
		if !used[g] || strings.Contains(g.group+g.resource+g.verb, "*") {
			t.Errorf("%+v is granted and not needed", g)
		}
	}
}
