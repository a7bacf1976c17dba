package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

// mountScript has the tiny guest, which has no cloud-init, do with its volumes what is to be done.
const mountScript = "#!/bin/sh\n@virtlet-mount-script@\n"

// same types a command at the guest and wants that answer.
func same(t *testing.T, c *node.Console, command, want string) {
	t.Helper()
	if got := strings.Join(strings.Fields(c.Command(command)), " "); got != want {
		t.Errorf("%s: %q, expected %q", command, got, want)
	}
}

func content(t *testing.T, path string, length int) string {
	t.Helper()
	f, err := os.Open(path)
	check(t, err)
	defer f.Close()
	data := make([]byte, length)
	_, err = f.Read(data)
	check(t, err)
	return string(data)
}

func writeAt(t *testing.T, path string, at int64, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	check(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte(text), at)
	check(t, err)
}

// nextAttempt runs the pod's container once more, as kubelet does when it has ended.
func nextAttempt(t *testing.T, vm *node.VM) {
	t.Helper()
	vm.Config.Metadata.Attempt++
	vm.Config.LogPath = fmt.Sprintf("vm/%d.log", vm.Config.Metadata.Attempt)
	vm.LogPath = filepath.Join(vm.Pod.LogDirectory, vm.Config.LogPath)
	check(t, vm.TryCreate(seconds(t, 60)))
	check(t, vm.TryStart(seconds(t, 60)))
}

// A pod with one of each kind of volume. Its guest finds them, reads and writes what it may, and finds its own data again when
// it boots once more.
func TestVolumes(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	block := n.DiskFile(t, "block", 8<<20)
	link := filepath.Join(filepath.Dir(block), "link") // kubelet's devices are links
	check(t, os.Symlink(n.Loop(t, block), link))
	plain := n.DiskFile(t, "plain", 4<<20)
	writeAt(t, plain, 0, "look at me")
	formatted := n.DiskFile(t, "formatted", 16<<20)
	if out, err := exec.Command("mke2fs", "-q", "-F", formatted).CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v: %s", err, out)
	}
	var flex []string
	vm := n.NewVM(t, "volumes", func(vm *node.VM) {
		vm.Pod.Annotations["VirtletCloudInitUserDataScript"] = mountScript
		vm.Device("/dev/testpvc", link, "mrw")
		vm.Device("/dev/disks/my own", plain, "r")
	})
	for _, v := range []struct {
		name, mount string
		options     map[string]string
	}{
		{"wide", "/mnt/wide", map[string]string{"type": "raw", "path": n.Loop(t, formatted), "part": "0"}},
		{"data", "/mnt/data", map[string]string{"type": "qcow2", "capacity": "20MiB"}},
		{"notmounted", "", map[string]string{"type": "qcow2", "capacity": "3MB"}},
		{"once-more", "/mnt/fixed", map[string]string{"type": "qcow2", "kubernetes.io/readwrite": "ro"}},
	} {
		dir := vm.FlexVolume(t, v.name, v.options)
		flex = append(flex, dir)
		if v.mount != "" {
			vm.Config.Mounts = append(vm.Config.Mounts, &runtimeapi.Mount{ContainerPath: v.mount, HostPath: dir})
		}
	}
	vm.Run(t)
	c := waitMounted(t, vm)

	same(t, c, "for d in /sys/block/vd?; do cat $d/serial; echo; done", "root testpvc "+serialOf(t, c, "/dev/disks/my own")+" data notmounted once-more wide seed")
	same(t, c, "cat /sys/block/$(basename $(readlink /dev/testpvc))/serial", "testpvc")
	same(t, c, "cat /sys/block/vd[a-h]/ro", "0 0 1 0 0 1 0 1")
	same(t, c, "cat /sys/block/vd?/size | head -n 8 | tail -n 7 | head -n 6", "16384 8192 40960 5860 2000000 32768")
	same(t, c, "head -c 10 '/dev/disks/my own'", "look at me")
	same(t, c, "echo no >'/dev/disks/my own' 2>/dev/null || echo refused", "refused")
	same(t, c, "awk '$2 ~ /^.mnt/ {print $1, $2, $3, substr($4,1,2)}' /proc/mounts", "/dev/vdg /mnt/wide ext2 rw /dev/vdd1 /mnt/data ext4 rw /dev/vdf1 /mnt/fixed ext4 ro")
	same(t, c, "echo mine >/mnt/data/file; echo too >/mnt/wide/file; printf 'written in the guest' | dd of=/dev/testpvc conv=fsync 2>/dev/null; sync; echo done", "done")
	if got := content(t, block, 20); got != "written in the guest" {
		t.Errorf("the device of the host has %q", got)
	}
	// QEMU keeps others from writing meanwhile, itself or not.
	rival := n.NewVM(t, "rival", func(vm *node.VM) { vm.Device("/dev/x", link, "mrw") })
	err := rival.TryRun(seconds(t, 60))
	if err == nil {
		t.Error("a second machine was given the same device")
	} else {
		mentions(t, err.Error(), "another machine's disk", "/dev/loop")
	}
	rival.Remove(t)

	vm.Stop(t, 30)
	nextAttempt(t, vm)
	c = waitMounted(t, vm)
	same(t, c, "cat /mnt/data/file /mnt/wide/file; head -c 7 /dev/testpvc", "mine too written")
	vm.Remove(t)
	for _, dir := range flex {
		vm.RemoveFlexVolume(t, dir)
	}
	n.NoLeaks(t)
}

func serialOf(t *testing.T, c *node.Console, path string) string {
	t.Helper()
	return strings.TrimSpace(c.Command("cat /sys/block/$(basename $(readlink '" + path + "'))/serial"))
}

// As many disks as a bus has places for, each found by its own name.
func TestAllDisksOfABus(t *testing.T) {
	for driver, limit := range map[string]int{"virtio": 21, "scsi": 26} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			n := node.Start(t, node.Options{})
			n.PullTiny(t)
			var want []string
			vm := n.NewVM(t, driver, func(vm *node.VM) {
				vm.Pod.Annotations["VirtletDiskDriver"] = driver
				vm.Pod.Annotations["VirtletCloudInitUserDataScript"] = mountScript
				for i := range limit - 2 {
					name := fmt.Sprintf("d%02d", i)
					file := n.DiskFile(t, name, 1<<20)
					writeAt(t, file, 0, name+"\n")
					vm.Device("/dev/"+name, file, "mr")
					want = append(want, name)
				}
			})
			vm.Run(t)
			vm.WaitLog(t, `^@@GUEST userdata exit=0$`, 3*time.Minute)
			same(t, vm.Attach(t), "for d in /dev/d[0-9][0-9]; do head -n 1 $d; done", strings.Join(want, " "))
			vm.Remove(t)

			vm = n.NewVM(t, driver, func(vm *node.VM) {
				vm.Pod.Annotations["VirtletDiskDriver"] = driver
				for i := range limit - 1 {
					vm.Device(fmt.Sprintf("/dev/d%d", i), n.DiskFile(t, fmt.Sprint(i), 1<<20), "mrw")
				}
			})
			if err := vm.TryRun(seconds(t, 30)); err == nil {
				t.Error("too many disks were accepted")
			} else {
				mentions(t, err.Error(), fmt.Sprintf("too many %s block devices", driver), fmt.Sprint(limit+1), fmt.Sprintf("the limit is %d", limit))
			}
			vm.Remove(t)
			n.NoLeaks(t)
		})
	}
}

// A root disk on a device outlives its pod, and another image takes its place only with a loud word.
func TestPersistentRoot(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	file := n.DiskFile(t, "root", 64<<20)
	loop := n.Loop(t, file)
	rooted := func(name string) *node.VM {
		return n.NewVM(t, name, func(vm *node.VM) {
			vm.Device("/", loop, "mrw")
			vm.Pod.Annotations["VirtletRootVolumeSize"] = "4Gi"
		})
	}
	boots := func(vm *node.VM, count string) {
		t.Helper()
		vm.WaitReady(t)
		vm.WaitLog(t, `^@@GUEST boot .* count=`+count+`$`, time.Second)
	}
	vm := rooted("first")
	vm.Run(t)
	boots(vm, "1")
	c := vm.Attach(t)
	same(t, c, "echo $(($(cat /sys/block/vda/size) * 512)); cat /sys/block/vda/serial", fmt.Sprint(64<<20-512)+" root")
	same(t, c, "ls /run/seed", "hostname meta-data user-data") // no network-config: it asks by DHCP
	mentions(t, n.Crictl(t, "logs", vm.ID), "VirtletRootVolumeSize has no effect", "persistent root: the image sha256:")

	// While it is one machine's it is no other's.
	rival := rooted("rival")
	if err := rival.TryRun(seconds(t, 60)); err == nil {
		t.Error("a second machine was given the same root disk")
	} else {
		mentions(t, err.Error(), "it is the root disk of container "+vm.ID, "default/first")
	}
	rival.Remove(t)

	// The next attempt boots it again, and so does another pod's, after a reboot of the daemon in the middle.
	vm.Stop(t, 30)
	nextAttempt(t, vm)
	boots(vm, "2")
	vm.Remove(t)
	n.Kill9(t)
	n.Restart(t)
	vm = rooted("second")
	vm.Run(t)
	boots(vm, "3")
	vm.Remove(t)

	// What has it for itself, such as a mount, is not disturbed.
	held, err := os.OpenFile(loop, os.O_RDWR|os.O_EXCL, 0)
	check(t, err)
	before := content(t, file, 1<<20)
	vm = rooted("third")
	if err := vm.TryRun(seconds(t, 60)); err == nil {
		t.Error("a device in use was made a root disk")
	} else {
		mentions(t, err.Error(), loop, "in use")
	}
	check(t, held.Close())
	if content(t, file, 1<<20) != before {
		t.Error("the device was written to")
	}
	vm.Remove(t)
	n.NoLeaks(t)
}

// An image in the place of another.
func TestPersistentRootOfAnotherImage(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	file := n.DiskFile(t, "root", 64<<20)
	// Virtlet's header, of an image that is not this one.
	writeAt(t, file, 0, "\x26\x3d\xbe\x52\xba\x57\x67\x02\x00\x01"+strings.Repeat("\xab", 32))
	writeAt(t, file, 12<<20, "old data")
	vm := n.NewVM(t, "replaced", func(vm *node.VM) { vm.Device("/", file, "mrw") })
	vm.Run(t)
	vm.WaitReady(t)
	mentions(t, n.Crictl(t, "logs", vm.ID), "THE IMAGE HAS CHANGED from sha256:abababab", file)
	mentions(t, n.DaemonLog(), "THE IMAGE HAS CHANGED")
	if got := content(t, file, 64<<20); strings.Contains(got, "old data") || !strings.HasPrefix(got, "\x26\x3d\xbe\x52\xba\x57\x67\x02\x00\x01") || strings.HasPrefix(got[10:], "\xab\xab") {
		t.Errorf("the device begins with %q", got[:64])
	}
	vm.Remove(t)
	n.NoLeaks(t)
}

// A disk of a Ceph cluster: QEMU goes there by itself, with a key that nobody else sees. There is no cluster, so the machine
// never gets as far as to run.
func TestCephVolume(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	var monitor net.Listener
	check(t, n.Do(func() (err error) {
		monitor, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	}))
	defer monitor.Close()
	key := base64.StdEncoding.EncodeToString([]byte("\x01\x00\x00\x00\x00\x5f\x00\x00\x00\x00\x10\x00only a test's key"[:28]))
	vm := n.NewVM(t, "ceph", nil)
	dir := vm.FlexVolume(t, "far", map[string]string{"type": "ceph", "monitor": monitor.Addr().String(), "pool": "rbd", "volume": "vol1", "user": "admin", "secret": key})
	ended := make(chan error, 1)
	go func() { ended <- vm.TryRun(seconds(t, 100)) }()
	conn, err := monitor.Accept()
	check(t, err)
	conn.Close()
	for _, q := range n.QEMUs() {
		mentions(t, q.Command, `"driver":"rbd"`, "/proc/self/fd/")
		if strings.Contains(q.Command, key) {
			t.Error("the key is on the command line")
		}
		q.Kill9()
	}
	if err := <-ended; err == nil || strings.Contains(err.Error(), key) {
		t.Errorf("started: %v", err)
	}
	secretNowhere(t, n, key)
	vm.Remove(t)
	vm.RemoveFlexVolume(t, dir)
	n.NoLeaks(t)
}

// debianVolume gives the pod a volume to be mounted.
func debianVolume(t *testing.T, vm *node.VM) (dir string) {
	t.Helper()
	dir = vm.FlexVolume(t, "docker", map[string]string{"type": "qcow2", "capacity": "32MiB"})
	vm.Config.Mounts = append(vm.Config.Mounts, &runtimeapi.Mount{ContainerPath: "/var/lib/docker", HostPath: dir})
	return dir
}

// debianDisks: udev's names lead to the disks of these serial numbers and places.
func debianDisks(t *testing.T, run func(string) string) {
	t.Helper()
	for i, serial := range []string{"root", "data", "docker"} {
		byID := run("readlink -f /dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_" + serial)
		if got := run(fmt.Sprintf("readlink -f /dev/disk/by-path/pci-0000:00:02.3-scsi-0:0:0:%d", i)); got != byID || !strings.HasPrefix(got, "/dev/sd") {
			t.Errorf("%s is %q by its serial number, and %q by its place", serial, byID, got)
		}
	}
	matches(t, "volume", run("findmnt -n -o SOURCE,FSTYPE /var/lib/docker"), `^/dev/sd[a-z]1 +ext4$`)
	mentions(t, run("cat /etc/fstab"), "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_docker-part1\t/var/lib/docker")
	mentions(t, run("ls -l /var/lib/cloud/scripts/per-boot"), "symlink-devs.sh")
}

// secretNowhere looks into every file that the daemon has written.
func secretNowhere(t *testing.T, n *node.Node, secret string) {
	t.Helper()
	for _, top := range []string{"run", "state", "logs", "serve.log"} {
		check(t, filepath.WalkDir(filepath.Join(n.Dir, top), func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			if bytes.Contains(data, []byte(secret)) {
				t.Errorf("a secret is in %s", path)
			}
			return err
		}))
	}
}
