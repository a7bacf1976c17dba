package kube

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api/v1"
)

const testToken = "token-hunter2"

// apiServer is an API server with TLS that knows one token.
type apiServer struct {
	*httptest.Server
	t *testing.T

	mu      sync.Mutex
	answers map[string]string // the bodies of paths
	token   string
}

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	s := &apiServer{t: t, answers: map[string]string{}, token: testToken}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are wanted
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// set has a path answered so; empty is not found.
func (s *apiServer) set(path, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[path] = body
}

func (s *apiServer) setToken(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = token
}

func (s *apiServer) answer(path string) (body, token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answers[path], s.token
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, token := s.answer(r.URL.Path)
	if r.Header.Get("Authorization") != "Bearer "+token {
		s.refuse(w, http.StatusUnauthorized, metav1.StatusReasonUnauthorized, "Unauthorized")
		return
	}
	switch body {
	case "":
		s.refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, r.URL.Path+" not found")
	case "forbidden":
		s.refuse(w, http.StatusForbidden, metav1.StatusReasonForbidden, `User "system:serviceaccount:kube-system:qemulet" cannot get it`)
	case "hang":
		<-r.Context().Done()
	case "broken":
		s.refuse(w, http.StatusInternalServerError, metav1.StatusReasonInternalError, "etcd is away")
	case "web":
		http.Error(w, "<html>this is no API server</html>", http.StatusNotFound)
	default:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Warning", `299 - "to be ignored"`)
		io.WriteString(w, body)
	}
}

func (s *apiServer) refuse(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	status := metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: int32(code), Reason: reason, Message: message}
	if err := json.NewEncoder(w).Encode(status); err != nil {
		s.t.Error(err)
	}
}

// ca is the server's certificate, which is its own authority.
func (s *apiServer) ca() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// api is access by a kubeconfig file, which may be changed.
func (s *apiServer) api(change ...func(*clientcmdapi.Config)) *API {
	s.t.Helper()
	cfg := clientcmdapi.Config{
		APIVersion: "v1", Kind: "Config", CurrentContext: "c",
		Contexts:  []clientcmdapi.NamedContext{{Name: "c", Context: clientcmdapi.Context{Cluster: "k", AuthInfo: "u"}}},
		Clusters:  []clientcmdapi.NamedCluster{{Name: "k", Cluster: clientcmdapi.Cluster{Server: s.URL, CertificateAuthorityData: s.ca()}}},
		AuthInfos: []clientcmdapi.NamedAuthInfo{{Name: "u", AuthInfo: clientcmdapi.AuthInfo{Token: testToken}}},
	}
	for _, c := range change {
		c(&cfg)
	}
	text, err := json.Marshal(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	return &API{Kubeconfig: writeFile(s.t, "kubeconfig", string(text)), Timeout: 5 * time.Second}
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const (
	mapPath     = "/api/v1/namespaces/default/configmaps/it"
	secretPath  = "/api/v1/namespaces/default/secrets/it"
	mappingPath = "/apis/virtlet.k8s/v1/namespaces/kube-system/virtletimagemappings"
	mapJSON     = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"it","namespace":"default"},"data":{"a":"text"},"binaryData":{"b":"AP8="}}`
	secretJSON  = `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"it","namespace":"default"},"type":"Opaque","data":{"a":"aHVudGVyMg=="}}`
)

func TestAPI(t *testing.T) {
	s := newAPIServer(t)
	s.set(mapPath, mapJSON)
	s.set(secretPath, secretJSON)
	a := s.api()
	for kind, want := range map[Kind]map[string]string{ConfigMap: {"a": "text", "b": "\x00\xff"}, Secret: {"a": "hunter2"}} {
		if got, err := a.Data(t.Context(), testPod, kind, "it"); err != nil || !maps.Equal(show(got), want) {
			t.Errorf("%s: got %q, %v", kind, show(got), err)
		}
	}
}

// Each error says what is wrong with which object and what to do, and is of the
// class that callers decide by.
func TestAPIErrors(t *testing.T) {
	s := newAPIServer(t)
	for name, c := range map[string]struct {
		answer string
		object string
		class  func(error) bool
		want   []string
	}{
		"not there":       {"", "it", errdefs.IsNotFound, []string{"Secret default/it does not exist", "create it"}},
		"forbidden":       {"forbidden", "it", errdefs.IsPermissionDenied, []string{"Secret default/it", `User "system:serviceaccount:kube-system:qemulet"`, "let a Role grant the verb get for secrets in namespace default"}},
		"hangs":           {"hang", "it", errdefs.IsUnavailable, []string{"Secret default/it", s.URL, "no answer within 300ms"}},
		"broken":          {"broken", "it", errdefs.IsUnavailable, []string{"Secret default/it", "etcd is away"}},
		"no API server":   {"web", "it", errdefs.IsUnavailable, []string{"Secret default/it", s.URL, "cannot be asked"}},
		"no JSON":         {"hunter2", "it", errdefs.IsUnavailable, []string{"Secret default/it"}},
		"another object":  {mapJSON, "it", errdefs.IsUnavailable, []string{"Secret default/it: the API server's answer is not a v1 object in JSON"}},
		"bad object":      {`{"apiVersion":"v1","kind":"Secret","data":{"a":"hunter2!"}}`, "it", errdefs.IsUnavailable, []string{"Secret default/it"}},
		"name of no file": {"", "../it", errdefs.IsInvalidArgument, []string{`"../it" cannot be the name of a Secret`}},
	} {
		t.Run(name, func(t *testing.T) {
			s.set(secretPath, c.answer)
			a := s.api()
			if c.answer == "hang" || c.answer == "broken" {
				a.Timeout = 300 * time.Millisecond
			}
			begin := time.Now()
			_, err := a.Data(t.Context(), testPod, Secret, c.object)
			if !c.class(err) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("class of %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in %v", want, err)
				}
			}
			if took := time.Since(begin); took > 4*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// The caller's own end is not taken for the server's fault alone.
func TestAPICancelled(t *testing.T) {
	s := newAPIServer(t)
	s.set(mapPath, "hang")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := s.api().Data(ctx, testPod, ConfigMap, "it"); !strings.Contains(fmt.Sprint(err), context.Canceled.Error()) {
		t.Errorf("got %v", err)
	}
}

func TestKubeconfig(t *testing.T) {
	s := newAPIServer(t)
	s.set(mapPath, mapJSON)
	other := newAPIServer(t)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	gone := "https://" + closed.Addr().String()
	for name, c := range map[string]struct {
		api  *API
		want string
	}{
		"no file":       {&API{Kubeconfig: "/nowhere/kubeconfig"}, "setting kubeconfig: open /nowhere/kubeconfig: no such file"},
		"a directory":   {&API{Kubeconfig: "/"}, "setting kubeconfig: read /"},
		"garbage":       {&API{Kubeconfig: writeFile(t, "k", "hunter2: [")}, "is no kubeconfig file"},
		"another thing": {&API{Kubeconfig: writeFile(t, "k", "users: hunter2")}, "is no kubeconfig file"},
		"empty":         {&API{Kubeconfig: writeFile(t, "k", "")}, "setting kubeconfig: "},
		"no context":    {s.api(func(c *clientcmdapi.Config) { c.CurrentContext = "nope" }), "context was not found for specified context: nope"},
		"no CA file": {s.api(func(c *clientcmdapi.Config) {
			k := &c.Clusters[0].Cluster
			k.CertificateAuthorityData, k.CertificateAuthority = nil, "gone.crt"
		}), "gone.crt"},
		"other CA": {s.api(func(c *clientcmdapi.Config) {
			c.Clusters[0].Cluster.Server = strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
		}), "x509"},
		"system CAs":   {s.api(func(c *clientcmdapi.Config) { c.Clusters[0].Cluster.CertificateAuthorityData = nil }), "x509"},
		"wrong token":  {s.api(func(c *clientcmdapi.Config) { c.AuthInfos[0].AuthInfo.Token = "hunter2" }), "does not accept the daemon's credentials"},
		"nobody there": {s.api(func(c *clientcmdapi.Config) { c.Clusters[0].Cluster.Server = gone }), "connection refused"},
		"bad server":   {s.api(func(c *clientcmdapi.Config) { c.Clusters[0].Cluster.Server = "https://a b" }), "https://a b"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.api.Data(t.Context(), testPod, ConfigMap, "it")
			if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "ConfigMap default/it: ") || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	// Paths in it are relative to it.
	a := other.api(func(c *clientcmdapi.Config) {
		k, u := &c.Clusters[0].Cluster, &c.AuthInfos[0].AuthInfo
		k.CertificateAuthorityData, k.CertificateAuthority, u.Token, u.TokenFile = nil, "ca.crt", "", "token"
	})
	other.set(mapPath, mapJSON)
	for name, text := range map[string]string{"ca.crt": string(other.ca()), "token": testToken} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(a.Kubeconfig), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Data(t.Context(), testPod, ConfigMap, "it"); err != nil {
		t.Errorf("relative paths: %v", err)
	}
}

// A kubeconfig that comes later or changes needs no restart.
func TestKubeconfigComesLater(t *testing.T) {
	s := newAPIServer(t)
	s.set(mapPath, mapJSON)
	good := s.api()
	a := &API{Kubeconfig: filepath.Join(t.TempDir(), "later")}
	if _, err := a.Data(t.Context(), testPod, ConfigMap, "it"); !errdefs.IsUnavailable(err) {
		t.Errorf("before: %v", err)
	}
	if err := os.Link(good.Kubeconfig, a.Kubeconfig); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Data(t.Context(), testPod, ConfigMap, "it"); err != nil {
		t.Errorf("after: %v", err)
	}
}

// inCluster makes the test look like a pod.
func (s *apiServer) inCluster() *API {
	s.t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Setenv(serviceHost, u.Hostname())
	s.t.Setenv(servicePort, u.Port())
	dir := s.t.TempDir()
	for name, text := range map[string]string{"ca.crt": string(s.ca()), "token": testToken + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	return &API{ServiceAccountDir: dir, Timeout: 5 * time.Second}
}

func TestServiceAccount(t *testing.T) {
	s := newAPIServer(t)
	s.set(mapPath, mapJSON)
	a := s.inCluster()
	if _, err := a.Data(t.Context(), testPod, ConfigMap, "it"); err != nil {
		t.Error(err)
	}
	// kubelet renews the token.
	s.setToken("renewed")
	if err := os.WriteFile(filepath.Join(a.ServiceAccountDir, "token"), []byte("renewed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Data(t.Context(), testPod, ConfigMap, "it"); err != nil {
		t.Errorf("renewed token: %v", err)
	}
	for _, file := range []string{"token", "ca.crt"} {
		if err := os.Remove(filepath.Join(a.ServiceAccountDir, file)); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Data(t.Context(), testPod, ConfigMap, "it"); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "no access to the Kubernetes API: service account: open ") {
			t.Errorf("without %s: %v", file, err)
		}
	}
}

func noCluster(t *testing.T) *API {
	t.Helper()
	t.Setenv(serviceHost, "")
	return &API{}
}

func TestNoAccess(t *testing.T) {
	_, err := noCluster(t).Data(t.Context(), testPod, Secret, "it")
	if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "Secret default/it: no access to the Kubernetes API: the setting kubeconfig is empty, and the daemon does not run in a pod") {
		t.Errorf("got %v", err)
	}
}

// A pod that brought objects along has those and no others.
func TestObjects(t *testing.T) {
	s := newAPIServer(t)
	s.set(mapPath, mapJSON)
	o := Objects{Dir: Dir(t.TempDir()), API: s.api()}
	if _, err := o.Data(t.Context(), testPod, ConfigMap, "it"); err != nil {
		t.Errorf("of the cluster: %v", err)
	}
	if err := o.Dir.Put(testPod, testObjects()...); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Data(t.Context(), testPod, ConfigMap, "same"); err != nil {
		t.Errorf("brought along: %v", err)
	}
	if _, err := o.Data(t.Context(), testPod, ConfigMap, "it"); !errdefs.IsNotFound(err) {
		t.Errorf("of the cluster, to a pod that brought objects: %v", err)
	}
}

func TestImageMappings(t *testing.T) {
	s := newAPIServer(t)
	s.set(mappingPath, `{"apiVersion":"virtlet.k8s/v1","kind":"VirtletImageMappingList","metadata":{},"items":[
		{"apiVersion":"virtlet.k8s/v1","kind":"VirtletImageMapping","metadata":{"name":"one","namespace":"kube-system"},"spec":{"prefix":"a","translations":[{"name":"x","url":"y"}]}},
		{"apiVersion":"virtlet.k8s/v1","kind":"VirtletImageMapping","metadata":{"name":"two","namespace":"kube-system"}}]}`)
	got, err := s.api().ImageMappings(t.Context())
	if err != nil || len(got) != 2 || got[0].Name != "one" || string(got[0].Spec) != `{"prefix":"a","translations":[{"name":"x","url":"y"}]}` || string(got[1].Spec) != "null" {
		t.Errorf("got %s, %v", got, err)
	}
	for answer, c := range map[string]struct {
		class func(error) bool
		want  string
	}{
		"forbidden": {errdefs.IsPermissionDenied, "let a Role grant the verb list for virtletimagemappings.virtlet.k8s in namespace kube-system"},
		"hang":      {errdefs.IsUnavailable, "no answer within 200ms"},
		"web":       {errdefs.IsUnavailable, "cannot be asked"},
		"[]":        {errdefs.IsUnavailable, "VirtletImageMappings: "},
	} {
		s.set(mappingPath, answer)
		a := s.api()
		a.Timeout = 200 * time.Millisecond
		if _, err := a.ImageMappings(t.Context()); !c.class(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", answer, err)
		}
	}
	s.set(mappingPath, "")
	if got, err := s.api().ImageMappings(t.Context()); len(got) > 0 || err != nil {
		t.Errorf("without the CRD: %v, %v", got, err)
	}
	if got, err := noCluster(t).ImageMappings(t.Context()); len(got) > 0 || err != nil {
		t.Errorf("without access: %v, %v", got, err)
	}
}
