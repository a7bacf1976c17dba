package reach

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qemulet/qemulet/internal/api"
)

func dialTCP(address string) (net.Conn, error) { return net.Dial("tcp", address) }

// local serves a list of VMs on a socket.
func local(t *testing.T, vms ...api.VM) *Local {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "api.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != api.VMsPath {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(vms)
	}))
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	reach := NewLocal(socket)
	t.Cleanup(reach.Close)
	return reach
}

func TestLocalPod(t *testing.T) {
	l := local(t, api.VM{Namespace: "default", Name: "web"}, api.VM{Namespace: "team", Name: "web"}, api.VM{Namespace: "team", Name: "db"})
	for _, test := range []struct{ namespace, name, found, err string }{
		{"", "db", "team/db", ""},
		{"team", "web", "team/web", ""},
		{"", "web", "", `pod "web": there are several: default/web, team/web`},
		{"default", "db", "", `there is no VM pod "default/db" on this node`},
		{"", "none", "", `there is no VM pod "none" on this node`},
	} {
		p, err := l.Pod(t.Context(), test.namespace, test.name)
		switch {
		case test.err == "" && (err != nil || p.String() != test.found):
			t.Errorf("%+v: %v, %v", test, p, err)
		case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
			t.Errorf("%+v: %v", test, err)
		}
	}
	names, err := l.Complete(t.Context(), "team")
	if err != nil || fmt.Sprint(names) != "[team/web team/db]" {
		t.Errorf("%v, %v", names, err)
	}
}

func TestLocalWithoutDaemon(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	host, _ := os.Hostname()
	for socket, want := range map[string]string{
		filepath.Join(dir, "none.sock"): "it is not there",
		dead:                            "nobody listens there",
	} {
		_, err := NewLocal(socket).Pod(t.Context(), "", "web")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "node "+host+" cannot be asked through its socket "+socket) {
			t.Errorf("%v", err)
		}
	}
}
