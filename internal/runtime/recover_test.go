package runtime

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/store"
)

func TestRunningVMIsAdopted(t *testing.T) {
	n := newTestNode(t)
	n.image("obeys", guestObeys)
	sandbox, id := n.boot("obeys")
	pid := n.pid(id)
	n.crash(nil)
	n.wantState(id, running, "")
	if n.pid(id) != pid {
		t.Error("another process")
	}
	if s, _ := n.Sandbox(sandbox); !s.Ready || len(s.IPs) == 0 {
		t.Errorf("sandbox %+v", s)
	}
	n.must(n.StopContainer(t.Context(), id, 30*time.Second))
	n.wantState(id, exited, "Completed")
	n.removePod(sandbox)
}

// The daemon died in a phase of the container's: what is there is what a
// running VM has, which is more than there would be.
func TestRecoverContainer(t *testing.T) {
	for phase, check := range map[store.ContainerPhase]func(n *testNode, id string){
		store.ContainerStarting: func(n *testNode, id string) { n.wantState(id, exited, "StartError") },
		store.ContainerStopping: func(n *testNode, id string) {
			n.awaitEnd(id)
			n.wantState(id, exited, "Error")
		},
		store.ContainerExited: func(n *testNode, id string) { n.wantState(id, exited, "") },
		store.ContainerRemoving: func(n *testNode, id string) {
			if _, err := n.Container(id); err == nil {
				n.t.Error("the container is still there")
			}
		},
		store.ContainerCreating: func(n *testNode, id string) {
			if _, err := n.Container(id); err == nil {
				n.t.Error("the container is still there")
			}
		},
	} {
		t.Run(string(phase), func(t *testing.T) {
			n := newTestNode(t)
			n.image("ignores", guestIgnores)
			sandbox, id := n.boot("ignores")
			pid := n.pid(id)
			n.crash(func(db *store.DB) {
				n.containerRecord(db, id, func(c *store.Container) {
					c.Phase, c.StopBy, c.Finished = phase, time.Now(), time.Now()
				})
			})
			check(n, id)
			n.wantDead(pid)
			n.eventually("no run directory", func() bool {
				left, _ := os.ReadDir(n.path("run/vm"))
				return len(left) == 0
			})
			n.start(n.create(sandbox, vmConfig("ignores", 1)))
			n.removePod(sandbox)
		})
	}
}

func TestRecoverSandbox(t *testing.T) {
	for phase, gone := range map[store.SandboxPhase]bool{
		store.SandboxCreating: true, store.SandboxStopping: false, store.SandboxStopped: false, store.SandboxRemoving: true,
	} {
		t.Run(string(phase), func(t *testing.T) {
			n := newTestNode(t)
			n.image("ignores", guestIgnores)
			cfg := n.podConfig()
			sandbox := n.run(cfg)
			if phase == store.SandboxStopping || phase == store.SandboxRemoving {
				n.start(n.create(sandbox, vmConfig("ignores", 0)))
			}
			if phase == store.SandboxStopped {
				n.must(n.StopSandbox(t.Context(), sandbox))
			}
			n.crash(func(db *store.DB) {
				n.sandboxRecord(db, sandbox, func(s *store.Sandbox) { s.Phase = phase })
			})
			s, err := n.Sandbox(sandbox)
			if gone != (err != nil) || s.Ready {
				t.Errorf("%+v, %v", s, err)
			}
			if phase == store.SandboxRemoving {
				// Its stop was recorded to be over. Only a hand could have done this.
				n.must(n.Network.Teardown(t.Context(), networkRef(&store.Sandbox{ID: sandbox, NetnsName: "qemulet-" + sandbox[8:20],
					Config: store.Message[*runtimeapi.PodSandboxConfig]{M: cfg}})))
			}
			if !gone {
				n.removePod(sandbox)
			}
			n.wantClean()
			n.removePod(n.run(cfg))
		})
	}
}

// A removal that was cut off after the pod's directory was put aside.
func TestRecoverDetachedFiles(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	cfg := n.podConfig()
	sandbox := n.run(cfg)
	n.must(n.RemoveContainer(t.Context(), n.create(sandbox, vmConfig("ignores", 0))))
	n.must(n.StopSandbox(t.Context(), sandbox))
	p, _ := n.pod(sandbox)
	n.must(n.updatePod(p, func(s *store.Sandbox) { s.Phase = store.SandboxRemoving }))
	_, err := n.detachFiles(p)
	n.must(err)
	n.crash(nil)
	n.wantClean()
}

func TestReboot(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	sandbox, id := n.boot("ignores")
	before, mac := n.rootOf(sandbox), n.macOf(sandbox)
	n.reboot(id)
	n.wantState(id, exited, "NodeReboot")
	if s, _ := n.Sandbox(sandbox); s.Ready {
		t.Error("the sandbox is still ready")
	}
	if left, _ := filepath.Glob(n.path("ipam/podnet/10.*")); len(left) > 0 {
		t.Errorf("DEL was not called: %v", left)
	}
	// The next sandbox of the pod boots the same disk.
	s, _ := n.Sandbox(sandbox)
	cfg := proto.CloneOf(s.Config)
	cfg.Metadata.Attempt++
	next := n.run(cfg)
	n.start(n.create(next, vmConfig("ignores", 1)))
	if !os.SameFile(before, n.rootOf(next)) {
		t.Error("the disk was lost")
	}
	if got := n.macOf(next); got != mac {
		t.Errorf("the guest's MAC address was %s and is %s", mac, got)
	}
	n.must(n.RemoveSandbox(t.Context(), sandbox))
	n.removePod(next)
}

// macOf is the address of a pod's NIC.
func (n *testNode) macOf(sandbox string) string {
	n.t.Helper()
	p, err := n.pod(sandbox)
	n.must(err)
	return p.network().Interfaces()[0].MAC.String()
}

// A namespace that is taken away from under a pod makes it NOTREADY, and
// kubelet's clean-up works as ever; so does a link that was missing at a start.
func TestNetworksThatAreTakenAway(t *testing.T) {
	n := newTestNode(t)
	ready := func(id string) bool {
		s, err := n.Sandbox(id)
		n.must(err)
		return s.Ready
	}
	stays, first, second, third := n.run(n.podConfig()), n.run(n.podConfig()), n.run(n.podConfig()), n.run(n.podConfig())
	if info, err := n.SandboxInfo(stays); err != nil || !strings.Contains(info["counters"], `[{"name":"eth0"`) || !strings.Contains(info["network"], `"plumbing":"redirect"`) {
		t.Errorf("information %v, %v", info, err)
	}
	p, err := n.pod(first)
	n.must(err)
	path := n.path("netns", p.record().NetnsName)
	n.must(syscall.Unmount(path, syscall.MNT_DETACH))
	n.must(os.Remove(path))
	n.eventually("the first sandbox is not ready", func() bool { return !ready(first) })

	p, err = n.pod(third)
	n.must(err)
	n.must(syscall.Unmount(n.path("netns", p.record().NetnsName), syscall.MNT_DETACH))
	if _, err := n.NetworkStats(t.Context(), third); err == nil {
		t.Error("a network without its namespace has counters")
	}
	n.eventually("the third sandbox is not ready", func() bool { return !ready(third) })

	p, err = n.pod(second)
	n.must(err)
	out, err := exec.Command("nsenter", "--net="+n.path("netns", p.record().NetnsName), "ip", "link", "del", "eth0").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	n.close()
	n.open()
	n.must(n.Recover(t.Context()))
	n.eventually("the second sandbox is not ready", func() bool { return !ready(second) })
	if !ready(stays) {
		t.Error("a sandbox that lost nothing is not ready")
	}
	for _, id := range []string{stays, first, second, third} {
		n.must(n.RemoveSandbox(t.Context(), id))
	}
	n.wantClean()
}

// reboot takes away what a reboot of the node does, while a VM runs.
func (n *testNode) reboot(id string) {
	n.t.Helper()
	n.signal(id, syscall.SIGKILL)
	n.close()
	n.must(os.RemoveAll(n.path("run")))
	n.must(unmountAll(n.path("netns")))
	db, err := store.Open(n.path("db"))
	n.must(err)
	n.must(db.SetBootID("another boot"))
	n.containerRecord(db, id, func(c *store.Container) { c.Phase = store.ContainerRunning })
	n.must(db.Close())
	n.open()
	n.must(n.Recover(n.t.Context()))
}

func unmountAll(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		err = errors.Join(err, syscall.Unmount(path, syscall.MNT_DETACH), os.Remove(path))
	}
	return err
}

// What the last daemon did not see is told by QEMU's log, also if this one dies
// after it has read it.
func TestEndIsKnownAfterwards(t *testing.T) {
	n := newTestNode(t)
	n.image("off", guestPowersOff)
	sandbox, id := n.boot("off")
	pid := n.pid(id)
	n.close()
	n.eventually("the guest has powered off", func() bool {
		log, _ := os.ReadFile(filepath.Join(n.dir, "run/vm", id[8:20], qemuLog))
		return strings.Contains(string(log), "(shutdown)")
	})
	n.open()
	n.must(n.Recover(t.Context()))
	n.awaitEnd(id)
	n.wantState(id, exited, "Completed")
	n.wantDead(pid)
	n.removePod(sandbox)
}

func TestKilledWhileDaemonWasDown(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	sandbox, id := n.boot("ignores")
	pid := n.pid(id)
	n.crash(func(*store.DB) { n.must(syscall.Kill(pid, syscall.SIGKILL)) })
	n.awaitEnd(id)
	// Whether the signal is still known depends on who reaped the process.
	if c, err := n.Container(id); err != nil || c.State != exited || c.Reason != reasonQEMUKilled && c.Reason != reasonUnknown || c.ExitCode == 0 {
		t.Errorf("container is %s, %q, exit code %d, %v", c.State, c.Reason, c.ExitCode, err)
	}
	n.removePod(sandbox)
}

// A VM that cannot be adopted is not shown as running, and can be stopped.
func TestLostVM(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	sandbox, id := n.boot("ignores")
	pid := n.pid(id)
	n.crash(func(db *store.DB) {
		n.containerRecord(db, id, func(c *store.Container) { c.Process = []byte(`"nonsense"`) })
	})
	n.wantState(id, unknown, "")
	n.must(n.StopContainer(t.Context(), id, time.Minute))
	n.wantState(id, exited, "ContainerStatusUnknown")
	n.wantDead(pid)
	n.removePod(sandbox)
}

// The console of an adopted VM is read even where its log cannot be written.
func TestAdoptedWithoutLog(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	sandbox, id := n.boot("ignores")
	n.crash(func(*store.DB) { n.must(os.RemoveAll(n.path("logs"))) })
	n.wantState(id, running, "")
	v, _ := n.vm(id)
	if _, c, _ := v.running(); c == nil || c.hub == nil || c.mux == nil || c.log != nil {
		t.Errorf("consoles %+v", c)
	}
	n.removePod(sandbox)
}

// A network that could not be opened when the daemon started is opened for the
// next VM: there is none without its NIC.
func TestStartOpensNetwork(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	sandbox := n.run(n.podConfig())
	id := n.create(sandbox, vmConfig("ignores", 0))
	p, _ := n.pod(sandbox)
	n.must(p.release())
	n.start(id)
	if p.network() == nil {
		t.Error("the VM runs without network")
	}
	n.removePod(sandbox)
}

// An end is shown even if the database cannot be written.
func TestEndIsShownWithoutDatabase(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	sandbox, id := n.boot("ignores")
	n.must(n.DB.Close())
	n.signal(id, syscall.SIGKILL)
	n.awaitEnd(id)
	n.crash(nil)
	n.awaitEnd(id)
	n.removePod(sandbox)
}

// While a record cannot be read no image is deleted: it may be in use.
func TestUnreadableRecord(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	sandbox, id := n.boot("ignores")
	n.close()
	b, err := bolt.Open(n.path("db"), 0o600, nil)
	n.must(err)
	var good []byte
	n.must(b.Update(func(tx *bolt.Tx) error {
		bucket := tx.Bucket([]byte("sandboxes"))
		good = append(good, bucket.Get([]byte(sandbox))...)
		return bucket.Put([]byte(sandbox), []byte("{"))
	}))
	n.must(b.Close())
	n.open()
	n.must(n.Recover(t.Context()))
	n.must(n.Images.Remove(t.Context(), "ignores"))
	n.must(n.Images.GC(t.Context()))
	if left, _ := os.ReadDir(n.path("images/data")); len(left) != 1 {
		t.Errorf("the image of a pod whose record is broken: %v", left)
	}
	n.close()
	b, err = bolt.Open(n.path("db"), 0o600, nil)
	n.must(err)
	n.must(b.Update(func(tx *bolt.Tx) error { return tx.Bucket([]byte("sandboxes")).Put([]byte(sandbox), good) }))
	n.must(b.Close())
	n.open()
	n.must(n.Recover(t.Context()))
	n.wantState(id, running, "")
	n.removePod(sandbox)
}

// What could not be cleaned up at the end of a VM goes with its container.
func TestRemovalCleansUp(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	sandbox, id := n.boot("ignores")
	n.must(n.StopContainer(t.Context(), id, 0))
	v, _ := n.vm(id)
	n.must(os.MkdirAll("/sys/fs/cgroup/unified"+v.record().CgroupPath, 0o755))
	n.must(os.MkdirAll(n.runDir(id), 0o700))
	n.must(n.RemoveContainer(t.Context(), id))
	n.removePod(sandbox)
}

func TestUnfinishedRootIsSwept(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	cfg := n.podConfig()
	sandbox := n.run(cfg)
	dir := n.podDir(cfg.Metadata.Uid)
	n.must(os.MkdirAll(dir, 0o700))
	n.must(os.WriteFile(filepath.Join(dir, ".root.qcow2.123.new"), nil, 0o600))
	n.create(sandbox, vmConfig("ignores", 0))
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	n.removePod(sandbox)
}

// A plugin that hangs does not keep the daemon from serving, and kubelet's own
// request joins what goes on.
func TestHangingPluginDoesNotHoldUpRecovery(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	stuck := n.run(n.podConfig())
	sandbox, id := n.boot("ignores")
	release := n.hang("DEL")
	begin := time.Now()
	n.crash(func(db *store.DB) {
		n.sandboxRecord(db, stuck, func(s *store.Sandbox) { s.Phase = store.SandboxStopping })
	})
	if took := time.Since(begin); took > resumeWait+3*time.Second {
		t.Errorf("it took %v", took)
	}
	n.wantState(id, running, "")
	if s, err := n.Sandbox(stuck); err != nil || s.Ready {
		t.Errorf("%+v, %v", s, err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- n.StopSandbox(t.Context(), stuck) }()
	release()
	n.must(<-stopped)
	n.must(n.RemoveSandbox(t.Context(), stuck))
	n.removePod(sandbox)
}

// A QEMU that hangs when it is adopted is shown as running, and can be ended.
func TestAdoptedWhileItHangs(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	sandbox, id := n.boot("ignores")
	pid := n.pid(id)
	n.crash(func(*store.DB) { n.must(syscall.Kill(pid, syscall.SIGSTOP)) })
	n.wantState(id, running, "")
	begin := time.Now()
	n.must(n.StopContainer(t.Context(), id, time.Minute))
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	n.wantDead(pid)
	n.removePod(sandbox)
}

// An end that is noticed while the daemon shuts down is recorded with its log,
// by this daemon or the next.
func TestCloseWhileVMEnds(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	sandbox, id := n.boot("ignores")
	n.signal(id, syscall.SIGKILL)
	n.crash(nil)
	n.awaitEnd(id)
	n.removePod(sandbox)
}

// A machine has slots for seven NICs.
func TestTooManyInterfaces(t *testing.T) {
	n := newTestNode(t)
	n.must(os.WriteFile(n.path("bin", "many"), []byte(`#!/bin/sh
cat >/dev/null
[ $CNI_COMMAND = ADD ] || exit 0
for i in 1 2 3 4 5 6 7 8; do
	nsenter --net=$CNI_NETNS sh -ec "ip link add n$i type veth peer name p$i; ip addr add 10.76.$i.2/24 dev n$i; ip link set n$i up" >&2 || exit 1
	ips="$ips${ips:+,}{\"address\":\"10.76.$i.2/24\"}"
done
echo "{\"cniVersion\":\"1.0.0\",\"ips\":[$ips]}"
`), 0o755))
	n.must(os.WriteFile(n.path("conf", "00.conflist"), []byte(`{"cniVersion":"1.0.0","name":"many","plugins":[{"type":"many"}]}`), 0o600))
	_, err := n.RunSandbox(t.Context(), n.podConfig(), "")
	if err == nil || !strings.Contains(err.Error(), "made 8 interfaces; up to 7 are accepted") {
		t.Errorf("got %v", err)
	}
	n.wantClean()
}
