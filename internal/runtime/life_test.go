package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	created = runtimeapi.ContainerState_CONTAINER_CREATED
	running = runtimeapi.ContainerState_CONTAINER_RUNNING
	exited  = runtimeapi.ContainerState_CONTAINER_EXITED
	unknown = runtimeapi.ContainerState_CONTAINER_UNKNOWN
)

func TestLife(t *testing.T) {
	n := newTestNode(t)
	n.image("obeys", guestObeys)
	cfg := n.podConfig()
	sandbox := n.run(cfg)
	if again := n.run(cfg); again != sandbox {
		t.Errorf("the same request made another sandbox")
	}
	if s, err := n.Sandbox(sandbox); err != nil || !s.Ready || len(s.IPs) == 0 {
		t.Errorf("sandbox %+v, %v", s, err)
	}
	id := n.create(sandbox, vmConfig("obeys", 0))
	if again := n.create(sandbox, vmConfig("obeys", 0)); again != id {
		t.Errorf("the same request made another container")
	}
	n.wantState(id, created, "")
	n.start(id)
	n.start(id)
	n.wantState(id, running, "")
	n.must(n.StopContainer(t.Context(), id, 30*time.Second))
	n.must(n.StopContainer(t.Context(), id, 30*time.Second))
	n.wantState(id, exited, "Completed")
	log, err := os.ReadFile(n.path("logs", "vm_0.log"))
	if err != nil || strings.Count(string(log), "qemulet: command: no effect") != 1 {
		t.Errorf("the log does not say once what is ignored: %v\n%s", err, log)
	}
	if err := n.StartContainer(t.Context(), id); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("start of an ended container: %v", err)
	}

	before := n.rootOf(sandbox)
	second := n.create(sandbox, vmConfig("obeys", 1))
	if after := n.rootOf(sandbox); !os.SameFile(before, after) {
		t.Error("the next attempt got another root disk")
	}
	n.start(second)
	n.must(n.RemoveContainer(t.Context(), second))
	n.must(n.RemoveContainer(t.Context(), second))
	if _, err := n.Container(second); !errdefs.IsNotFound(err) {
		t.Errorf("a removed container: %v", err)
	}
	n.removePod(sandbox)
}

func (n *testNode) rootOf(sandbox string) os.FileInfo {
	n.t.Helper()
	s, err := n.Sandbox(sandbox)
	n.must(err)
	info, err := os.Stat(n.rootPath(s.Config.Metadata.Uid))
	n.must(err)
	return info
}

func TestCreateRefuses(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	cfg := n.podConfig()
	sandbox := n.run(cfg)
	other := vmConfig("ignores", 0)
	id := n.create(sandbox, vmConfig("ignores", 0))

	cfg = proto.CloneOf(cfg)
	cfg.Labels = map[string]string{"a": "b"}
	if _, err := n.RunSandbox(t.Context(), cfg, ""); !errdefs.IsAlreadyExists(err) {
		t.Errorf("another sandbox of that name: %v", err)
	}
	other.Labels = map[string]string{"a": "b"}
	if _, err := n.CreateContainer(t.Context(), sandbox, other, nil); !errdefs.IsAlreadyExists(err) {
		t.Errorf("another container of that name: %v", err)
	}
	other.Metadata.Name = "sidecar"
	if _, err := n.CreateContainer(t.Context(), sandbox, other, nil); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "exactly one") {
		t.Errorf("a second container: %v", err)
	}
	n.start(id)
	if _, err := n.CreateContainer(t.Context(), sandbox, vmConfig("ignores", 1), nil); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("another attempt beside a running VM: %v", err)
	}
	if _, err := n.CreateContainer(t.Context(), n.run(n.podConfig()), vmConfig("nowhere", 0), nil); !errdefs.IsNotFound(err) {
		t.Errorf("an image that is not there: %v", err)
	}
	if _, err := n.CreateContainer(t.Context(), "ffff", vmConfig("ignores", 0), nil); !errdefs.IsNotFound(err) {
		t.Errorf("a sandbox that is not there: %v", err)
	}
	n.must(n.StopSandbox(t.Context(), sandbox))
	if _, err := n.CreateContainer(t.Context(), sandbox, vmConfig("ignores", 1), nil); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a container in a stopped sandbox: %v", err)
	}
}

// kubelet makes the next attempt when a start failed to reach us, and does not
// stop the one before.
func TestUnstartedAttemptGivesWay(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	sandbox := n.run(n.podConfig())
	first := n.create(sandbox, vmConfig("ignores", 0))
	second := n.create(sandbox, vmConfig("ignores", 1))
	n.wantState(first, exited, "Stopped")
	n.wantState(second, created, "")
	n.start(second)
	n.removePod(sandbox)
}

func TestStopOfCreatedContainer(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	sandbox := n.run(n.podConfig())
	id := n.create(sandbox, vmConfig("ignores", 0))
	n.must(n.StopContainer(t.Context(), id, time.Minute))
	n.wantState(id, exited, "Stopped")
	n.removePod(sandbox)
}

func TestUnknownIDs(t *testing.T) {
	n := newTestNode(t)
	ctx := t.Context()
	for what, err := range map[string]error{
		"StopSandbox": n.StopSandbox(ctx, "ffff"), "RemoveSandbox": n.RemoveSandbox(ctx, "ffff"),
		"StopContainer": n.StopContainer(ctx, "ffff", 0), "RemoveContainer": n.RemoveContainer(ctx, "ffff"),
	} {
		if err != nil {
			t.Errorf("%s of an unknown id: %v", what, err)
		}
	}
	if err := n.StartContainer(ctx, "ffff"); !errdefs.IsNotFound(err) {
		t.Errorf("StartContainer of an unknown id: %v", err)
	}
}

func TestStartFails(t *testing.T) {
	for name, spoil := range map[string]func(n *testNode, id string) (repair func()){
		"binary is missing": func(n *testNode, _ string) func() {
			n.Hypervisor = n.hypervisor(n.path("no-qemu"))
			return func() { n.Hypervisor = n.hypervisor(realBinary) }
		},
		"seed is missing": func(n *testNode, id string) func() {
			v, _ := n.vm(id)
			n.must(os.Remove(filepath.Join(n.vmDir(v.pod.uid(), v.id), seedFile)))
			return func() {}
		},
		"QEMU refuses its disk": func(n *testNode, id string) func() {
			v, _ := n.vm(id)
			n.must(os.Rename(n.rootPath(v.pod.uid()), n.path("kept")))
			n.must(os.WriteFile(n.rootPath(v.pod.uid()), []byte("no disk"), 0o600))
			return func() { n.must(os.Rename(n.path("kept"), n.rootPath(v.pod.uid()))) }
		},
		"log cannot be written": func(n *testNode, _ string) func() {
			n.must(os.RemoveAll(n.path("logs")))
			return func() { n.must(os.Mkdir(n.path("logs"), 0o755)) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newTestNode(t)
			n.image("ignores", guestIgnores)
			sandbox := n.run(n.podConfig())
			id := n.create(sandbox, vmConfig("ignores", 0))
			repair := spoil(n, id)
			err := n.StartContainer(t.Context(), id)
			if err == nil || !strings.Contains(err.Error(), id) {
				t.Errorf("start: %v", err)
			}
			if c := n.wantState(id, exited, "StartError"); c.ExitCode != 128 || c.Message == "" {
				t.Errorf("exit code %d, message %q", c.ExitCode, c.Message)
			}
			if left, _ := os.ReadDir(n.path("run/vm")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			repair()
			next := n.create(sandbox, vmConfig("ignores", 1))
			n.start(next)
			n.removePod(sandbox)
		})
	}
}

func TestGuestPowersOff(t *testing.T) {
	n := newTestNode(t)
	n.image("off", guestPowersOff)
	sandbox, id := n.boot("off")
	n.awaitEnd(id)
	if c := n.wantState(id, exited, "Completed"); c.ExitCode != 0 {
		t.Errorf("%+v", c)
	}
	n.removePod(sandbox)
}

func TestKillIsNoticed(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	sandbox, id := n.boot("ignores")
	n.signal(id, syscall.SIGKILL)
	if took := n.awaitEnd(id); took > 200*time.Millisecond {
		t.Errorf("noticed after %v", took)
	}
	if c := n.wantState(id, exited, "QEMUKilled"); c.ExitCode != 137 {
		t.Errorf("%+v", c)
	}
	n.removePod(sandbox)
}

// A second stop with less patience ends the first, also one of QEMU that hangs.
func TestStopEscalates(t *testing.T) {
	for name, hang := range map[string]bool{"guest ignores": false, "QEMU hangs": true} {
		t.Run(name, func(t *testing.T) {
			n := newTestNode(t)
			n.image("ignores", guestIgnores)
			sandbox, id := n.boot("ignores")
			if hang {
				n.signal(id, syscall.SIGSTOP)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if err := n.StopContainer(ctx, id, time.Minute); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the impatient client got %v", err)
			}
			n.wantState(id, running, "")
			first := make(chan error, 1)
			go func() { first <- n.StopContainer(t.Context(), id, time.Minute) }()
			begin := time.Now()
			n.must(n.StopContainer(t.Context(), id, 0))
			n.must(<-first)
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			n.wantState(id, exited, "Error")
			n.removePod(sandbox)
		})
	}
}

// Whoever stops a sandbox while its VM is being started finds it stopped.
func TestStopSandboxDuringStart(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	sandbox := n.run(n.podConfig())
	id := n.create(sandbox, vmConfig("ignores", 0))
	started := make(chan error, 1)
	go func() { started <- n.StartContainer(t.Context(), id) }()
	n.must(n.StopSandbox(t.Context(), sandbox))
	<-started // either order is right
	if c, _ := n.Container(id); c.State != exited {
		t.Errorf("the container is %v", c.State)
	}
	n.removePod(sandbox)
}

func TestImageRemovedInBetween(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	sandbox := n.run(n.podConfig())
	id := n.create(sandbox, vmConfig("ignores", 0))
	n.must(n.Images.Remove(t.Context(), "ignores"))
	n.start(id)
	n.must(n.StopContainer(t.Context(), id, 0))
	n.must(n.RemoveContainer(t.Context(), id))
	if left, _ := os.ReadDir(n.path("images/data")); len(left) != 1 {
		t.Errorf("the image below the pod's disk: %v", left)
	}
	n.removePod(sandbox)
	if left, _ := os.ReadDir(n.path("images/data")); len(left) != 0 {
		t.Errorf("nobody uses the image any more, but there is %v", left)
	}
}

func TestAnotherImageMakesAnotherDisk(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	n.image("off", guestPowersOff)
	sandbox, id := n.boot("ignores")
	n.must(n.StopContainer(t.Context(), id, 0))
	id = n.create(sandbox, vmConfig("off", 1))
	n.start(id)
	n.awaitEnd(id)
	n.wantState(id, exited, "Completed")
	n.removePod(sandbox)
}

// kubelet replaces a sandbox: the disk stays, and goes with the last one.
func TestTwoSandboxesOfAPod(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	cfg := n.podConfig()
	old := n.run(cfg)
	id := n.create(old, vmConfig("ignores", 0))
	n.start(id)

	cfg = proto.CloneOf(cfg)
	cfg.Metadata.Attempt++
	sandbox := n.run(cfg)
	if _, err := n.CreateContainer(t.Context(), sandbox, vmConfig("ignores", 1), nil); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a second VM on the same disk: %v", err)
	}
	n.must(n.StopSandbox(t.Context(), old))
	before := n.rootOf(old)
	second := n.create(sandbox, vmConfig("ignores", 1))
	n.must(n.RemoveSandbox(t.Context(), old))
	if !os.SameFile(before, n.rootOf(sandbox)) {
		t.Error("the disk went with the old sandbox")
	}
	n.start(second)
	n.removePod(sandbox)
}

func TestAttachAndLogNeedARunningVM(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	sandbox := n.run(n.podConfig())
	id := n.create(sandbox, vmConfig("ignores", 0))
	if err := n.Attach(t.Context(), id, nil, nil); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("attach: %v", err)
	}
	if err := n.ReopenLog(t.Context(), id); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("reopen: %v", err)
	}
	n.start(id)
	n.must(os.Rename(n.path("logs/vm_0.log"), n.path("logs/vm_0.log.1")))
	n.must(n.ReopenLog(t.Context(), id))
	if _, err := os.Stat(n.path("logs/vm_0.log")); err != nil {
		t.Error(err)
	}
	n.removePod(sandbox)
}

func TestSandboxWithoutNetworkLeavesNothing(t *testing.T) {
	n := newTestNode(t)
	n.configure("10.77.0.0/30") // the gateway's address and another one
	first := n.run(n.podConfig())
	if _, err := n.RunSandbox(t.Context(), n.podConfig(), ""); err == nil || !strings.Contains(err.Error(), "vm-2") {
		t.Errorf("a pod without address: %v", err)
	}
	n.removePod(first)
}

// kubelet repeats a request that has timed out, and gets what the first has made.
func TestRunSandboxGoesOnWithoutItsClient(t *testing.T) {
	n := newTestNode(t)
	release := n.hang("ADD")
	cfg := n.podConfig()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := n.RunSandbox(ctx, cfg, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the impatient client got %v", err)
	}
	if all := n.Sandboxes(); len(all) != 0 {
		t.Errorf("a sandbox that is not ready is listed: %v", all)
	}
	again := make(chan string, 1)
	go func() {
		id, err := n.RunSandbox(t.Context(), cfg, "")
		if err != nil {
			t.Error(err)
		}
		again <- id
	}()
	release()
	id := <-again
	if all := n.Sandboxes(); len(all) != 1 || all[0].ID != id {
		t.Errorf("sandboxes %v, want %s", all, id)
	}
	n.removePod(id)
}

// A creation that could neither be finished nor undone is undone by the next.
func TestLeftoverCreations(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	cfg := n.podConfig()
	left, err := n.intendSandbox(cfg, "")
	n.must(err)
	sandbox := n.run(cfg)
	if n.knowsPod(left) {
		t.Error("the unfinished sandbox is still there")
	}
	p, _ := n.pod(sandbox)
	image, release, err := n.Images.Acquire(t.Context(), "ignores")
	n.must(err)
	release()
	v, err := n.intendContainer(p, vmConfig("ignores", 0), image, nil)
	n.must(err)
	n.create(sandbox, vmConfig("ignores", 0))
	if n.knowsVM(v) {
		t.Error("the unfinished container is still there")
	}
	n.removePod(sandbox)
}

// A root disk that was made for a container that was not is no base for the next.
func TestUnmadeContainerLeavesNoDisk(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	n.image("off", guestPowersOff)
	sandbox := n.run(n.podConfig())
	p, _ := n.pod(sandbox)
	v, _ := n.vm(n.create(sandbox, vmConfig("ignores", 0)))
	n.must(n.unmakeContainer(t.Context(), v, newDisks{root: true}))
	if base := p.record().Base; base != "" {
		t.Errorf("an image is still kept: %s", base)
	}
	id := n.create(sandbox, vmConfig("off", 0))
	n.start(id)
	n.awaitEnd(id)
	n.wantState(id, exited, "Completed")
	n.removePod(sandbox)
}
