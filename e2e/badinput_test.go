package e2e

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

// What is wrong is named, nothing is left behind, and the next try works.

func pull(t *testing.T, n *node.Node, name string) error {
	t.Helper()
	_, err := n.Images.PullImage(seconds(t, 60), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: "virtlet.cloud/" + name}})
	return err
}

// script writes an executable shell script.
func script(t *testing.T, dir, name, body string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	check(t, os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o755))
	return path
}

func TestBadImages(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	dir := t.TempDir()
	qemuImg := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
			t.Fatalf("qemu-img %v: %v: %s", args, err, out)
		}
	}
	qemuImg("create", "-q", "-f", "qcow2", dir+"/base.qcow2", "10M")
	qemuImg("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", dir+"/backed.qcow2")
	qemuImg("create", "-q", "-f", "qcow2", "-o", "data_file="+dir+"/secret.raw,data_file_raw=on", dir+"/data.qcow2", "10M")
	tiny, err := os.ReadFile(node.Guest(t, "tiny"))
	check(t, err)

	n.Web.Bytes(t, "html", []byte("<!DOCTYPE html>\n<html><body>Please log in</body></html>"))
	n.Web.Bytes(t, "empty", nil)
	n.Web.Bytes(t, "truncated", tiny[:len(tiny)/3])
	n.Web.Bytes(t, "header", tiny[:60])
	n.Web.File(t, "backed", dir+"/backed.qcow2")
	n.Web.File(t, "external", dir+"/data.qcow2")
	n.Web.Handle(t, "broken", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000000")
		w.Write(tiny[:100000])
		panic(http.ErrAbortHandler)
	}))
	n.Web.Handle(t, "missing", http.NotFoundHandler())
	for name, words := range map[string][]string{
		"html":      {"virtlet.cloud/html", "qcow2", "html"},
		"empty":     {"virtlet.cloud/empty", "qcow2"},
		"truncated": {"virtlet.cloud/truncated", "truncated"},
		"header":    {"virtlet.cloud/header", "qcow2"},
		"backed":    {"virtlet.cloud/backed", "backing file"},
		"external":  {"virtlet.cloud/external", "another file"},
		"broken":    {"virtlet.cloud/broken"},
		"missing":   {"virtlet.cloud/missing", "404"},
	} {
		err := pull(t, n, name)
		if err == nil {
			t.Errorf("image %s was accepted", name)
			continue
		}
		mentions(t, err.Error(), words...)
	}
	n.NoLeaks(t)
	if list, err := n.Images.ListImages(seconds(t, 10), &runtimeapi.ListImagesRequest{}); err != nil || len(list.Images) != 0 {
		t.Errorf("images after failed pulls: %v %v", list, err)
	}
	// The same name, mended.
	n.Web.Bytes(t, "html", tiny)
	check(t, pull(t, n, "html"))
}

// A pull that nobody waits for any more ends, and leaves nothing.
func TestAbandonedPull(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	tiny, err := os.ReadFile(node.Guest(t, "tiny"))
	check(t, err)
	release := make(chan struct{})
	defer close(release)
	n.Web.Handle(t, "slow", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write(tiny[:1<<20])
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-release:
		}
	}))
	begin := time.Now()
	_, err = n.Images.PullImage(seconds(t, 1), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: "virtlet.cloud/slow"}})
	if status.Code(err) != codes.DeadlineExceeded || time.Since(begin) > 3*time.Second {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
	n.NoLeaks(t)
}

func TestBadNetwork(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{NoCNI: true, Args: []string{"--cni-timeout", "3s"}})
	n.PullTiny(t)
	vm := n.NewVM(t, "offline", nil)
	fails := func(what string, words ...string) {
		t.Helper()
		begin := time.Now()
		err := vm.TrySandbox(seconds(t, 60))
		if err == nil {
			t.Fatalf("%s: the sandbox runs", what)
		}
		mentions(t, err.Error(), words...)
		if took := time.Since(begin); took > 15*time.Second {
			t.Errorf("%s: refused after %v", what, took)
		}
		removeAll(t, n)
		n.NoLeaks(t)
	}

	ready := func() (ok bool, why string) {
		s, err := n.Runtime.Status(seconds(t, 10), &runtimeapi.StatusRequest{})
		check(t, err)
		for _, c := range s.Status.Conditions {
			if c.Type == runtimeapi.NetworkReady {
				return c.Status, c.Reason + ": " + c.Message
			}
		}
		t.Fatal("no condition NetworkReady")
		return
	}
	if ok, why := ready(); ok || !strings.Contains(why, "/cni") {
		t.Errorf("NetworkReady without a CNI configuration: %v, %s", ok, why)
	}
	fails("no configuration", "cni")

	n.WriteCNI(t, `{"cniVersion": "1.0.0", "name": "absent", "plugins": [{"type": "no-such-plugin"}]}`)
	fails("no plugin", "no-such-plugin")

	n.WriteCNI(t, `{"cniVersion": "1.0.0", "name": "broken", "plugins": [`)
	fails("broken configuration", "10-e2e.conflist")

	// A plugin that fails in the midst of a chain: what the first one made must be undone.
	good := bridgeConf(t, n)
	last := strings.LastIndex(good, "}]")
	n.WriteCNI(t, good[:last]+`}, {"type": "tuning", "sysctl": {"net.no.such.setting": "1"}}`+good[last+1:])
	fails("second plugin fails", "tuning")

	// A plugin that prints what no program expects.
	n.WritePlugin(t, "nothing", `cat >/dev/null; [ "$CNI_COMMAND" = DEL ] || echo '{"cniVersion":"1.0.0","ips":[null],"interfaces":[null]}'`)
	n.WriteCNI(t, `{"cniVersion": "1.0.0", "name": "odd", "plugins": [{"type": "nothing"}]}`)
	fails("null for an address", "nothing", "ips[0] is null")

	n.WritePlugin(t, "asleep", `cat >/dev/null; echo '{"cniVersion":"1.1.0","code":50,"msg":"the controller is asleep"}'; exit 1`)
	n.WriteCNI(t, `{"cniVersion": "1.1.0", "name": "asleep", "plugins": [{"type": "asleep"}]}`)
	if ok, why := ready(); ok || !strings.Contains(why, "the controller is asleep") {
		t.Errorf("NetworkReady with a plugin that is not ready: %v, %s", ok, why)
	}

	n.WriteBridgeCNI(t)
	if ok, why := ready(); !ok {
		t.Errorf("NetworkReady with a good configuration: %s", why)
	}
	check(t, vm.TrySandbox(seconds(t, 30)))
	vm.Remove(t)
	n.NoLeaks(t)
}

func bridgeConf(t *testing.T, n *node.Node) string {
	t.Helper()
	n.WriteBridgeCNI(t)
	data, err := os.ReadFile(filepath.Join(n.Dir, "cni", "10-e2e.conflist"))
	check(t, err)
	return string(data)
}

// Plugins of our own making: one that hangs, one that fails with words of its own.
func TestBadPlugins(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	script(t, bin, "hangs", `[ "$CNI_COMMAND" = VERSION ] && { echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}'; exit; }
[ "$CNI_COMMAND" = DEL ] && exit
sleep 1000 & wait`)
	script(t, bin, "refuses", `[ "$CNI_COMMAND" = VERSION ] && { echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}'; exit; }
[ "$CNI_COMMAND" = DEL ] && exit
echo '{"cniVersion":"1.0.0","code":111,"msg":"the moon is full","details":"try again in a week"}'; exit 1`)
	n := node.Start(t, node.Options{NoCNI: true, Args: []string{"--cni-timeout", "2s", "--cni-bin-dir", bin}})
	for name, words := range map[string][]string{"hangs": {"hangs"}, "refuses": {"the moon is full"}} {
		n.WriteCNI(t, `{"cniVersion": "1.0.0", "name": "own", "plugins": [{"type": "`+name+`"}]}`)
		vm := n.NewVM(t, name, nil)
		begin := time.Now()
		err := vm.TrySandbox(seconds(t, 60))
		if err == nil {
			t.Fatalf("plugin %s: the sandbox runs", name)
		}
		mentions(t, err.Error(), words...)
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("plugin %s: refused after %v", name, took)
		}
		removeAll(t, n)
		n.NoLeaks(t)
	}
}

func TestBadPods(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	for name, c := range map[string]struct {
		change func(*node.VM)
		words  []string
	}{
		"annotation": {func(vm *node.VM) { vm.Pod.Annotations["VirtletVCPUCount"] = "two" }, []string{"VirtletVCPUCount", "two"}},
		"annotations": {func(vm *node.VM) {
			vm.Pod.Annotations["VirtletDiskDriver"] = "ide"
			vm.Pod.Annotations["VirtletRootVolumeSize"] = "big"
		}, []string{"VirtletDiskDriver", "ide", "scsi", "virtio", "VirtletRootVolumeSize", "big"}},
		"image": {func(vm *node.VM) { vm.Config.Image.Image = "virtlet.cloud/absent" }, []string{"virtlet.cloud/absent"}},
		"host network": {func(vm *node.VM) {
			vm.Pod.Linux.SecurityContext = &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{Network: runtimeapi.NamespaceMode_NODE}}
		}, []string{"hostNetwork"}},
	} {
		t.Run(name, func(t *testing.T) {
			vm := n.NewVM(t, "bad", c.change)
			err := vm.TryRun(seconds(t, 60))
			if err == nil {
				t.Fatal("the pod runs")
			}
			mentions(t, err.Error(), c.words...)
			removeAll(t, n)
			n.NoLeaks(t)
		})
	}

	vm := n.NewVM(t, "handler", nil)
	_, err := n.Runtime.RunPodSandbox(seconds(t, 30), &runtimeapi.RunPodSandboxRequest{Config: vm.Pod, RuntimeHandler: "no-such-handler"})
	if err == nil {
		t.Fatal("an unknown runtime handler was accepted")
	}
	mentions(t, err.Error(), "no-such-handler")
	n.NoLeaks(t)

	// A VM pod has one container.
	vm = n.NewVM(t, "two", nil)
	ctx := seconds(t, 60)
	check(t, vm.TrySandbox(ctx))
	check(t, vm.TryCreate(ctx))
	second := *vm
	second.Config = proto.Clone(vm.Config).(*runtimeapi.ContainerConfig)
	second.Config.Metadata.Name = "sidecar"
	if err := second.TryCreate(ctx); err == nil {
		t.Error("a second container was accepted")
	} else {
		mentions(t, err.Error(), "sidecar", "one container")
	}
	vm.Remove(t)
	n.NoLeaks(t)
}

func TestBadQEMU(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// QEMU's user must come to it.
	check(t, os.Chmod(filepath.Dir(dir), 0o755))
	n := node.Start(t, node.Options{Args: []string{"--qemu-binary", filepath.Join(dir, "qemu")}})
	n.PullTiny(t)
	fails := func(what string, words ...string) {
		t.Helper()
		vm := n.NewVM(t, "engine", nil)
		err := vm.TryRun(seconds(t, 60))
		if err == nil {
			t.Fatalf("%s: the machine runs", what)
		}
		mentions(t, err.Error(), words...)
		s, err := n.Runtime.Status(seconds(t, 10), &runtimeapi.StatusRequest{})
		check(t, err)
		for _, c := range s.Status.Conditions {
			if c.Type == runtimeapi.RuntimeReady && c.Status {
				t.Errorf("%s: RuntimeReady", what)
			}
		}
		removeAll(t, n)
		n.NoLeaks(t)
	}
	fails("missing binary", filepath.Join(dir, "qemu"), "no such file", "qemu-system-x86")
	script(t, dir, "qemu", "echo a dynamic library is missing >&2; exit 127")
	fails("broken binary", "a dynamic library is missing")
	// Installed at last: no restart needed.
	check(t, os.Remove(filepath.Join(dir, "qemu")))
	real, err := exec.LookPath("qemu-system-x86_64")
	check(t, err)
	check(t, os.Symlink(real, filepath.Join(dir, "qemu")))
	vm := n.NewVM(t, "engine", nil)
	vm.Run(t)
	vm.Remove(t)
	n.NoLeaks(t)
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ args, words []string }{
		"path too long": {[]string{"--run-dir", "/tmp/" + strings.Repeat("long", 30)}, []string{"/tmp/longlong", "107"}},
		"accelerator":   {[]string{"--accel", "hvf"}, []string{"accel", "hvf", "auto", "kvm", "tcg"}},
		"unknown":       {[]string{"--no-such-setting", "x"}, []string{"no-such-setting"}},
	} {
		t.Run(name, func(t *testing.T) {
			n := node.New(t, node.Options{Args: c.args})
			mentions(t, n.FailToStart(t), c.words...)
		})
	}
}

// No space: the state folder is a small file system.
func TestNoSpaceLeft(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{})
	n.SmallState(t, 24<<20)
	n.StartDaemon(t)
	n.Mark(t)
	n.PullTiny(t)
	filler := filepath.Join(n.Dir, "state", "filler")
	n.Fill(t, filler)
	vm := n.NewVM(t, "full", nil)
	err := vm.TryRun(seconds(t, 60))
	if err == nil {
		t.Fatal("the machine runs without space for its disk")
	}
	mentions(t, err.Error(), "no space left")
	// A second image does not fit either.
	n.Web.Guest(t, "another", "tiny")
	if err := pull(t, n, "another"); err == nil {
		t.Error("an image was pulled without space for it")
	} else {
		mentions(t, err.Error(), "no space left")
	}
	check(t, os.Remove(filler))
	removeAll(t, n)
	n.NoLeaks(t)
	check(t, vm.TryRun(seconds(t, 60)))
	vm.Remove(t)
	n.NoLeaks(t)
}
