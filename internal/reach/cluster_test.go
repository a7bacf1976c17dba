package reach

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// apiServer is an API server that has pods.
type apiServer struct {
	*httptest.Server
	t    *testing.T
	pods []corev1.Pod
	// exec serves execs, by the name of the pod.
	exec func(w http.ResponseWriter, r *http.Request, pod string)
}

func newAPIServer(t *testing.T, pods ...corev1.Pod) *apiServer {
	t.Helper()
	s := &apiServer{t: t, pods: pods}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/namespaces/{namespace}/pods", s.list)
	mux.HandleFunc("GET /api/v1/namespaces/{namespace}/pods/{name}", s.get)
	mux.HandleFunc("/api/v1/namespaces/{namespace}/pods/{name}/exec", func(w http.ResponseWriter, r *http.Request) {
		s.exec(w, r, r.PathValue("name"))
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func (s *apiServer) reply(w http.ResponseWriter, code int, what any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(what); err != nil {
		s.t.Error(err)
	}
}

func (s *apiServer) list(w http.ResponseWriter, r *http.Request) {
	found := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}}
	labels := r.URL.Query().Get("labelSelector")
	node := strings.TrimPrefix(r.URL.Query().Get("fieldSelector"), "spec.nodeName=")
	for _, p := range s.pods {
		matches := labels == "" || "app.kubernetes.io/name="+p.Labels["app.kubernetes.io/name"] == labels
		if p.Namespace == r.PathValue("namespace") && matches && (node == "" || p.Spec.NodeName == node) {
			found.Items = append(found.Items, p)
		}
	}
	s.reply(w, http.StatusOK, found)
}

func (s *apiServer) get(w http.ResponseWriter, r *http.Request) {
	for _, p := range s.pods {
		if p.Namespace == r.PathValue("namespace") && p.Name == r.PathValue("name") {
			s.reply(w, http.StatusOK, p)
			return
		}
	}
	s.reply(w, http.StatusNotFound, metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: http.StatusNotFound,
		Reason: metav1.StatusReasonNotFound, Message: "pods not found",
	})
}

func (s *apiServer) cluster(node string) *Cluster {
	s.t.Helper()
	c, err := NewCluster(&rest.Config{Host: s.URL}, "default", node)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

func vmPod(namespace, name, node string, change ...func(*corev1.Pod)) corev1.Pod {
	p := corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: map[string]string{runtimeAnnotation: runtimeName}},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "vm"}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, c := range change {
		c(&p)
	}
	return p
}

func daemonPod(node string, change ...func(*corev1.Pod)) corev1.Pod {
	return vmPod(DaemonNamespace, "qemulet-"+node, node, append([]func(*corev1.Pod){func(p *corev1.Pod) {
		p.Labels = map[string]string{"app.kubernetes.io/name": "qemulet"}
		p.Annotations = nil
		p.Spec.Containers[0].Name = "node"
	}}, change...)...)
}

func byClass(p *corev1.Pod) {
	class := runtimeClass
	p.Annotations, p.Spec.RuntimeClassName = nil, &class
}

func TestPodLeadsToItsNode(t *testing.T) {
	s := newAPIServer(t, vmPod("default", "web", "b"), vmPod("team", "db", "a", byClass), daemonPod("a"), daemonPod("b"))
	c := s.cluster("")
	for _, test := range []struct{ namespace, name, node string }{{"", "web", "b"}, {"default", "web", "b"}, {"team", "db", "a"}} {
		p, err := c.Pod(t.Context(), test.namespace, test.name)
		if err != nil {
			t.Fatal(err)
		}
		if p.Node != test.node || !strings.Contains(p.Way, "kube-system/qemulet-"+test.node) {
			t.Errorf("%s: %+v", test.name, p)
		}
	}
}

func TestPodsThatAreNone(t *testing.T) {
	plain := func(p *corev1.Pod) { p.Annotations = nil }
	two := func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "side"}) }
	s := newAPIServer(t, vmPod("default", "plain", "a", plain), vmPod("default", "two", "a", two),
		vmPod("default", "waiting", ""), vmPod("default", "alone", "c"), vmPod("default", "good", "a"), daemonPod("a"))
	for name, want := range map[string]string{
		"plain":   "pod default/plain is no VM pod: it has neither the annotation kubernetes.io/target-runtime: virtlet.cloud nor runtimeClassName: virtlet",
		"two":     "pod default/two has 2 containers; a VM pod has exactly one",
		"waiting": "is not on a node yet",
		"alone":   "node c has no running pod with the label app.kubernetes.io/name=qemulet in namespace kube-system",
		"gone":    "there is no pod default/gone in the cluster of the API server " + s.URL,
	} {
		if _, err := s.cluster("").Pod(t.Context(), "", name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	if _, err := s.cluster("b").Pod(t.Context(), "", "good"); err == nil || !strings.Contains(err.Error(), "is on node a, and --node says b") {
		t.Errorf("another node: %v", err)
	}
}

func TestDaemons(t *testing.T) {
	pending := func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending; p.Name = "new" }
	s := newAPIServer(t, daemonPod("b"), daemonPod("a"), daemonPod("a", pending), daemonPod("c", pending))
	for node, want := range map[string]string{"": "[a b]", "b": "[b]"} {
		all, err := s.cluster(node).Daemons(t.Context())
		var names []string
		for _, d := range all {
			names = append(names, d.Node)
		}
		if err != nil || fmt.Sprint(names) != want {
			t.Errorf("%q: %v, %v", node, names, err)
		}
	}
	if _, err := s.cluster("c").Daemons(t.Context()); err == nil || !strings.Contains(err.Error(), "node c has no running pod") {
		t.Errorf("%v", err)
	}
}

func TestComplete(t *testing.T) {
	s := newAPIServer(t, vmPod("default", "web", "a"), vmPod("default", "db", "a"), vmPod("team", "x", "a"), daemonPod("a"))
	for namespace, want := range map[string]string{"": "[default/db default/web]", "team": "[team/x]", "kube-system": "[]"} {
		names, err := s.cluster("").Complete(t.Context(), namespace)
		if err != nil || fmt.Sprint(names) != want {
			t.Errorf("%q: %v, %v", namespace, names, err)
		}
	}
}

func TestParsePod(t *testing.T) {
	for _, test := range []struct{ flag, text, namespace, name, err string }{
		{"", "web", "", "web", ""},
		{"team", "web", "team", "web", ""},
		{"", "team/web", "team", "web", ""},
		{"team", "team/web", "team", "web", ""},
		{"other", "team/web", "", "", `--namespace says "other"`},
		{"", "", "", "", "NAME and NAMESPACE/NAME are accepted"},
		{"", "/web", "", "", "NAME and NAMESPACE/NAME are accepted"},
		{"", "team/", "", "", "NAME and NAMESPACE/NAME are accepted"},
		{"", "a/b/c", "", "", "NAME and NAMESPACE/NAME are accepted"},
	} {
		namespace, name, err := ParsePod(test.flag, test.text)
		if namespace != test.namespace || name != test.name || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%q %q: %q %q %v", test.flag, test.text, namespace, name, err)
		}
	}
}
