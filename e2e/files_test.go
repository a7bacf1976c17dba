package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qemulet/qemulet/e2e/node"
)

// rootedImage makes the image NAME the tiny guest, with a root file system (for it to look at, not to boot from) in a
// partition behind what it boots from.
func rootedImage(t *testing.T, n *node.Node, name string) {
	t.Helper()
	dir := filepath.Join(n.Dir, "rooted")
	check(t, os.MkdirAll(filepath.Join(dir, "tree/etc"), 0o755))
	check(t, os.MkdirAll(filepath.Join(dir, "tree/usr"), 0o755))
	script := `cd "$1"
qemu-img convert -O raw "$2" raw
start=$(($(stat -c %s raw) / 512))
truncate -s +17M raw
echo "start=$start, size=16M, type=83" | sfdisk -q raw
echo old >tree/etc/replaced
chmod 600 tree/etc/replaced
ln -s usr/there tree/link
mke2fs -q -F -t ext4 -E offset=$((start * 512)) -d tree raw 16M
qemu-img convert -f raw -O qcow2 raw rooted.qcow2`
	out, err := exec.Command("sh", "-ec", script, "sh", dir, node.Guest(t, "tiny")).CombinedOutput()
	if err != nil {
		t.Fatalf("rooted image: %v: %s", err, out)
	}
	n.Web.File(t, name, filepath.Join(dir, "rooted.qcow2"))
	check(t, pull(t, n, name))
}

// A guest finds the files of an object in its root disk, once: what it makes of them stays. The daemon may die while they
// are written.
func TestFilesInRootDisk(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	rootedImage(t, n, "rooted")
	vm := n.NewVM(t, "files", func(vm *node.VM) {
		vm.Config.Image.Image = "virtlet.cloud/rooted"
		vm.Pod.Annotations["VirtletFilesFromDataSource"] = "secret/files"
	})
	remove := vm.BringObjects(t, node.Secret("files", map[string]string{
		"a": "aHVudGVyMi1iYXNlNjQ=", "a_path": "/etc/deep/a",
		"b": "hunter2-plain", "b_path": "/link/b\n", "b_encoding": "plain",
		"c": "bmV3", "c_path": "/etc/replaced",
	}))
	check(t, vm.TrySandbox(seconds(t, 60)))
	created := make(chan error, 1)
	go func() { created <- vm.TryCreate(seconds(t, 90)) }()
	var writer node.Process
	node.Eventually(t, 60*time.Second, func() error {
		for _, q := range n.QEMUs() {
			if strings.Contains(q.Command, "qemulet-injector") {
				writer = q
				return nil
			}
		}
		return os.ErrNotExist
	})
	n.Kill9(t)
	if err := <-created; err == nil {
		t.Error("the container was created by a daemon that died")
	}
	node.Eventually(t, 10*time.Second, func() error {
		if writer.Alive() {
			return os.ErrExist
		}
		return nil
	})
	n.Restart(t)

	check(t, vm.TryCreate(seconds(t, 90)))
	check(t, vm.TryStart(seconds(t, 60)))
	vm.WaitReady(t)
	c := vm.Attach(t)
	c.Command("mount -t ext4 /dev/vda1 /mnt; cd /mnt")
	for command, want := range map[string]string{
		"cat etc/deep/a":                       "hunter2-base64",
		"stat -c %a:%u:%g etc/deep etc/deep/a": "755:0:0\n644:0:0",
		"cat usr/there/b":                      "hunter2-plain",
		"cat etc/replaced":                     "new",
		"stat -c %a etc/replaced":              "600",
	} {
		if got := strings.ReplaceAll(c.Command(command), "\r", ""); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	c.Command("echo mine >etc/deep/a; cd /; umount /mnt; sync")
	vm.Stop(t, 30)

	vm.Config.Metadata.Attempt = 1
	check(t, vm.TryCreate(seconds(t, 60)))
	check(t, vm.TryStart(seconds(t, 60)))
	vm.WaitLog(t, `count=2`, node.BootLimit)
	vm.WaitReady(t)
	if got := vm.Attach(t).Command("mount -t ext4 /dev/vda1 /mnt && cat /mnt/etc/deep/a"); got != "mine" {
		t.Errorf("after the second boot the file holds %q", got)
	}
	if strings.Contains(n.DaemonLog(), "hunter2") {
		t.Error("the daemon's log tells a secret")
	}
	vm.Stop(t, 30)
	vm.Remove(t)
	remove()
	n.NoLeaks(t)
}
