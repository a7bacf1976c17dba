package criproxy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestExamineSeesWhatIsWrong(t *testing.T) {
	n := newNode(t)
	_, err := n.runtime.Version(t.Context(), &runtimeapi.VersionRequest{})
	check(t, err)
	text := func() (good, bad string) {
		e := Examination{Proxy: n.socket, Primary: n.options.Primary, VM: n.options.VM, Handlers: n.options.Handlers}
		for _, f := range Examine(t.Context(), e) {
			if f.OK {
				good += f.Text + "\n"
			} else {
				bad += f.Text + " -> " + f.Advice + "\n"
			}
		}
		return good, bad
	}
	good, bad := text()
	for _, want := range []string{"the primary runtime at " + n.options.Primary + " answers: primary 1.0.0", "the VM runtime at", "the proxy at", "virtlet"} {
		if !strings.Contains(good, want) {
			t.Errorf("%q is not in\n%s", want, good)
		}
	}
	if want := "kubelet does not talk through the proxy"; !strings.Contains(bad, want) || !strings.Contains(bad, "containerRuntimeEndpoint: unix://"+n.socket) {
		t.Errorf("%q is not in\n%s", want, bad)
	}
	other := Examine(t.Context(), Examination{Proxy: n.socket, Primary: n.options.Primary, VM: n.options.VM, Handlers: []string{"kata"}})
	if f := other[3]; f.OK || !strings.Contains(f.Text, `the handler "kata"`) {
		t.Errorf("a handler that the proxy does not have: %+v", f)
	}
	n.vm.stop()
	if _, bad = text(); !strings.Contains(bad, "the VM runtime at "+n.options.VM+" does not answer") || !strings.Contains(bad, "Unreachable") {
		t.Errorf("the VM runtime is away:\n%s", bad)
	}
}

func TestPeersAreNamed(t *testing.T) {
	n := newNode(t)
	for range 3 {
		_, err := n.runtime.Version(t.Context(), &runtimeapi.VersionRequest{})
		check(t, err)
	}
	all, err := Peers(t.Context(), n.socket)
	check(t, err)
	if len(all) != 1 || all[0].PID != os.Getpid() || all[0].Command == "" || all[0].Calls < 3 {
		t.Errorf("peers: %+v", all)
	}
}

func TestEndpointOfAKubelet(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o700))
		check(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o600))
	}
	write("etc/kubelet.yaml", "containerRuntimeEndpoint: unix:///file.sock\n")
	write("etc/conf.d/10.conf", "containerRuntimeEndpoint: unix:///drop-in.sock\n")
	for args, want := range map[string]string{
		"kubelet":                            "",
		"kubelet --config=/etc/kubelet.yaml": "unix:///file.sock",
		"kubelet --config /etc/kubelet.yaml --config-dir=/etc/conf.d":                               "unix:///drop-in.sock",
		"kubelet --config /etc/kubelet.yaml --container-runtime-endpoint=unix:///flag.sock --v 2":   "unix:///flag.sock",
		"kubelet --config=/etc/nosuch.yaml --container-runtime-endpoint unix:///flag.sock":          "unix:///flag.sock",
		"kubelet --config=/etc/nosuch.yaml --config-dir=/etc/nosuch --container-runtime-endpoint=x": "x",
	} {
		if got := endpointOf(root, strings.Fields(args)); got != want {
			t.Errorf("%s: %q, want %q", args, got, want)
		}
	}
}
