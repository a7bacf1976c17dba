package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/disks"
	"github.com/qemulet/qemulet/internal/console"
	"github.com/qemulet/qemulet/internal/images"
	"github.com/qemulet/qemulet/internal/kube"
	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/netns"
	"github.com/qemulet/qemulet/qemu"
)

const (
	pluginDir  = "/usr/lib/cni"
	realBinary = "qemu-system-x86_64"
)

// Guests of 512 bytes, which the firmware boots. 0x600 is the base of ICH9's
// power management registers.
const (
	guestIgnores   = "faf4ebfd"                                               // cli; hlt; jmp
	guestPowersOff = "ba0406b80020eff4ebfd"                                   // out 0x604, SLP_EN
	guestObeys     = "faba0206b80001efba0006edf6c40174faba0406b80020eff4ebfd" // waits for the button
)

var nodes atomic.Int32

// testNode is a Runtime on directories, a subnet and a bridge of its own.
type testNode struct {
	*Runtime
	t      *testing.T
	number int
	dir    string
	pods   int
}

func newTestNode(t *testing.T) *testNode {
	t.Helper()
	if testing.Short() {
		t.Skip("boots QEMU")
	}
	for _, path := range []string{filepath.Join(pluginDir, "bridge"), filepath.Join(pluginDir, "host-local"), "/dev/net/tun"} {
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("the tests need %s (packages containernetworking-plugins, kernel module tun): %v", path, err)
		}
	}
	dir, err := os.MkdirTemp("", "rt") // t.TempDir's names are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	n := &testNode{t: t, dir: dir, number: int(nodes.Add(1))}
	t.Cleanup(n.destroy)
	for _, sub := range []string{"bin", "conf", "logs", "images/data", "images/links"} {
		n.must(os.MkdirAll(filepath.Join(dir, sub), 0o711))
	}
	n.configure(fmt.Sprintf("10.77.%d.0/24", n.number))
	n.open()
	n.must(n.Recover(t.Context()))
	return n
}

func (n *testNode) path(elem ...string) string {
	return filepath.Join(append([]string{n.dir}, elem...)...)
}

func (n *testNode) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// configure writes CNI's configuration.
func (n *testNode) configure(subnet string) {
	n.t.Helper()
	conflist := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"podnet","plugins":[{"type":"bridge","bridge":"rt%d","isGateway":true,
		"ipam":{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":%q}]]}}]}`, n.number, n.path("ipam"), subnet)
	n.must(os.WriteFile(n.path("conf", "10.conflist"), []byte(conflist), 0o600))
}

// hang has CNI's plugin hang at the command until the function is called.
func (n *testNode) hang(command string) (release func()) {
	n.t.Helper()
	script := fmt.Sprintf("#!/bin/sh\n[ $CNI_COMMAND = %s ] && while [ -e %s ]; do sleep 0.02; done\nexec %s/bridge\n", command, n.path("hang"), pluginDir)
	n.must(os.WriteFile(n.path("bin", "bridge"), []byte(script), 0o755))
	n.must(os.WriteFile(n.path("hang"), nil, 0o600))
	release = func() { _ = os.Remove(n.path("hang")) }
	n.t.Cleanup(release)
	return release
}

// open makes a Runtime, as a start of the daemon does before it recovers.
func (n *testNode) open() {
	n.t.Helper()
	db, err := store.Open(n.path("db"))
	n.must(err)
	is, err := images.Open(images.Options{Dir: n.path("images"), Check: func(r io.ReaderAt, size int64) (string, int64, error) {
		img, err := disks.CheckBase(r, size, disks.Limits{})
		return string(img.Format), img.VirtualSize, err
	}})
	n.must(err)
	network, err := netns.NewManager(netns.Options{ConfDir: n.path("conf"), BinDirs: []string{n.path("bin"), pluginDir},
		CacheDir: n.path("cni"), NetnsDir: n.path("netns"), PluginTimeout: 20 * time.Second})
	n.must(err)
	watcher, err := console.NewWatcher()
	n.must(err)
	n.Runtime, err = New(Options{DB: db, Images: is, Network: network, Watcher: watcher, Hypervisor: n.hypervisor(realBinary), Objects: n.objects(),
		KubeletPods: n.path("kubelet"), RawDevices: disks.Whitelist{"loop*"}, RunDir: n.path("run"), StateDir: n.dir, NetnsDir: n.path("netns"), Log: slog.New(slog.NewTextHandler(logWriter{n.t}, nil))})
	n.must(err)
}

type logWriter struct{ t *testing.T }

func (w logWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

func (n *testNode) hypervisor(binary string) *Hypervisor {
	return &Hypervisor{Binary: binary, CacheDir: n.path("cache"), Mode: qemu.AccelTCG}
}

// objects are where the tests put ConfigMaps and Secrets.
func (n *testNode) objects() kube.Dir { return kube.Dir(n.path("objects")) }

// close lets go of everything, as the end of the daemon does, orderly or not:
// what differs is in the records.
func (n *testNode) close() {
	n.t.Helper()
	if n.Runtime == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	n.must(n.Runtime.Close(ctx))
	n.must(n.Watcher.Close())
	n.must(n.Images.Close())
	n.must(n.DB.Close())
	n.Runtime = nil
}

// crash ends the daemon, has its records changed to what they would be had it
// died elsewhere, and starts the next one.
func (n *testNode) crash(edit func(db *store.DB)) {
	n.t.Helper()
	n.close()
	if edit != nil {
		db, err := store.Open(n.path("db"))
		n.must(err)
		edit(db)
		n.must(db.Close())
	}
	n.open()
	n.must(n.Recover(n.t.Context()))
}

func (n *testNode) destroy() {
	if n.Runtime != nil {
		for _, p := range n.Sandboxes() {
			if err := n.RemoveSandbox(context.Background(), p.ID); err != nil {
				n.t.Errorf("remove sandbox at the end: %v", err)
			}
		}
		n.close()
	}
	for unix.Unmount(n.path("netns"), unix.MNT_DETACH) == nil { //nolint:revive // until nothing is mounted
	}
	_ = os.RemoveAll(n.dir)
	if group, err := qemu.LoadCgroup(n.cgroup()); err == nil {
		if err := group.Delete(context.Background()); err != nil {
			n.t.Errorf("cgroup at the end: %v", err)
		}
	}
}

func (n *testNode) cgroup() string { return fmt.Sprintf("/qemulet-test-%d-%d", os.Getpid(), n.number) }

// image puts a disk that boots the code into the store.
func (n *testNode) image(name, code string) {
	n.t.Helper()
	sector, err := hex.DecodeString(code)
	n.must(err)
	raw := make([]byte, 1<<20)
	copy(raw, sector)
	copy(raw[510:], "\x55\xaa")
	n.must(os.WriteFile(n.path("raw"), raw, 0o600))
	n.convertImage(name)
}

// convertImage puts the file raw into the store.
func (n *testNode) convertImage(name string) {
	n.t.Helper()
	out, err := exec.Command("qemu-img", "convert", "-f", "raw", "-O", "qcow2", n.path("raw"), n.path("qcow2")).CombinedOutput()
	if err != nil {
		n.t.Fatalf("qemu-img (package qemu-utils): %v: %s", err, out)
	}
	data, err := os.ReadFile(n.path("qcow2"))
	n.must(err)
	sum := sha256.Sum256(data)
	digest := hex.EncodeToString(sum[:])
	n.must(os.Rename(n.path("qcow2"), n.path("images/data", digest)))
	n.must(os.Symlink("../data/"+digest, n.path("images/links", name)))
}

// podConfig is of a pod that has not been made yet.
func (n *testNode) podConfig() *runtimeapi.PodSandboxConfig {
	n.pods++
	name := fmt.Sprintf("vm-%d", n.pods)
	return &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "default", Uid: fmt.Sprintf("uid-%d-%d", n.number, n.pods)},
		LogDirectory: n.path("logs"),
		Linux:        &runtimeapi.LinuxPodSandboxConfig{CgroupParent: n.cgroup()},
	}
}

func vmConfig(image string, attempt uint32) *runtimeapi.ContainerConfig {
	return &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "vm", Attempt: attempt},
		Image:    &runtimeapi.ImageSpec{Image: image, UserSpecifiedImage: image},
		LogPath:  fmt.Sprintf("vm_%d.log", attempt),
		Command:  []string{"/bin/true"},
		Linux:    &runtimeapi.LinuxContainerConfig{Resources: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 64 << 20}},
	}
}

func (n *testNode) run(cfg *runtimeapi.PodSandboxConfig) string {
	n.t.Helper()
	id, err := n.RunSandbox(n.t.Context(), cfg, "")
	n.must(err)
	return id
}

func (n *testNode) create(sandbox string, cfg *runtimeapi.ContainerConfig) string {
	n.t.Helper()
	id, err := n.CreateContainer(n.t.Context(), sandbox, cfg, nil)
	n.must(err)
	return id
}

func (n *testNode) start(id string) {
	n.t.Helper()
	n.must(n.StartContainer(n.t.Context(), id))
}

// boot makes a pod whose VM runs.
func (n *testNode) boot(image string) (sandbox, id string) {
	n.t.Helper()
	sandbox = n.run(n.podConfig())
	id = n.create(sandbox, vmConfig(image, 0))
	n.start(id)
	return sandbox, id
}

func (n *testNode) wantState(id string, want runtimeapi.ContainerState, reason string) Container {
	n.t.Helper()
	c, err := n.Container(id)
	n.must(err)
	if c.State != want || c.Reason != reason {
		n.t.Fatalf("container is %v, reason %q, message %q; want %v, %q", c.State, c.Reason, c.Message, want, reason)
	}
	if c.FinishedAt.Before(c.StartedAt) && c.State == runtimeapi.ContainerState_CONTAINER_EXITED {
		n.t.Errorf("finished at %v, before its start at %v", c.FinishedAt, c.StartedAt)
	}
	return c
}

// awaitEnd waits until the container is EXITED, and returns how long that took.
func (n *testNode) awaitEnd(id string) time.Duration {
	n.t.Helper()
	begin := time.Now()
	n.eventually("the end of the VM", func() bool {
		c, err := n.Container(id)
		return err == nil && c.State == runtimeapi.ContainerState_CONTAINER_EXITED
	})
	return time.Since(begin)
}

func (n *testNode) eventually(what string, ok func() bool) {
	n.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			n.t.Fatalf("did not happen: %s", what)
		}
	}
}

// pid is the VM's process by its record.
func (n *testNode) pid(id string) int {
	n.t.Helper()
	v, err := n.vm(id)
	n.must(err)
	var identity qemu.Identity
	n.must(json.Unmarshal(v.record().Process, &identity))
	return identity.PID
}

func (n *testNode) wantDead(pid int) {
	n.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err == nil && !strings.Contains(string(stat), ") Z ") {
		n.t.Errorf("process %d lives: %s", pid, stat)
	}
}

func (n *testNode) signal(id string, s syscall.Signal) {
	n.t.Helper()
	n.must(syscall.Kill(n.pid(id), s))
}

// sandboxRecord and containerRecord change one record.
func (n *testNode) sandboxRecord(db *store.DB, id string, change func(*store.Sandbox)) {
	n.t.Helper()
	all, err := db.Sandboxes()
	n.must(err)
	for _, rec := range all {
		if rec.ID == id {
			change(rec)
			n.must(db.PutSandbox(rec))
		}
	}
}

func (n *testNode) containerRecord(db *store.DB, id string, change func(*store.Container)) {
	n.t.Helper()
	all, err := db.Containers()
	n.must(err)
	for _, rec := range all {
		if rec.ID == id {
			change(rec)
			n.must(db.PutContainer(rec))
		}
	}
}

// wantClean fails if anything of any pod is left.
func (n *testNode) wantClean() {
	n.t.Helper()
	for _, dir := range []string{"pods", "run/vm", "netns", "cni/attachments", "cni/results", "ipam/podnet"} {
		entries, _ := os.ReadDir(n.path(dir))
		for _, e := range entries {
			if name := e.Name(); name != "lock" && !strings.HasPrefix(name, "last_reserved_ip") {
				n.t.Errorf("left behind: %s/%s", dir, name)
			}
		}
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/*" + n.cgroup() + "/*/"); len(left) > 0 {
		n.t.Errorf("left behind: cgroups %v", left)
	}
	sandboxes, err1 := n.DB.Sandboxes()
	containers, err2 := n.DB.Containers()
	if len(sandboxes)+len(containers) > 0 || err1 != nil || err2 != nil || len(n.allPods())+len(n.allVMs()) > 0 {
		n.t.Errorf("left behind: records %v, %v (%v, %v)", sandboxes, containers, err1, err2)
	}
}

// removePod removes the sandbox and wants nothing of it to be left.
func (n *testNode) removePod(id string) {
	n.t.Helper()
	n.must(n.StopSandbox(n.t.Context(), id))
	n.must(n.RemoveSandbox(n.t.Context(), id))
	n.must(n.RemoveSandbox(n.t.Context(), id))
	n.wantClean()
}
