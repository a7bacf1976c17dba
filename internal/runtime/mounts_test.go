package runtime

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/internal/vmpod"
	"github.com/qemulet/qemulet/qemu"
)

const testUID = "12345678-0000-4000-8000-000000000001"

func makeDir(t *testing.T, elem ...string) string {
	t.Helper()
	dir := filepath.Join(elem...)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func makeFile(t *testing.T, content string, elem ...string) string {
	t.Helper()
	path := filepath.Join(elem...)
	makeDir(t, filepath.Dir(path))
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func mountsOf(t *testing.T, mounts ...vmpod.Mount) *volumes {
	t.Helper()
	var v volumes
	if err := v.addMounts(testUID, mounts); err != nil {
		t.Fatal(err)
	}
	return &v
}

// What kubelet made of objects, and single files, are copied; other directories are shared.
func TestMountKinds(t *testing.T) {
	root := t.TempDir()
	pod := makeDir(t, root, "pods", testUID)
	volumes := filepath.Join(pod, "volumes")
	makeDir(t, volumes, "kubernetes.io~configmap", "conf", "sub")
	makeDir(t, pod, "volume-subpaths", "conf", "vm", "0")
	makeDir(t, volumes, "kubernetes.io~empty-dir", "empty")
	makeDir(t, pod, "volume-subpaths", "empty", "vm", "1")
	if err := os.Symlink(makeDir(t, root, "real"), filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{
		filepath.Join(volumes, "kubernetes.io~configmap", "conf"):                              "object",
		filepath.Join(volumes, "kubernetes.io~configmap", "conf", "sub"):                       "object",
		makeDir(t, volumes, "kubernetes.io~secret", "s"):                                       "object",
		makeDir(t, volumes, "kubernetes.io~projected", "p"):                                    "object",
		makeDir(t, volumes, "kubernetes.io~downward-api", "d"):                                 "object",
		filepath.Join(pod, "volume-subpaths", "conf", "vm", "0"):                               "object",
		filepath.Join(pod, "volume-subpaths", "empty", "vm", "1"):                              "share",
		filepath.Join(volumes, "kubernetes.io~empty-dir", "empty"):                             "share",
		makeDir(t, volumes, "kubernetes.io~csi", "pvc", "mount"):                               "share",
		makeDir(t, root, "pods", "another-pod", "volumes", "kubernetes.io~secret", "s"):        "share",
		makeDir(t, root, "pods", testUID+"0", "volumes", "kubernetes.io~secret", "s"):          "share",
		filepath.Join(volumes, "kubernetes.io~configmap"):                                      "share",
		filepath.Join(root, "link"):                                                            "share",
		makeFile(t, "x", pod, "etc-hosts"):                                                     "file",
		makeFile(t, "x", pod, "volume-subpaths", "conf", "vm", "2"):                            "file",
		makeFile(t, "x", root, "some.conf"):                                                    "file",
		makeFile(t, "x", root, "other", "pods", testUID, "volumes/kubernetes.io~secret/s/key"): "file",
	} {
		v := mountsOf(t, vmpod.Mount{ContainerPath: "/mnt/x", HostPath: host})
		got := "none"
		switch {
		case len(v.shares) == 1 && len(v.copies) == 0 && v.shares[0].path == host:
			got = "share"
		case len(v.shares) == 0 && len(v.copies) == 1 && v.copies[0].host == host:
			got = map[bool]string{true: "object", false: "file"}[v.copies[0].object]
		}
		if got != want {
			t.Errorf("%s: %s, want %s", strings.TrimPrefix(host, root), got, want)
		}
	}
}

// Mounts come from above to below, tags are not taken twice, and read-only is for
// the machine and for the guest.
func TestShares(t *testing.T) {
	dir := t.TempDir()
	v := mountsOf(t,
		vmpod.Mount{ContainerPath: "/srv/b/data", HostPath: dir, ReadOnly: true},
		vmpod.Mount{ContainerPath: "/srv/a/data", HostPath: dir},
		vmpod.Mount{ContainerPath: "/srv", HostPath: dir},
	)
	if len(v.shares) != 3 || len(v.seed.Mounts) != 3 {
		t.Fatalf("%+v", v)
	}
	tags := map[string]bool{}
	for i, want := range []struct {
		guest    string
		readOnly bool
	}{{"/srv", false}, {"/srv/b/data", true}, {"/srv/a/data", false}} {
		s, m := v.shares[i], v.seed.Mounts[i]
		if s.guest != want.guest || s.ReadOnly != want.readOnly || m.Path != want.guest || m.ReadOnly != want.readOnly || m.Tag != s.Tag || s.ID != fmt.Sprint("share", i) {
			t.Errorf("%d: %+v %+v, want %+v", i, s, m, want)
		}
		tags[s.Tag] = true
	}
	if len(tags) != 3 || !tags["data"] || !tags["srv"] {
		t.Errorf("tags %v", tags)
	}
}

// What belongs into a volume is bound there, or the volume would hide it.
func TestCopyIntoVolume(t *testing.T) {
	root := t.TempDir()
	conf := makeDir(t, root, "pods", testUID, "volumes", "kubernetes.io~configmap", "conf")
	makeFile(t, "a", conf, "a")
	v := mountsOf(t,
		vmpod.Mount{ContainerPath: "/data/conf.d", HostPath: conf},
		vmpod.Mount{ContainerPath: "/data/x.conf", HostPath: makeFile(t, "x", root, "x")},
		vmpod.Mount{ContainerPath: "/database", HostPath: makeFile(t, "y", root, "y")},
		vmpod.Mount{ContainerPath: "/data", HostPath: root},
	)
	files, err := v.readCopies()
	if err != nil {
		t.Fatal(err)
	}
	want := "/database 0644 y,/etc/cloud/mounts/1/conf.d/a 0644 a,/etc/cloud/mounts/2/x.conf 0644 x"
	if got := strings.Join(describe(files), ","); got != want {
		t.Errorf("files %s, want %s", got, want)
	}
	var binds []string
	for _, m := range v.seed.Mounts {
		if m.Bind != "" {
			binds = append(binds, m.Bind+" "+m.Path)
		}
	}
	if got, want := strings.Join(binds, ","), "/etc/cloud/mounts/1/conf.d /data/conf.d,/etc/cloud/mounts/2/x.conf /data/x.conf"; got != want {
		t.Errorf("binds %s, want %s", got, want)
	}
}

// All that is wrong is told at once, with both paths of each mount.
func TestMountsRefused(t *testing.T) {
	dir := t.TempDir()
	fifo, socket := filepath.Join(dir, "fifo"), filepath.Join(dir, "socket")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var v volumes
	err = v.addMounts(testUID, []vmpod.Mount{
		{ContainerPath: "/m/none", HostPath: "/no/such"},
		{ContainerPath: "/m/fifo", HostPath: fifo},
		{ContainerPath: "/m/socket", HostPath: socket},
		{ContainerPath: "/m/null", HostPath: "/dev/null"},
		{ContainerPath: "/m/two words", HostPath: dir},
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"mount /m/none of the host's /no/such: stat /no/such: no such file or directory",
		"mount /m/fifo of the host's " + fifo + ": is a FIFO: accepted are files and directories",
		"mount /m/socket of the host's " + socket + ": is a socket: accepted are",
		"mount /m/null of the host's /dev/null: is a device: accepted are",
		"mount /m/two words of the host's " + dir + ": a volume's directory in the guest cannot have blanks and backslashes",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
	if !errdefs.IsInvalidArgument(err) && !errdefs.IsFailedPrecondition(err) {
		t.Errorf("no class: %v", err)
	}

	var many []vmpod.Mount
	for i := range qemu.MaxShares + 1 {
		many = append(many, vmpod.Mount{ContainerPath: fmt.Sprint("/m/", i), HostPath: dir})
	}
	if err := new(volumes).addMounts(testUID, many); err == nil || !strings.Contains(err.Error(), "mount /m/32 of the host's "+dir+": is a directory too many: a virtual machine has up to 32 shared ones") {
		t.Errorf("too many: %v", err)
	}
	big := makeFile(t, strings.Repeat("x", maxMountedFile+1), dir, "big")
	if _, err := mountsOf(t, vmpod.Mount{ContainerPath: "/m/big", HostPath: big}).readCopies(); err == nil || !strings.Contains(err.Error(), "mount /m/big of the host's "+big+": ") {
		t.Errorf("too big: %v", err)
	}
}

// A script is all of user-data: files that are then missing are spoken of,
// except those that every container has.
func TestScriptHidesCopies(t *testing.T) {
	dir := t.TempDir()
	file := makeFile(t, "x", dir, "x")
	v := mountsOf(t, vmpod.Mount{ContainerPath: "/etc/hosts", HostPath: file}, vmpod.Mount{ContainerPath: "/etc/x", HostPath: file})
	v.noteScript(&vmpod.VM{})
	if len(v.notes) != 0 {
		t.Errorf("without a script: %q", v.notes)
	}
	spec := &vmpod.VM{}
	spec.CloudInit.UserDataScript = "#!/bin/sh\n"
	v.noteScript(spec)
	if len(v.notes) != 1 || !strings.HasPrefix(v.notes[0], "mount /etc/x is not in the guest") {
		t.Errorf("with a script: %q", v.notes)
	}
}

func TestGuestsFullName(t *testing.T) {
	hosts := makeFile(t, "10.1.2.3\tvm.web.ns.svc.cluster.local\tvm\n", t.TempDir(), "etc-hosts")
	files, err := mountsOf(t, vmpod.Mount{ContainerPath: "/etc/hosts", HostPath: hosts}).readCopies()
	if err != nil {
		t.Fatal(err)
	}
	for hostname, want := range map[string]string{"vm": "vm.web.ns.svc.cluster.local", "other": "", "a.b.c": "a.b.c"} {
		spec := &vmpod.VM{}
		spec.Hostname = hostname
		if got := fqdn(spec, files); got != want {
			t.Errorf("%s: %q, want %q", hostname, got, want)
		}
	}
}
