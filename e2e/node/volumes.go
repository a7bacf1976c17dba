package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// FlexVolume gives a pod a volume, as kubelet does: it calls the driver. What is
// mounted then is kubelet's, and goes with the node.
func (vm *VM) FlexVolume(tb testing.TB, name string, options map[string]string) (dir string) {
	tb.Helper()
	dir = vm.Node.path("kubelet", "pods", vm.Pod.Metadata.Uid, "volumes", "virtlet~flexvolume_driver", name)
	o := map[string]string{"kubernetes.io/fsType": "", "kubernetes.io/readwrite": "rw", "kubernetes.io/pvOrVolumeName": name}
	for k, v := range options {
		o[k] = v
	}
	data, err := json.Marshal(o)
	must(tb, err)
	vm.flexDriver(tb, "mount", dir, string(data))
	return dir
}

// RemoveFlexVolume takes the volume away, as kubelet does when the pod is gone.
func (vm *VM) RemoveFlexVolume(tb testing.TB, dir string) {
	tb.Helper()
	vm.flexDriver(tb, "unmount", dir)
}

func (vm *VM) flexDriver(tb testing.TB, args ...string) {
	tb.Helper()
	out, err := exec.Command(Binary(tb, "flexvolume_driver"), args...).Output()
	must(tb, err)
	if !strings.Contains(string(out), `"status":"Success"`) {
		tb.Fatalf("flexvolume_driver %s: %s", args[0], out)
	}
}

// Device makes a device of the host one of the pod's volumeDevices.
func (vm *VM) Device(guest, host, permissions string) {
	vm.Config.Devices = append(vm.Config.Devices, &runtimeapi.Device{ContainerPath: guest, HostPath: host, Permissions: permissions})
}

// DiskFile makes a file of zeros to be a disk, outside of what is looked at for leaks.
func (n *Node) DiskFile(tb testing.TB, name string, size int64) string {
	tb.Helper()
	path := n.path("disks", name)
	must(tb, os.MkdirAll(filepath.Dir(path), 0o755))
	must(tb, os.WriteFile(path, nil, 0o600))
	must(tb, os.Truncate(path, size))
	return path
}

// Loop makes a block device of a file. It goes with the test, or with this process.
func (n *Node) Loop(tb testing.TB, file string) string {
	tb.Helper()
	control, err1 := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	backing, err2 := os.OpenFile(file, os.O_RDWR, 0)
	must(tb, errors.Join(err1, err2))
	defer control.Close()
	defer backing.Close()
	for range 50 {
		i, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		must(tb, err)
		name := fmt.Sprintf("/dev/loop%d", i)
		loop, err := os.OpenFile(name, os.O_RDWR, 0)
		must(tb, err)
		config := unix.LoopConfig{Fd: uint32(backing.Fd())}
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
		if err = unix.IoctlLoopConfigure(int(loop.Fd()), &config); err == nil {
			tb.Cleanup(func() { loop.Close() })
			return name
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) {
			tb.Fatal(err)
		}
	}
	tb.Fatal("no free loop device")
	return ""
}
