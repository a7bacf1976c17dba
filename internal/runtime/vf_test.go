package runtime

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/netns"
	"github.com/qemulet/qemulet/qemu"
)

// vfNetwork is a pod's network with one VF, as found after a restart.
func vfNetwork(t *testing.T) *netns.Network {
	t.Helper()
	sys := t.TempDir()
	device := filepath.Join(sys, "bus/pci/devices/0000:3b:02.1")
	if err := errors.Join(os.MkdirAll(device, 0o755), os.Symlink("../../drivers/vfio-pci", filepath.Join(device, "driver"))); err != nil {
		t.Fatal(err)
	}
	m, err := netns.NewManager(netns.Options{CacheDir: t.TempDir(), SysDir: sys})
	if err != nil {
		t.Fatal(err)
	}
	n, err := m.Open(t.Context(), netns.Record{
		Pod: netns.Pod{ID: "pod"}, NetnsPath: "/proc/self/ns/net",
		Interfaces: []netns.Interface{{Name: "eth0", Plumbing: netns.PlumbingPassthrough, MAC: netns.HardwareAddr{2, 0, 0, 0, 0, 1},
			MTU: 9000, VF: &netns.VF{PCI: "0000:3b:02.1", Group: 17}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

func TestVFBecomesNIC(t *testing.T) {
	n := vfNetwork(t)
	v := &vm{pod: &pod{}}
	v.pod.setNetwork(n)
	want := []qemu.NIC{{ID: "net0", MAC: "02:00:00:00:00:01", Host: "0000:3b:02.1"}}
	if got := (&Runtime{}).nics(v, qemu.TCG); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	in := seedNetwork(n.Record()).Interfaces[0]
	if in.MAC.String() != "02:00:00:00:00:01" || in.MTU != 9000 {
		t.Errorf("cloud-init is told of %+v", in)
	}
	err := (&Runtime{}).grantVFs(n, 1<<20)
	if err == nil || !strings.Contains(err.Error(), "interface eth0, PCI device 0000:3b:02.1: ") {
		t.Errorf("without its group: %v", err)
	}
	if err := (&Runtime{}).grantVFs(nil, 1<<20); err != nil {
		t.Errorf("without a network: %v", err)
	}
}

func TestGrantGroup(t *testing.T) {
	dir := t.TempDir()
	group := filepath.Join(dir, "17")
	if err := os.WriteFile(group, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	user := &syscall.Credential{Uid: 65534, Gid: 65533}
	for range 2 { // the second VM of the pod, or a second start
		if err := grantGroup(dir, 17, user); err != nil {
			t.Fatal(err)
		}
	}
	st, err := os.Stat(group)
	if err != nil {
		t.Fatal(err)
	}
	if owner := st.Sys().(*syscall.Stat_t); owner.Uid != 65534 || owner.Gid != 65533 || st.Mode().Perm() != 0o600 {
		t.Errorf("owner %d:%d, mode %v", owner.Uid, owner.Gid, st.Mode())
	}
	for _, c := range []*syscall.Credential{user, nil} {
		if err := grantGroup(dir, 18, c); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("without the group: %v", err)
		}
	}
}

func TestCheckLockable(t *testing.T) {
	if err := checkLockable(0); err != nil {
		t.Error(err)
	}
	// More than any limit but that of none at all.
	err := checkLockable(math.MaxInt64)
	if err != nil && (!errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "LimitMEMLOCK=infinity")) {
		t.Errorf("got %v", err)
	}
}
