package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/qemulet/qemulet/internal/reach"
)

func chosen(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	root := &cobra.Command{SilenceErrors: true, SilenceUsage: true}
	a := newAccess(root.PersistentFlags(), name == pluginName)
	way := ""
	root.AddCommand(a.with(&cobra.Command{Use: "look"}, func(_ *cobra.Command, r reach.Reach, _ []string) error {
		way = r.String()
		return nil
	}))
	root.SetArgs(append([]string{"look"}, args...))
	return way, root.Execute()
}

// kubeconfig writes one whose API server is this.
func kubeconfig(t *testing.T, server string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	text := `{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: k, user: u, namespace: team}}], clusters: [{name: k, cluster: {server: "` + server + `"}}], users: [{name: u, user: {token: t}}]}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhichWay(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "api.sock")
	file := kubeconfig(t, "https://far.example")
	t.Setenv("KUBECONFIG", file)
	t.Setenv("QEMULET_API_SOCKET", socket)
	t.Setenv("QEMULET_CONFIG", "")
	const far, near = "the cluster of the API server https://far.example", "the daemon of this machine, through its socket "
	for _, test := range []struct {
		there bool
		name  string
		args  []string
		want  string
	}{
		{false, ownName, nil, far},
		{true, ownName, nil, near + socket},
		{true, ownName, []string{"-n", "team"}, near + socket},
		{true, ownName, []string{"--kubeconfig", file}, far},
		{true, ownName, []string{"--context", "c"}, far},
		{true, ownName, []string{"--node", "a"}, far},
		{true, pluginName, nil, far},
		{true, pluginName, []string{"--socket", "/x"}, near + "/x"},
		{false, ownName, []string{"--socket", "/x"}, near + "/x"},
	} {
		_ = os.Remove(socket)
		if test.there {
			if err := os.WriteFile(socket, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := chosen(t, test.name, test.args...); err != nil || got != test.want {
			t.Errorf("%+v: %q, %v", test, got, err)
		}
	}
	if _, err := chosen(t, ownName, "--socket", "/x", "--context", "c"); err == nil || !strings.Contains(err.Error(), "--socket means this machine, --context another") {
		t.Errorf("%v", err)
	}
	t.Setenv("KUBECONFIG", filepath.Join(dir, "none"))
	if _, err := chosen(t, pluginName); err == nil || !strings.Contains(err.Error(), "no kubeconfig file says where a cluster is") {
		t.Errorf("%v", err)
	}
}

// The cluster as validate sees it.
func TestValidateCluster(t *testing.T) {
	node := func(name string, ready corev1.ConditionStatus, handlers ...string) corev1.Node {
		n := corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"extraRuntime": "virtlet"}}}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, Message: "so it says"}}
		for _, h := range handlers {
			n.Status.RuntimeHandlers = append(n.Status.RuntimeHandlers, corev1.NodeRuntimeHandler{Name: h})
		}
		return n
	}
	nodes := corev1.NodeList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "NodeList"}, Items: []corev1.Node{
		node("good", corev1.ConditionTrue, "", "runc", "virtlet"), node("bad", corev1.ConditionFalse, "", "runc")}}
	mux := http.NewServeMux()
	reply := func(path string, what any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(what)
		})
	}
	reply("/api/v1/nodes", nodes)
	reply("/api/v1/namespaces/kube-system/pods", corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	out, err := command(t, "--kubeconfig", kubeconfig(t, s.URL), "validate")
	if err != errUnwell {
		t.Errorf("%v", err)
	}
	mentions(t, out, "node good is Ready", "node good: kubelet knows the handler virtlet", "BAD  node bad is not Ready: so it says",
		`node bad: kubelet does not know the handler virtlet, only ["" "runc"]`, "node bad has no running pod of the DaemonSet qemulet")
	if reach.NodeLabel != "extraRuntime=virtlet" {
		t.Error("the label is Virtlet's")
	}
}

// twoNodes has one that answers and one that does not.
type twoNodes struct {
	reach.Reach
	socket string
}

func (n twoNodes) Daemons(context.Context) ([]*reach.Daemon, error) {
	good := reach.NewDaemon("a", "here", func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", n.socket)
	})
	bad := reach.NewDaemon("b", "by an exec", func(context.Context) (net.Conn, error) { return nil, errors.New("the kubelet is away") })
	return []*reach.Daemon{good, bad}, nil
}

func TestOneNodeIsAway(t *testing.T) {
	r := twoNodes{socket: start(t, aNode())}
	all, err := listVMs(t.Context(), r, "")
	if len(all) != 2 || all[0].Node != "a" || err == nil || err.Error() != "the daemon of node b cannot be asked by an exec: the kubelet is away" {
		t.Errorf("%+v, %v", all, err)
	}
	daemons, _ := r.Daemons(t.Context())
	var out strings.Builder
	if err := printDomains(&out, daemons, all, false); err != nil {
		t.Error(err)
	}
	mentions(t, out.String(), "node a:\n Id", "default/web", "\nnode b:\n Id")
}
