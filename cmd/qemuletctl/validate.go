package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/reach"
)

const validateHelp = `Look whether VMs can run, and say what to do where they cannot.

On a node: whether the daemon answers, QEMU and the CNI configuration are usable,
KVM works, and the proxy is between kubelet and the runtimes (criproxy doctor), if
a kubelet or the proxy is there to be used.
From afar: the same of each node with the label extraRuntime=virtlet, whether the
nodes and the pods of the DaemonSet on them are ready, kubelet knows of VMs, which
it does by the proxy, and the RuntimeClass is there.

The exit code is 1 when something is wrong. That VMs are emulated because there is
no KVM is said, and is not wrong.`

const validateExamples = `  PROGRAM validate
  PROGRAM validate --node worker-3`

// validateLimit bounds all of it.
const validateLimit = time.Minute

var errUnwell = errors.New("not all is well, see above")

func newValidateCommand(a *access) *cobra.Command {
	return a.with(&cobra.Command{
		Use: "validate", Short: "Look whether VMs can run", Long: validateHelp, Example: validateExamples, Args: cobra.NoArgs,
	}, func(cmd *cobra.Command, r reach.Reach, _ []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), validateLimit)
		defer cancel()
		v := &validation{out: cmd.OutOrStdout()}
		if c, far := r.(*reach.Cluster); far {
			v.cluster(ctx, c)
		} else {
			v.here(ctx, r)
		}
		if v.wrong {
			return errUnwell
		}
		return nil
	})
}

// validation writes what it finds.
type validation struct {
	out   io.Writer
	wrong bool
}

func (v *validation) ok(text string, args ...any) { fmt.Fprintf(v.out, "ok   "+text+"\n", args...) }

func (v *validation) note(text string, args ...any) { fmt.Fprintf(v.out, "note "+text+"\n", args...) }

// bad is for what keeps VMs from running, and says what to do.
func (v *validation) bad(advice, text string, args ...any) {
	v.wrong = true
	fmt.Fprintf(v.out, "BAD  "+text+"\n", args...)
	fmt.Fprintln(v.out, "      ->", advice)
}

// here looks at this machine.
func (v *validation) here(ctx context.Context, r reach.Reach) {
	daemons, err := r.Daemons(ctx)
	if err != nil {
		v.bad("see the message", "%v", err)
		return
	}
	for _, d := range daemons {
		v.daemon(ctx, d)
	}
	if property(ctx, "kubelet.service", "LoadState") == "not-found" && property(ctx, "criproxy.service", "UnitFileState") == "disabled" {
		v.note("no kubelet is installed here, and the proxy is not enabled: pods come from `qemulet run` and crictl")
		return
	}
	v.proxy(ctx)
}

// daemon asks for what CRI calls conditions.
func (v *validation) daemon(ctx context.Context, d *reach.Daemon) {
	var n api.Node
	if err := d.Call(ctx, http.MethodGet, api.NodePath, nil, &n); err != nil {
		v.bad("on the node: systemctl status qemulet; journalctl -u qemulet", "%v", err)
		return
	}
	v.ok("node %s: the daemon answers, version %s", d.Node, n.Version)
	for _, c := range n.Conditions {
		switch {
		case !c.Status:
			v.bad(adviceFor[c.Type], "node %s: %s: %s", d.Node, c.Type, c.Message)
		case c.Message != "":
			v.note("node %s: %s: %s", d.Node, c.Type, c.Message)
		default:
			v.ok("node %s: %s", d.Node, c.Type)
		}
	}
}

// adviceFor says what to do for the conditions of a runtime.
var adviceFor = map[string]string{
	"RuntimeReady": "install QEMU on the node: qemu-system-x86 (Debian, Ubuntu) or qemu-kvm (Fedora, RHEL)",
	"NetworkReady": "install the network of the cluster: its plugin writes a configuration to /etc/cni/net.d",
}

// proxy has the proxy of this machine look at itself, with the options that its
// service has.
func (v *validation) proxy(ctx context.Context) {
	program, err := exec.LookPath("criproxy")
	if err != nil {
		v.bad("qemulet-node-install install puts it there; docs/kubelet.md says what it is for", "criproxy is not on this machine")
		return
	}
	out, err := exec.CommandContext(ctx, program, append([]string{"doctor"}, proxyArgs(ctx)...)...).CombinedOutput()
	_, _ = v.out.Write(out)
	if err != nil {
		v.bad("see above, and docs/kubelet.md", "the proxy is not as it should be")
	}
}

// proxyArgs are what node-install.sh gives to the service; none where there is no
// systemd.
func proxyArgs(ctx context.Context) []string {
	return proxyArgsIn(property(ctx, "criproxy.service", "Environment"))
}

// property is what systemd says of a unit; "" where there is no systemd.
func property(ctx context.Context, unit, name string) string {
	out, err := exec.CommandContext(ctx, "systemctl", "show", "--property="+name, "--value", unit).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// proxyArgsIn reads the environment as systemctl writes it: a variable with spaces
// is in quotes.
func proxyArgsIn(environment string) []string {
	_, rest, ok := strings.Cut(environment, `"CRIPROXY_ARGS=`)
	if !ok {
		return nil
	}
	value, _, _ := strings.Cut(rest, `"`)
	return strings.Fields(value)
}
