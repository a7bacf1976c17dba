package runtime

import (
	"bytes"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/kube"
)

// partitionMiB is where the partition of rootImage begins.
const partitionMiB = 1

// rootImage puts a disk into the store that boots the code and has an ext4
// partition with a root file system of 8 MiB.
func (n *testNode) rootImage(name, code string) {
	n.t.Helper()
	boot, err := hex.DecodeString(code)
	n.must(err)
	raw := n.path("raw")
	dir := n.path("tree-" + name)
	n.must(os.MkdirAll(filepath.Join(dir, "etc"), 0o755))
	n.must(os.MkdirAll(filepath.Join(dir, "usr"), 0o755))
	n.must(os.RemoveAll(raw))
	n.must(os.WriteFile(raw, nil, 0o600))
	n.must(os.Truncate(raw, 9<<20))
	n.shell("echo start=2048,type=83 | sfdisk -q " + raw)
	n.shell("mke2fs -q -F -t ext4 -E offset=1048576 -d " + dir + " " + raw + " 8M")
	f, err := os.OpenFile(raw, os.O_WRONLY, 0)
	n.must(err)
	_, err = f.WriteAt(boot, 0)
	n.must(err)
	n.must(f.Close())
	n.convertImage(name)
}

func (n *testNode) shell(script string) string {
	n.t.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%s: %v: %s", script, err, out)
	}
	return string(out)
}

// catRoot reads a file of the partition; offset is where the guest's disk begins.
func (n *testNode) catRoot(raw string, offset int, file string) string {
	n.t.Helper()
	part := n.path("part")
	data := n.read(raw)
	n.must(os.WriteFile(part, data[offset+partitionMiB<<20:], 0o600))
	return n.shell("debugfs -R 'cat " + file + "' " + part + " 2>/dev/null")
}

func filesPod(n *testNode, files map[string]string) *runtimeapi.PodSandboxConfig {
	cfg := n.podConfig()
	cfg.Annotations = map[string]string{"VirtletFilesFromDataSource": "secret/files"}
	n.putFiles(cfg, files)
	return cfg
}

func (n *testNode) putFiles(cfg *runtimeapi.PodSandboxConfig, files map[string]string) {
	n.t.Helper()
	pod := kube.Pod{Namespace: "default", Name: cfg.Metadata.Name, UID: cfg.Metadata.Uid}
	n.must(n.objects().Put(pod, secret("files", files)))
}

// Files get into the overlay before its first boot, and never again.
func TestFiles(t *testing.T) {
	n := newTestNode(t)
	n.rootImage("rooted", guestIgnores)
	cfg := filesPod(n, map[string]string{
		"a": "aGVsbG8=", "a_path": "/etc/deep/a", "b": "plain text", "b_path": "/b\n", "b_encoding": "plain"})
	sandbox := n.run(cfg)
	id := n.create(sandbox, vmConfig("rooted", 0))
	overlay := n.rootPath(cfg.Metadata.Uid)
	raw := n.path("overlay.raw")
	n.shell("qemu-img check -q " + overlay + " && qemu-img convert -O raw " + overlay + " " + raw)
	if a, b := n.catRoot(raw, 0, "/etc/deep/a"), n.catRoot(raw, 0, "/b"); a != "hello" || b != "plain text" {
		t.Errorf("the files hold %q and %q", a, b)
	}
	n.start(id)
	n.must(n.StopContainer(t.Context(), id, 0))
	before := n.read(overlay)

	// The next attempt boots the same disk, whatever the object holds by now.
	n.putFiles(cfg, map[string]string{"a": "YmV0dGVy", "a_path": "/etc/deep/a"})
	n.create(sandbox, vmConfig("rooted", 1))
	if !bytes.Equal(n.read(overlay), before) {
		t.Error("the second attempt wrote into the root disk")
	}
	n.removePod(sandbox)
	n.wantClean()
}

func TestFilesOnPersistentRoot(t *testing.T) {
	n := newTestNode(t)
	n.rootImage("rooted", guestIgnores)
	path := n.file("root", 10<<20)
	rooted := func(attempt uint32) *runtimeapi.ContainerConfig {
		cfg := vmConfig("rooted", attempt)
		cfg.Devices = []*runtimeapi.Device{device("/", path)}
		return cfg
	}
	cfg := filesPod(n, map[string]string{"a": "aGVsbG8=", "a_path": "/etc/a"})
	sandbox := n.run(cfg)
	id := n.create(sandbox, rooted(0))
	if a := n.catRoot(path, 512, "/etc/a"); a != "hello" || !n.holds(path, "rooted") {
		t.Errorf("the file holds %q", a)
	}
	n.start(id)
	n.must(n.StopContainer(t.Context(), id, 0))
	before := n.read(path)
	n.create(sandbox, rooted(1))
	if !bytes.Equal(n.read(path), before) {
		t.Error("the second attempt wrote into the root disk")
	}
	n.removePod(sandbox)
	n.wantClean()
}

// An image without a root file system cannot have files: the error says what it
// has, and nothing is left.
func TestFilesWithoutRoot(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	sandbox := n.run(filesPod(n, map[string]string{"a": "c2VjcmV0", "a_path": "/etc/a"}))
	_, err := n.CreateContainer(t.Context(), sandbox, vmConfig("ignores", 0), nil)
	if !errdefs.IsFailedPrecondition(err) {
		t.Errorf("class of %v", err)
	}
	for _, want := range []string{"VirtletFilesFromDataSource: write 1 files", "no root file system that can be written: the disk, which has no partitions: nothing that is known"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	n.removePod(sandbox)
	n.wantClean()
}
