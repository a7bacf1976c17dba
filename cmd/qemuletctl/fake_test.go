package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/internal/api"
)

// fakeMachines is a daemon with VMs, which notes what is done with them.
type fakeMachines struct {
	node    api.Node
	all     []api.VMDetails
	stats   api.VMStats
	console func(ctx context.Context, in io.Reader, out io.Writer) error
	guest   string // the address behind all ports
	done    []string
}

func (f *fakeMachines) Node(context.Context) api.Node { return f.node }

func (f *fakeMachines) List(context.Context) (all []api.VM) {
	for _, d := range f.all {
		all = append(all, d.VM)
	}
	return all
}

func (f *fakeMachines) Get(_ context.Context, namespace, name string) (api.VMDetails, error) {
	for _, d := range f.all {
		if d.Namespace == namespace && d.Name == name {
			return d, nil
		}
	}
	return api.VMDetails{}, fmt.Errorf("no pod %s/%s: %w", namespace, name, errdefs.ErrNotFound)
}

func (f *fakeMachines) Stats(ctx context.Context, namespace, name string) (api.VMStats, error) {
	d, err := f.Get(ctx, namespace, name)
	s := f.stats
	s.VM = d.VM
	return s, err
}

func (f *fakeMachines) Do(ctx context.Context, namespace, name string, verb api.Verb) (api.VM, error) {
	f.done = append(f.done, fmt.Sprintf("%s %s/%s", verb, namespace, name))
	d, err := f.Get(ctx, namespace, name)
	if d.State == api.StateExited {
		err = fmt.Errorf("it is exited: %w", errdefs.ErrFailedPrecondition)
	}
	return d.VM, err
}

func (f *fakeMachines) Console(context.Context, string, string) (func(context.Context, io.Reader, io.Writer) error, error) {
	if f.console == nil {
		return nil, fmt.Errorf("it has no console: %w", errdefs.ErrFailedPrecondition)
	}
	return f.console, nil
}

func (f *fakeMachines) Dial(context.Context, string, string, uint16) (net.Conn, error) {
	return net.Dial("tcp", f.guest)
}

func start(t *testing.T, f *fakeMachines) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctl") // t.TempDir's names are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "api.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(api.Handler(api.Options{Machines: f, Metrics: http.NotFoundHandler(), Sessions: http.NotFoundHandler()}))
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return socket
}

// command runs the program and returns what it printed.
func command(t *testing.T, args ...string) (string, error) {
	t.Helper()
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	var out bytes.Buffer
	root := newRootCommand(ownName)
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func (f *fakeMachines) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := command(t, append([]string{"--socket", start(t, f)}, args...)...)
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return out
}

// fails runs a command that has to fail with these words.
func (f *fakeMachines) fails(t *testing.T, words string, args ...string) {
	t.Helper()
	if out, err := command(t, append([]string{"--socket", start(t, f)}, args...)...); err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("%v: got %v, want %q; %s", args, err, words, out)
	}
}

func mentions(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is missing in\n%s", w, text)
		}
	}
}

const id = "716d6c74123456789abcffffffffffffffffffffffffffffffffffffffffffff"

// aNode has a VM that runs and one that has ended.
func aNode() *fakeMachines {
	web := api.VMDetails{
		VM: api.VM{Namespace: "default", Name: "web", UID: "u1", SandboxID: "s1", ID: id, State: api.StateRunning, VCPUs: 2, MemoryBytes: 512 << 20,
			IPs: []string{"10.1.0.2"}, Image: "virtlet.cloud/cirros", CreatedAt: time.Now().Add(-time.Hour), StartedAt: time.Now()},
		UUID: "uuid", Machine: "pc-q35-7.2", PID: 42, DebugSocket: "/run/debug.sock", Notes: []string{"command: no effect"},
		Interfaces: []api.Interface{{Name: "eth0", MAC: "02:00:00:00:00:01", MTU: 1500, Addresses: []string{"10.1.0.2/24"}, Tap: "tap0", Plumbing: "redirect",
			Counters: api.NICStats{Name: "eth0", RxBytes: 10, RxPackets: 1}}},
		Disks: []api.Disk{{ID: "root", File: "/pods/root.qcow2", Format: "qcow2", VirtualSize: 1 << 30, ActualSize: 5 << 20, Backing: "/images/base"},
			{ID: "seed", File: "/dev/loop1", Format: "raw", ReadOnly: true, VirtualSize: 1 << 20}},
		Config: json.RawMessage(`{"ociVersion":"1.3.0","mounts":[{"destination":"/data","type":"9p","source":"/srv","options":["tag=x","ro"]}],
			"vm":{"hypervisor":{"path":"/usr/bin/qemu","parameters":["-accel","kvm","-cpu","host,pmu=off","-device","{\"driver\":\"x\"}"]}}}`),
	}
	db := api.VMDetails{VM: api.VM{Namespace: "team", Name: "db", ID: id, State: api.StateExited, Reason: "Completed", Message: "the guest powered off", IPs: []string{}, CreatedAt: time.Now()}}
	return &fakeMachines{
		node: api.Node{Version: "1.2.3", Conditions: []api.Condition{{Type: "RuntimeReady", Status: true}, {Type: "NetworkReady", Status: true}}},
		all:  []api.VMDetails{web, db},
		stats: api.VMStats{CPUNanoseconds: 1500000000, BalloonBytes: 256 << 20, RSS: 100 << 20, VCPUs: []api.VCPUStats{{Index: 0, Nanoseconds: 7}},
			NICs: []api.NICStats{{Name: "eth0", RxBytes: 10}}, Disks: []api.DiskStats{{ID: "root", ReadBytes: 11}}},
	}
}
