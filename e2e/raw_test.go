package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/qemulet/qemulet/e2e/node"
)

// A raw disk, compressed, in a directory of the node boots as any image does.
func TestRawImage(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	check(t, err)
	raw := filepath.Join(dir, "disk")
	for _, argv := range [][]string{
		{"qemu-img", "convert", "-O", "raw", node.Guest(t, "tiny"), raw},
		{"zstd", "-q", "--rm", raw, "-o", filepath.Join(dir, "tiny.qcow2")}, // a name that lies
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", argv, err, out)
		}
	}
	n := node.Start(t, node.Options{Args: []string{"--image-file-dir", dir}})
	n.Translate(t, "raw.yaml", "translations: [{name: raw, url: 'file://"+dir+"/tiny.qcow2'}]")
	check(t, pull(t, n, "raw"))
	check(t, os.RemoveAll(filepath.Join(dir, "tiny.qcow2")))
	vm := n.NewVM(t, "raw", func(vm *node.VM) { vm.Config.Image.Image = "virtlet.cloud/raw" })
	vm.Run(t)
	vm.WaitReady(t)
	vm.Remove(t)
	n.NoLeaks(t)
}
