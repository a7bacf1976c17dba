package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/reach"
)

func TestPs(t *testing.T) {
	f := aNode()
	out := f.run(t, "ps")
	for _, want := range []string{`(?m)^default +web +\S+ +running +2 +512Mi +10.1.0.2 +60m$`, `(?m)^team +db +\S+ +exited \(Completed\) +- +- +- +\ds$`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%q does not match\n%s", want, out)
		}
	}
	mentions(t, f.run(t, "ps", "-o", "wide"), "virtlet.cloud/cirros", id[:20])
	if out := f.run(t, "ps", "-n", "team", "-o", "json"); strings.Contains(out, "web") || !json.Valid([]byte(out)) {
		t.Errorf("%s", out)
	}
	mentions(t, f.run(t, "ps", "-o", "yaml"), "  name: web\n")
	mentions(t, (&fakeMachines{}).run(t, "ps"), "there are no VM pods")
	f.fails(t, `accepted: text, wide, json, yaml`, "ps", "-o", "xml")
}

func TestVersion(t *testing.T) {
	mentions(t, aNode().run(t, "version"), "client 0.1.0", ": 1.2.3\n")
	if out := aNode().run(t, "version", "--client", "-o", "short"); strings.Contains(out, "1.2.3") {
		t.Errorf("%s", out)
	}
	differ := versions{Nodes: []nodeVersion{{"a", "1"}, {"b", "1"}, {"c", "2"}}}
	if err := differ.check(); err == nil || err.Error() != "the nodes have different versions: a has 1, c has 2" {
		t.Errorf("%v", err)
	}
}

func TestInspect(t *testing.T) {
	f := aNode()
	mentions(t, f.run(t, "inspect", "web"), "default/web", "running", "pc-q35-7.2", "10.1.0.2/24", "over /images/base", "1.0 GiB for the guest", "/data from /srv, 9p tag=x,ro",
		"command: no effect", "\n/usr/bin/qemu\n  -accel kvm\n  -cpu host,pmu=off\n  -device {\"driver\":\"x\"}\n")
	mentions(t, f.run(t, "inspect", "-n", "team", "db"), "exited (Completed)", "the guest powered off", "It has not been started yet")
	var d nodeDetails
	if err := json.Unmarshal([]byte(f.run(t, "inspect", "-o", "json", "default/web")), &d); err != nil || d.PID != 42 || d.Node == "" || len(d.Config) == 0 {
		t.Errorf("%+v, %v", d, err)
	}
	f.fails(t, `there is no VM pod "gone"`, "inspect", "gone")
	f.fails(t, "takes one argument", "inspect")
}

func TestVerbs(t *testing.T) {
	f := aNode()
	mentions(t, f.run(t, "suspend", "web"), "default/web: suspended\n")
	f.run(t, "reset", "default/web")
	f.run(t, "virsh", "destroy", "--", "@web")
	f.run(t, "virsh", "resume", "@web")
	f.run(t, "-n", "default", "shutdown", "web")
	want := []string{"suspend default/web", "reset default/web", "destroy default/web", "resume default/web", "shutdown default/web"}
	if !slices.Equal(f.done, want) {
		t.Errorf("done %q", f.done)
	}
	f.fails(t, "it is exited", "suspend", "db")
	f.fails(t, `virsh edit: there is no such command here`, "virsh", "edit", "web")
	f.fails(t, "takes one argument", "virsh", "suspend")
}

func TestAsVirsh(t *testing.T) {
	f := aNode()
	out := f.run(t, "virsh", "list")
	mentions(t, out, " 123456789abc   default/web ", "running")
	if strings.Contains(out, "team/db") {
		t.Errorf("%s", out)
	}
	mentions(t, f.run(t, "virsh", "list", "--", "--all"), "team/db", "shut off")
	if out := f.run(t, "list", "--all", "--name"); out != "default/web\nteam/db\n" {
		t.Errorf("%q", out)
	}
	mentions(t, f.run(t, "dominfo", "web"), "CPU time:          1.5s", "Max memory:        524288 KiB", "Used memory:       262144 KiB")
	mentions(t, f.run(t, "domstats", "web"), "Domain: 'default/web'\n", "  state.state=1\n", "  cpu.time=1500000000\n", "  balloon.current=262144\n",
		"  vcpu.0.time=7\n", "  net.0.rx.bytes=10\n", "  block.0.rd.bytes=11\n")
	if out := f.run(t, "virsh", "domstats", "--", "@web", "--vcpu", "--balloon"); strings.Contains(out, "net.") || !strings.Contains(out, "vcpu.") || !strings.Contains(out, "balloon.") {
		t.Errorf("%s", out)
	}
	mentions(t, f.run(t, "dumpxml", "web"), `<domain type="kvm" id="123456789abc">`, `<name>default/web</name>`, `machine="pc-q35-7.2"`, `<model>host</model>`,
		`<disk type="file" device="disk">`, `<source file="/pods/root.qcow2">`, `<disk type="block" device="disk">`, `<mac address="02:00:00:00:00:01">`, `<ip address="10.1.0.2" prefix="24">`, `<target dir="/data">`)
	f.fails(t, "unknown flag: --nope", "virsh", "domstats", "--", "@web", "--nope")
}

func TestDomainStates(t *testing.T) {
	for state, want := range map[api.State]string{api.StateSuspended: "paused 3", api.StateNone: "no state 0", "io-error": "paused, io-error 3", api.StateExited: "shut off 5"} {
		if word, number := domainState(api.VM{State: state}); fmt.Sprint(word, " ", number) != want {
			t.Errorf("%s: %s %d", state, word, number)
		}
	}
}

// A person without a terminal: what is piped in goes to the guest, and the end of
// the VM ends the session.
func TestConsole(t *testing.T) {
	f := aNode()
	f.console = func(_ context.Context, in io.Reader, out io.Writer) error {
		io.WriteString(out, "login: ")
		typed := make([]byte, 5)
		if _, err := io.ReadFull(in, typed); err != nil {
			return err
		}
		fmt.Fprintf(out, "hello %s", typed)
		return nil
	}
	l := reach.NewLocal(start(t, f))
	defer l.Close()
	p, err := l.Pod(t.Context(), "", "web")
	if err != nil {
		t.Fatal(err)
	}
	in, keys, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer keys.Close()
	io.WriteString(keys, "root\n")
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := console(t.Context(), p, in, out, io.Discard); err == nil || !strings.Contains(err.Error(), "the console of default/web was closed by the node") {
		t.Errorf("ended with %v", err)
	}
	if shown, _ := os.ReadFile(out.Name()); string(shown) != "login: hello root\n" {
		t.Errorf("shown %q", shown)
	}
	f.console = nil
	if err := console(t.Context(), p, in, out, io.Discard); err == nil || !strings.Contains(err.Error(), "it has no console") {
		t.Errorf("without one: %v", err)
	}
}

func TestForward(t *testing.T) {
	guest, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	go func() {
		for {
			conn, err := guest.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn); conn.Close() }()
		}
	}()
	f := aNode()
	f.guest = guest.Addr().String()
	l := reach.NewLocal(start(t, f))
	defer l.Close()
	p, err := l.Pod(t.Context(), "", "web")
	if err != nil {
		t.Fatal(err)
	}
	fw, err := forward(t.Context(), p, 22)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", fw.port()))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "echo")
		got := make([]byte, 4)
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != "echo" {
			t.Errorf("%q, %v", got, err)
		}
		conn.Close()
	}
	fw.close()
	guest.Close()
	if _, err := forward(t.Context(), p, 22); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a port that is closed: %v", err)
	}
}

func TestSSHArgs(t *testing.T) {
	user, pod := splitUser("me@team/web")
	args := strings.Join(sshArgs(2222, user, []string{"-v", "uptime"}), " ")
	if pod != "team/web" || !strings.HasSuffix(args, "-p 2222 -l me 127.0.0.1 -v uptime") || !strings.Contains(args, "StrictHostKeyChecking=no") {
		t.Errorf("%s: %s", pod, args)
	}
	if user, pod := splitUser("web"); user != "" || pod != "web" {
		t.Errorf("%q %q", user, pod)
	}
}

func TestValidateHere(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	f := aNode()
	f.node.Conditions[0].Message = "VMs are emulated and slow: no KVM"
	f.node.Conditions[1] = api.Condition{Type: "NetworkReady", Message: "no CNI configuration"}
	out, err := command(t, "--socket", start(t, f), "validate")
	if !errors.Is(err, errUnwell) {
		t.Errorf("%v", err)
	}
	mentions(t, out, "the daemon answers, version 1.2.3", "note node ", "VMs are emulated and slow", "BAD  node ", "no CNI configuration", "/etc/cni/net.d", "BAD  criproxy is not on this machine")
	out, err = command(t, "--socket", filepath.Join(t.TempDir(), "none"), "validate")
	if !errors.Is(err, errUnwell) {
		t.Errorf("%v", err)
	}
	mentions(t, out, "BAD  the daemon of node", "journalctl -u qemulet")

	bin := t.TempDir()
	script := "#!/bin/sh\necho \"ok   doctor was given $*\"\n"
	if err := os.WriteFile(filepath.Join(bin, "criproxy"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":/bin:/usr/bin")
	if out, err := command(t, "--socket", start(t, aNode()), "validate"); err != nil || !strings.Contains(out, "ok   doctor was given doctor") {
		t.Errorf("%v: %s", err, out)
	}
	if got := proxyArgsIn("A=b \"CRIPROXY_ARGS=-connect /run/c.sock,x:/run/q.sock -listen /run/l.sock\"\n"); !slices.Equal(got, []string{"-connect", "/run/c.sock,x:/run/q.sock", "-listen", "/run/l.sock"}) {
		t.Errorf("%q", got)
	}
}

func TestGen(t *testing.T) {
	all, err := command(t, "gen", "--image", "registry.example.com/node:1")
	if err != nil {
		t.Fatal(err)
	}
	mentions(t, all, "kind: DaemonSet", "kind: RuntimeClass", "image: registry.example.com/node:1\n", "name: virtlet-image-translations")
	if strings.Contains(all, "image: "+nodeImage+"\n") {
		t.Error("the base's image is there")
	}
	crds, err := command(t, "gen", "--crd")
	if err != nil || !strings.Contains(crds, "virtletimagemappings.virtlet.k8s") || strings.Contains(crds, "kind: DaemonSet") {
		t.Errorf("%v: %s", err, crds)
	}
	if _, err := command(t, "gen", "--image", "a b"); err == nil || !strings.Contains(err.Error(), `--image "a b": the name of a container image is accepted`) {
		t.Errorf("%v", err)
	}
}

func TestInstall(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bin")
	for range 2 {
		out, err := command(t, "install", dir)
		if err != nil {
			t.Fatal(err)
		}
		mentions(t, out, "installed "+dir+"/kubectl-virt", "is not in your PATH")
	}
	found, err := os.ReadDir(dir)
	if err != nil || len(found) != 2 {
		t.Fatalf("%v, %v", found, err)
	}
	for _, file := range found {
		if info, err := file.Info(); err != nil || info.Mode() != 0o755 {
			t.Errorf("%v, %v", info, err)
		}
	}
	if nameOf(filepath.Join(dir, "kubectl-virt")) != "kubectl virt" || nameOf("/bin/qemuletctl") != "qemuletctl" {
		t.Error("names")
	}
}

func TestRelay(t *testing.T) {
	in, far := io.Pipe()
	got, out := io.Pipe()
	done := make(chan error, 1)
	socket := start(t, aNode())
	go func() { done <- relay(t.Context(), socket, in, out) }()
	go io.WriteString(far, "GET /v1/node HTTP/1.1\r\nHost: x\r\n\r\n")
	buf := make([]byte, 15)
	if _, err := io.ReadFull(got, buf); err != nil || string(buf) != "HTTP/1.1 200 OK" {
		t.Errorf("%q, %v", buf, err)
	}
	go io.Copy(io.Discard, got)
	far.Close()
	if err := <-done; err != nil {
		t.Errorf("ended with %v", err)
	}
	if err := relay(t.Context(), socket+"x", nil, nil); err == nil || !strings.Contains(err.Error(), "the daemon's api socket "+socket+"x") {
		t.Errorf("%v", err)
	}
}

// Every command has a help with examples, in which the program has the name that
// it was called by.
func TestHelp(t *testing.T) {
	root := newRootCommand(pluginName)
	for _, c := range root.Commands() {
		if c.Hidden || c.Name() == "completion" || c.Name() == "help" {
			continue
		}
		if c.Short == "" || c.Long == "" || c.Example == "" {
			t.Errorf("%s lacks help", c.Name())
		}
		if strings.Contains(c.Long+c.Example+c.Short, "PROGRAM") || !strings.Contains(c.Example, "kubectl virt ") {
			t.Errorf("%s: %s", c.Name(), c.Example)
		}
	}
}
