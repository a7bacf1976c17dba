package criproxy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"sigs.k8s.io/yaml"
)

// Examination says what to look at: sockets, and the RuntimeClass handlers that
// pods shall be able to name.
type Examination struct {
	Proxy, Primary, VM string
	Handlers           []string
}

// Finding is one thing that was looked at.
type Finding struct {
	OK   bool
	Text string
	// Advice says what to do, "" for nothing.
	Advice string
}

// recent is how long ago a kubelet that is alive may have asked for something
// last: it lists its pods every second.
const recent = time.Minute

// Examine tells whether the proxy, the runtimes behind it, and kubelet before
// it are connected as they should be.
func Examine(ctx context.Context, e Examination) []Finding {
	all := []Finding{
		answers(ctx, "the primary runtime", e.Primary),
		answers(ctx, "the VM runtime", e.VM),
	}
	proxy := answers(ctx, "the proxy", e.Proxy)
	all = append(all, proxy)
	if proxy.OK {
		all = append(all, e.condition(ctx), e.whoTalks(ctx))
	}
	return append(all, e.settings()...)
}

func answers(ctx context.Context, who, socket string) Finding {
	b, err := newBackend(socket)
	if err != nil {
		return Finding{Text: fmt.Sprintf("%s at %s: %v", who, socket, err)}
	}
	defer b.conn.Close()
	v, err := b.runtime().Version(ctx, &runtimeapi.VersionRequest{})
	if err != nil {
		return Finding{Text: fmt.Sprintf("%s at %s does not answer: %v", who, socket, err), Advice: "is its service running, and is this its socket?"}
	}
	return Finding{OK: true, Text: fmt.Sprintf("%s at %s answers: %s %s", who, socket, v.GetRuntimeName(), v.GetRuntimeVersion())}
}

// condition looks at the VM runtime through the proxy.
func (e Examination) condition(ctx context.Context) Finding {
	b, err := newBackend(e.Proxy)
	if err != nil {
		return Finding{Text: err.Error()}
	}
	defer b.conn.Close()
	got, err := b.runtime().Status(ctx, &runtimeapi.StatusRequest{})
	if err != nil {
		return Finding{Text: fmt.Sprintf("the proxy's Status: %v", err)}
	}
	var names []string
	for _, h := range got.GetRuntimeHandlers() {
		names = append(names, h.GetName())
	}
	for _, handler := range e.Handlers {
		if !slices.Contains(names, handler) {
			return Finding{Text: fmt.Sprintf("the proxy at %s does not tell kubelet of the handler %q, but of: %s", e.Proxy, handler, strings.Join(names, " ")),
				Advice: "name the same -handlers here and where it serves"}
		}
	}
	for _, c := range got.GetStatus().GetConditions() {
		switch {
		case c.GetType() != VMCondition:
		case !c.GetStatus():
			return Finding{Text: fmt.Sprintf("through the proxy the VM runtime is not ready: %s: %s", c.GetReason(), c.GetMessage())}
		default:
			return Finding{OK: true, Text: fmt.Sprintf("through the proxy the VM runtime is ready; handlers: %s", strings.Join(names, " "))}
		}
	}
	return Finding{Text: fmt.Sprintf("what answers at %s is not this proxy: its Status has no condition %s", e.Proxy, VMCondition),
		Advice: "name the proxy's socket by -listen"}
}

// whoTalks looks for kubelet among those who have called.
func (e Examination) whoTalks(ctx context.Context) Finding {
	peers, err := Peers(ctx, e.Proxy)
	if err != nil {
		return Finding{Text: fmt.Sprintf("who talks through the proxy: %v", err)}
	}
	i := slices.IndexFunc(peers, func(p Peer) bool { return isKubelet(p.Command) && time.Since(p.Last) < recent })
	if i < 0 {
		return Finding{Text: "kubelet does not talk through the proxy: it has not called within the last minute",
			Advice: "set containerRuntimeEndpoint: unix://" + e.Proxy + " in kubelet's configuration (or --container-runtime-endpoint) and restart it"}
	}
	return Finding{OK: true, Text: fmt.Sprintf("kubelet (process %d) talks through the proxy: %d calls, the last %s ago",
		peers[i].PID, peers[i].Calls, time.Since(peers[i].Last).Round(time.Millisecond))}
}

// isKubelet tells a kubelet by its program's name; some distributions have all
// of Kubernetes in one program.
func isKubelet(command string) bool { return command == "kubelet" || command == "hyperkube" }

// settings compares what the kubelets on this machine are told with the
// proxy's socket.
func (e Examination) settings() []Finding {
	var all []Finding
	commands, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range commands {
		raw, err := os.ReadFile(path)
		args := strings.Split(strings.TrimRight(string(raw), "\x00"), "\x00")
		if err != nil || !isKubelet(filepath.Base(args[0])) {
			continue
		}
		pid := filepath.Base(filepath.Dir(path))
		all = append(all, e.setting(pid, endpointOf(filepath.Join(filepath.Dir(path), "root"), args)))
	}
	if all == nil {
		return []Finding{{Text: "there is no kubelet on this machine", Advice: "start it; without it only crictl can use the proxy"}}
	}
	return all
}

func (e Examination) setting(pid, endpoint string) Finding {
	f := Finding{OK: strings.TrimPrefix(endpoint, "unix://") == e.Proxy, Text: fmt.Sprintf("kubelet (process %s) is told to use %s", pid, endpoint)}
	if endpoint == "" {
		f.Text = fmt.Sprintf("kubelet (process %s): its runtime's endpoint is neither in its arguments nor in its configuration file", pid)
	}
	if !f.OK {
		f.Advice = "it should be unix://" + e.Proxy
	}
	return f
}

// endpointOf finds kubelet's endpoint as kubelet does: its flag wins over
// drop-in files, and those over the configuration file. root is kubelet's root
// directory.
func endpointOf(root string, args []string) string {
	if endpoint := flagOf(args, "container-runtime-endpoint"); endpoint != "" {
		return endpoint
	}
	var files []string
	if file := flagOf(args, "config"); file != "" {
		files = append(files, filepath.Join(root, file))
	}
	if dir := flagOf(args, "config-dir"); dir != "" {
		dropIns, _ := filepath.Glob(filepath.Join(root, dir, "*.conf"))
		files = append(files, dropIns...)
	}
	endpoint := ""
	for _, file := range files {
		var c struct {
			ContainerRuntimeEndpoint string `json:"containerRuntimeEndpoint"`
		}
		raw, err := os.ReadFile(file)
		if err == nil && yaml.Unmarshal(raw, &c) == nil && c.ContainerRuntimeEndpoint != "" {
			endpoint = c.ContainerRuntimeEndpoint
		}
	}
	return endpoint
}

// flagOf is the value of a flag, "" if it is not given.
func flagOf(args []string, name string) (value string) {
	for i, arg := range args {
		switch {
		case strings.HasPrefix(arg, "--"+name+"="):
			_, value, _ = strings.Cut(arg, "=")
		case arg == "--"+name && i+1 < len(args):
			value = args[i+1]
		}
	}
	return value
}
