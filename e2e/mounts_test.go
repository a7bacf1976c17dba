package e2e

import (
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

// hostDir makes a directory of root's on the host, with files that only root may read.
func hostDir(t *testing.T, n *node.Node, name string, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(n.Dir, "host", name)
	check(t, os.MkdirAll(dir, 0o755))
	for file, content := range files {
		check(t, os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600))
	}
	return dir
}

func ownerOf(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Lstat(path)
	check(t, err)
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d", st.Uid, st.Gid)
}

// sharesVM is a guest that mounts its shares by the script that stands in for the placeholder. The guest has mounted them
// elsewhere before; a share can be in one place only. With its agent it unpacks to more than fits in the tiny guest's RAM.
func sharesVM(t *testing.T, n *node.Node, name string, mounts []*runtimeapi.Mount) *node.VM {
	t.Helper()
	n.Web.Guest(t, "tiny-9p", "tiny-9p")
	check(t, pull(t, n, "tiny-9p"))
	return n.NewVM(t, name, func(vm *node.VM) {
		vm.Config.Image = &runtimeapi.ImageSpec{Image: "virtlet.cloud/tiny-9p", UserSpecifiedImage: "virtlet.cloud/tiny-9p"}
		vm.Config.Linux.Resources.MemoryLimitInBytes = 192 << 20
		vm.Config.Mounts = mounts
		vm.Config.Command, vm.Config.Args = []string{"/bin/sh"}, []string{"-c", "true"}
		vm.Pod.Annotations["VirtletCloudInitUserDataScript"] = "#!/bin/sh\numount /mnt/*\n@virtlet-mount-script@"
	})
}

func waitMounted(t *testing.T, vm *node.VM) *node.Console {
	t.Helper()
	vm.WaitReady(t)
	vm.WaitLog(t, `^@@GUEST userdata exit=0$`, 30*time.Second)
	return vm.Attach(t)
}

// Directories of the host in a guest: read, written, refused, one in another, two of one name, and all that again after the
// daemon and the container have been replaced.
func TestShares(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	data := hostDir(t, n, "data", map[string]string{"hello": "from the host\n"})
	other := hostDir(t, n, "other", map[string]string{"who": "the other data\n"})
	readOnly := hostDir(t, n, "ro", map[string]string{"fixed": "fixed\n"})
	inner := hostDir(t, n, "inner", map[string]string{"deep": "deep\n"})
	single := filepath.Join(readOnly, "fixed")
	unmapped := hostDir(t, n, "ram", nil)
	check(t, syscall.Mount("ramfs", unmapped, "ramfs", 0, "mode=755")) // Linux maps no owners there
	t.Cleanup(func() { syscall.Unmount(unmapped, syscall.MNT_DETACH) })
	vm := sharesVM(t, n, "shares", []*runtimeapi.Mount{
		{ContainerPath: "/a/data/inner", HostPath: inner}, // before the one that it is in
		{ContainerPath: "/a/data", HostPath: data},
		{ContainerPath: "/b/data", HostPath: other},
		{ContainerPath: "/opt/with-a-very-long-name-that-is-no-tag", HostPath: readOnly, Readonly: true},
		{ContainerPath: "/opt/single", HostPath: single},
		{ContainerPath: "/ram", HostPath: unmapped},
	})
	vm.Run(t)
	c := waitMounted(t, vm)
	notes := n.Crictl(t, "logs", vm.ID)
	mentions(t, notes, "command, args: no effect on a virtual machine", "mount /opt/single is not in the guest", "mount /ram: "+unmapped+": owners cannot be mapped there")

	sh := func(command, want string) {
		t.Helper()
		if got := c.Command(command); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	sh("cat /a/data/hello /b/data/who /a/data/inner/deep /opt/with*/fixed", "from the host\nthe other data\ndeep\nfixed")
	sh("echo guest >/a/data/new; mkdir /a/data/dir; echo more >>/a/data/hello; mv /a/data/hello /a/data/dir/; cat /a/data/dir/hello", "from the host\nmore")
	sh("cd /opt/with*; echo x >x; rm -f fixed; ls", "sh: can't create x: Read-only file system\nrm: can't remove 'fixed': Read-only file system\nfixed")
	sh("mount -o remount,rw $PWD; grep -c ' '$PWD' 9p rw' /proc/mounts; touch x; ls; cd /", "1\ntouch: x: Read-only file system\nfixed")
	sh("echo x >/ram/x && cat /ram/x", "x")
	if got := ownerOf(t, unmapped); got != qemuOwner(t) {
		t.Errorf("where owners cannot be mapped the directory belongs to %s", got)
	}
	sh("stat -c %u:%g /a/data/new", qemuOwner(t)) // as QEMU sees it
	for _, name := range []string{"new", "dir", "dir/hello", "."} {
		if got := ownerOf(t, filepath.Join(data, name)); got != "0:0" {
			t.Errorf("on the host %s belongs to %s", name, got)
		}
	}

	// A file that comes on the host is there; the daemon is not in between.
	n.Kill9(t)
	n.Restart(t)
	check(t, os.WriteFile(filepath.Join(data, "later"), []byte("later\n"), 0o600))
	c = vm.Attach(t)
	sh("cat /a/data/later; echo again >/a/data/inner/new", "later")
	if text, err := os.ReadFile(filepath.Join(inner, "new")); err != nil || string(text) != "again\n" {
		t.Errorf("the inner share has %q, %v", text, err)
	}

	// The next attempt has the same shares.
	vm.Stop(t, 30)
	_, err := n.Runtime.RemoveContainer(seconds(t, 30), &runtimeapi.RemoveContainerRequest{ContainerId: vm.ID})
	check(t, err)
	vm.Config.Metadata.Attempt, vm.Config.LogPath = 1, "vm/1.log"
	vm.LogPath = filepath.Join(vm.Pod.LogDirectory, vm.Config.LogPath)
	check(t, vm.TryCreate(seconds(t, 60)))
	check(t, vm.TryStart(seconds(t, 60)))
	c = waitMounted(t, vm)
	sh("cat /a/data/new /a/data/inner/new", "guest\nagain")
	vm.Remove(t)
	check(t, syscall.Unmount(unmapped, 0))
	n.NoLeaks(t)
	if got := ownerOf(t, data); got != "0:0" {
		t.Errorf("in the end the directory belongs to %s", got)
	}
}

// VirtletChown9pfsMounts gives everything away, as it did.
func TestShareChown(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	data := hostDir(t, n, "data", map[string]string{"hello": "from the host\n"})
	vm := sharesVM(t, n, "chown", []*runtimeapi.Mount{{ContainerPath: "/data", HostPath: data}})
	vm.Pod.Annotations["VirtletChown9pfsMounts"] = "true"
	vm.Run(t)
	c := waitMounted(t, vm)
	if got := c.Command("cat /data/hello; echo x >/data/new"); got != "from the host" {
		t.Errorf("in the guest: %q", got)
	}
	want := qemuOwner(t)
	for _, name := range []string{".", "hello", "new"} {
		if got := ownerOf(t, filepath.Join(data, name)); got != want {
			t.Errorf("%s belongs to %s, not to %s", name, got, want)
		}
	}
	vm.Remove(t)
	n.NoLeaks(t)
}

// qemuOwner is the user that QEMU runs as on this machine.
func qemuOwner(t *testing.T) string {
	t.Helper()
	u, err := user.Lookup("qemulet")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	check(t, err)
	return u.Uid + ":" + u.Gid
}

// What cannot be mounted is refused by its names, all of it at once, and nothing is left.
func TestBadMounts(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	dir := hostDir(t, n, "bad", map[string]string{"big": strings.Repeat("x", 1<<20+1)})
	fifo := filepath.Join(dir, "fifo")
	check(t, syscall.Mkfifo(fifo, 0o600))
	for name, c := range map[string]struct {
		mounts []*runtimeapi.Mount
		want   []string
	}{
		"several": {[]*runtimeapi.Mount{
			{ContainerPath: "/none", HostPath: filepath.Join(dir, "none")},
			{ContainerPath: "/fifo", HostPath: fifo},
			{ContainerPath: "/zero", HostPath: "/dev/zero"},
		}, []string{"mount /none of the host's " + filepath.Join(dir, "none"), "no such file", "mount /fifo", "is a FIFO", "mount /zero", "is a device"}},
		"big":      {[]*runtimeapi.Mount{{ContainerPath: "/big", HostPath: filepath.Join(dir, "big")}}, []string{"mount /big of the host's", "1048577 bytes", "up to 1048576"}},
		"relative": {[]*runtimeapi.Mount{{ContainerPath: "x", HostPath: dir}}, []string{"mounts[0].container_path", `"x"`, "absolute"}},
		"blank":    {[]*runtimeapi.Mount{{ContainerPath: "/a b", HostPath: dir}}, []string{"mount /a b", "blanks"}},
	} {
		t.Run(name, func(t *testing.T) {
			vm := n.NewVM(t, "bad-"+name, func(vm *node.VM) { vm.Config.Mounts = c.mounts })
			err := vm.TryRun(seconds(t, 60))
			if err == nil {
				t.Fatal("accepted")
			}
			mentions(t, err.Error(), c.want...)
			vm.Remove(t)
			n.NoLeaks(t)
		})
	}
}

// What a Secret holds is in no command line, log, description or record.
func TestSecretsStay(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "secret", func(vm *node.VM) {
		k := newKubeletPod(t, vm)
		k.mount("/etc/key", k.object("secret", "key", 0o400, map[string]string{"private": "s3cret-value"}), true)
		k.mount("/etc/one", k.subPath("key", "0", "s3cret-value", 0o400), true)
	})
	vm.Run(t)
	staysSecret(t, n, "s3cret-value")
	// Nor is it when something goes wrong with it.
	bad := n.NewVM(t, "bad-secret", func(vm *node.VM) {
		k := newKubeletPod(t, vm)
		k.mount("/etc/key", k.object("secret", "key", 0o400, map[string]string{"private": strings.Repeat("s3cret-value", 1<<17)}), true)
	})
	err := bad.TryRun(seconds(t, 60))
	if err == nil || strings.Contains(err.Error(), "s3cret-value") {
		t.Errorf("too big a secret: %v", err)
	}
	bad.Remove(t)
	staysSecret(t, n, "s3cret-value")
	vm.Remove(t)
	n.NoLeaks(t)
}

// staysSecret looks for a secret where it must not be: it is in the seed, which only root can read, and in what the guest
// makes of it.
func staysSecret(t *testing.T, n *node.Node, secret string) {
	t.Helper()
	forms := []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))}
	hidden := func(where, text string) {
		for _, form := range forms {
			if strings.Contains(text, form) {
				t.Errorf("%s has the secret", where)
			}
		}
	}
	for _, p := range n.QEMUs() {
		hidden("the command line of QEMU", p.Command)
	}
	seeds := 0
	for _, top := range []string{"run", "state", "serve.log"} {
		check(t, filepath.WalkDir(filepath.Join(n.Dir, top), func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.Name() == "seed.iso":
				info, err := d.Info()
				if seeds++; err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%s: %v, %v", path, info.Mode(), err)
				}
				return err
			case !d.Type().IsRegular() || d.Name() == "root.qcow2" || d.Name() == "console.log" || strings.HasPrefix(path, filepath.Join(n.Dir, "state", "images")):
				return nil
			}
			text, err := os.ReadFile(path)
			hidden(path, string(text))
			return err
		}))
	}
	if seeds != 1 {
		t.Errorf("%d seeds", seeds)
	}
}
