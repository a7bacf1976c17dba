package cloudinit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func virtioDisk(serial string, n, part int) Disk {
	return Disk{Serial: serial, PCI: fmt.Sprintf("0000:00:%02x.0", 10+n), Part: part}
}

func scsiDisk(serial string, lun, part int) Disk {
	return Disk{Serial: serial, PCI: "0000:00:02.3", SCSI: true, LUN: lun, Part: part}
}

func TestSerial(t *testing.T) {
	for name, want := range map[string]string{
		"data":                 "data",
		"vol-1_X":              "vol-1_X",
		"12345678901234567890": "12345678901234567890",
	} {
		if got := Serial(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"123456789012345678901", "a b", "", "-x", "/dev/testpvc", "é", "a.b", strings.Repeat("x", 300)} {
		got := Serial(name)
		if !safeSerial.MatchString(got) || got != Serial(name) || got == Serial(name+"x") {
			t.Errorf("%q: %q", name, got)
		}
	}
	if got := Serial("/dev/testpvc"); !strings.HasPrefix(got, "dev-tes-") {
		t.Errorf("%q cannot be recognised", got)
	}
}

func FuzzSerial(f *testing.F) {
	f.Add("data")
	f.Add("/dev/testpvc")
	f.Fuzz(func(t *testing.T, name string) {
		if got := Serial(name); !safeSerial.MatchString(got) {
			t.Errorf("%q: %q", name, got)
		}
	})
}

func TestDiskNames(t *testing.T) {
	v, s := virtioDisk("data", 1, 2), scsiDisk("data", 3, 0)
	for _, c := range []struct{ got, want string }{
		{v.Name(), "/dev/disk/by-id/virtio-data-part2"},
		{s.Name(), "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data"},
		{strings.Join(v.Links(), " "), "/dev/disk/by-id/virtio-data /dev/disk/by-path/pci-0000:00:0b.0 /dev/disk/by-path/virtio-pci-0000:00:0b.0"},
		{strings.Join(s.Links(), " "), "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data /dev/disk/by-path/pci-0000:00:02.3-scsi-0:0:0:3 /dev/disk/by-path/virtio-pci-0000:00:02.3-scsi-0:0:0:3"},
		{v.SysGlob(), "/sys/bus/pci/devices/0000:00:0b.0/virtio*/block/*"},
		{s.SysGlob(), "/sys/bus/pci/devices/0000:00:02.3/virtio*/host*/target*:0:0/*:0:0:3/block/*"},
	} {
		if c.got != c.want {
			t.Errorf("%s, want %s", c.got, c.want)
		}
	}
}

func fullVolumes() Volumes {
	return Volumes{
		Devices: []DeviceLink{{virtioDisk("pvc", 1, 0), "/dev/testpvc"}, {scsiDisk("sub", 2, 0), "/dev/a/it's"}},
		Mounts: []Mount{
			{Disk: virtioDisk("vol", 2, 1), Path: "/mnt/vol"},
			{Disk: scsiDisk("whole", 3, 0), Path: "/mnt/whole disk", ReadOnly: true},
			{Tag: "data", Path: "/data"},
			{Tag: "conf-12345678", Path: "/etc/conf", ReadOnly: true},
		},
	}
}

func TestVolumesGolden(t *testing.T) {
	golden(t, "testdata/volumes/"+filepath.Base(SymlinkScriptFile), []byte(fullVolumes().SymlinkScript()))
	golden(t, "testdata/volumes/"+filepath.Base(MountScriptFile), []byte(fullVolumes().MountScript()))
	seed := Seed{InstanceID: "a.b", Hostname: "a",
		Files: []WriteFile{{Path: "/before", Mode: 0o600}}, Env: []EnvVar{{"A", "b"}},
		UserData: map[string]any{
			"runcmd": []any{"echo mine"},
			"mounts": []any{[]any{"/dev/testpvc", "/mnt/pvc"}, []any{"/dev/other", "/x"}, []any{}, "odd", []any{7}},
		}}
	before := fmt.Sprint(seed.UserData)
	given := seed.UserData
	fullVolumes().AddTo(&seed)
	if fmt.Sprint(given) != before {
		t.Errorf("the given user-data are now %v", given)
	}
	// The scripts have files of their own above.
	for i := range seed.Files {
		if strings.HasSuffix(seed.Files[i].Path, ".sh") {
			seed.Files[i].Data = []byte("...")
		}
	}
	golden(t, "testdata/volumes/user-data", []byte(render(t, seed)["user-data"]))
}

// Nothing in a guest is nothing in the seed.
func TestVolumesNone(t *testing.T) {
	seed := Seed{UserData: map[string]any{"mounts": []any{[]any{"/dev/x", "/x"}}}}
	want := seed
	Volumes{}.AddTo(&seed)
	if !reflect.DeepEqual(seed, want) {
		t.Errorf("%+v", seed)
	}
}

// In a script the placeholder becomes both scripts, or the one that there is.
func TestVolumesInScript(t *testing.T) {
	v := fullVolumes()
	for _, c := range []struct {
		volumes Volumes
		want    string
	}{
		{v, v.SymlinkScript() + "\n" + v.MountScript()},
		{Volumes{Devices: v.Devices}, v.SymlinkScript()},
		{Volumes{Mounts: v.Mounts}, v.MountScript()},
		{Volumes{}, ""},
	} {
		seed := Seed{UserDataScript: MountScriptPlaceholder}
		c.volumes.AddTo(&seed)
		if got := render(t, seed)["user-data"]; got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// guest is a made-up /sys, /dev and /proc below a directory.
type guest struct {
	t    *testing.T
	root string
}

func (g guest) path(p string) string { return filepath.Join(g.root, p) }

func (g guest) file(path, content string) {
	g.t.Helper()
	if err := os.MkdirAll(filepath.Dir(g.path(path)), 0o755); err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(g.path(path), []byte(content), 0o644); err != nil {
		g.t.Fatal(err)
	}
}

// node makes a block device that is none.
func (g guest) node(path string) {
	g.t.Helper()
	if err := os.MkdirAll(filepath.Dir(g.path(path)), 0o755); err != nil {
		g.t.Fatal(err)
	}
	if err := unix.Mknod(g.path(path), unix.S_IFBLK|0o600, int(unix.Mkdev(240, 0))); err != nil {
		g.t.Fatalf("root is needed, to make device nodes: %v", err)
	}
}

func (g guest) link(from, to string) {
	g.t.Helper()
	if err := os.MkdirAll(filepath.Dir(g.path(from)), 0o755); err != nil {
		g.t.Fatal(err)
	}
	if err := os.Symlink(g.path(to), g.path(from)); err != nil {
		g.t.Fatal(err)
	}
}

func newGuest(t *testing.T) guest {
	g := guest{t, t.TempDir()}
	g.file("/proc/mounts", "/dev/root / ext4 rw 0 0\n")
	return g
}

// run runs a script whose mounts are only noted, and returns the notes, without
// the guest's root directory in them, and what the script said.
func (g guest) run(shell []string, script string) (mounts, said string) {
	g.t.Helper()
	log := g.path("mounts.log")
	if err := os.WriteFile(log, nil, 0o644); err != nil {
		g.t.Fatal(err)
	}
	for _, dir := range []string{"/sys/", "/dev/", "/proc/", "/mnt/", "/data"} {
		script = strings.ReplaceAll(script, dir, "\x01"+dir)
	}
	script = strings.ReplaceAll(script, ">&2", "") // beside what is printed for others
	script = strings.ReplaceAll(script, "2>\x01/dev/null", "2>/dev/null")
	script = strings.ReplaceAll(script, "\x01", g.root)
	text := "set -eu\nmount() { echo \"$*\" >>" + log + "; }\nsleep() { :; }\n" + script + "\necho done\n"
	cmd := exec.Command(shell[0], append(shell[1:], "-c", text)...)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "done\n") {
		g.t.Errorf("%q: %v: %s", shell, err, out)
	}
	notes, err := os.ReadFile(log)
	if err != nil {
		g.t.Fatal(err)
	}
	clean := func(b []byte) string { return strings.ReplaceAll(string(b), g.root, "") }
	return clean(notes), strings.TrimSuffix(clean(out), "done\n")
}

// shells are busybox's, as in small guests, and Debian's two.
func shells(t *testing.T, test func(*testing.T, []string)) {
	for _, s := range [][]string{{"busybox", "sh"}, {"dash"}, {"bash"}} {
		if _, err := exec.LookPath(s[0]); err != nil {
			t.Fatalf("%s is needed: %v", s[0], err)
		}
		t.Run(s[0], func(t *testing.T) { test(t, s) })
	}
}

// Every way in which a guest may know a disk leads to it: what the kernel says,
// udev's links old and new, the place in sysfs.
func TestScriptsFindDisks(t *testing.T) {
	virtio, scsi := virtioDisk("data", 1, 1), scsiDisk("data", 3, 1)
	for name, c := range map[string]struct {
		disk Disk
		make func(guest)
		want string
	}{
		"virtio serial": {virtio, func(g guest) {
			g.file("/sys/block/vda/serial", "root\n")
			g.file("/sys/block/vdb/serial", "data\n")
		}, "/dev/vdb1"},
		"virtio serial without end": {virtio, func(g guest) { g.file("/sys/block/vdc/serial", "data") }, "/dev/vdc1"},
		"scsi page": {scsi, func(g guest) {
			g.file("/sys/block/loop0/size", "0")
			g.file("/sys/block/sda/device/vpd_pg80", "\x00\x80\x00\x04root")
			g.file("/sys/block/sdb/device/vpd_pg80", "\x00\x80\x00\x04data")
		}, "/dev/sdb1"},
		"scsi page with blanks": {scsi, func(g guest) { g.file("/sys/block/sdb/device/vpd_pg80", "\x00\x80\x00\x08data  \x00\x00") }, "/dev/sdb1"},
		"name with a digit":     {virtio, func(g guest) { g.file("/sys/block/nvme0n1/serial", "data\n") }, "/dev/nvme0n1p1"},
		"by id": {scsi, func(g guest) {
			g.node("/dev/sdq")
			g.link("/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data", "/dev/sdq")
		}, "/dev/sdq1"},
		"by path of today": {scsi, func(g guest) {
			g.node("/dev/sdq")
			g.link("/dev/disk/by-path/pci-0000:00:02.3-scsi-0:0:0:3", "/dev/sdq")
		}, "/dev/sdq1"},
		"by path of old": {virtio, func(g guest) {
			g.node("/dev/vdq")
			g.link("/dev/disk/by-path/virtio-pci-0000:00:0b.0", "/dev/vdq")
		}, "/dev/vdq1"},
		"virtio in sysfs": {virtio, func(g guest) { g.file("/sys/bus/pci/devices/0000:00:0b.0/virtio4/block/vdx/size", "") }, "/dev/vdx1"},
		"scsi in sysfs": {scsi, func(g guest) {
			g.file("/sys/bus/pci/devices/0000:00:02.3/virtio3/host2/target2:0:0/2:0:0:2/block/sdw/size", "")
			g.file("/sys/bus/pci/devices/0000:00:02.3/virtio3/host2/target2:0:0/2:0:0:3/block/sdx/size", "")
		}, "/dev/sdx1"},
		"serial before path": {virtio, func(g guest) {
			g.file("/sys/block/vdb/serial", "data\n")
			g.file("/sys/bus/pci/devices/0000:00:0b.0/virtio4/block/vdx/size", "")
		}, "/dev/vdb1"},
	} {
		t.Run(name, func(t *testing.T) {
			shells(t, func(t *testing.T, shell []string) {
				g := newGuest(t)
				c.make(g)
				mounts, said := g.run(shell, Volumes{Mounts: []Mount{{Disk: c.disk, Path: "/mnt/x"}}}.MountScript())
				if want := "-o rw " + c.want + " /mnt/x\n"; mounts != want || said != "" {
					t.Errorf("mounted %q, said %q; want %q", mounts, said, want)
				}
			})
		})
	}
}

// All mounts are made, in their order, with awkward names, and none twice; one
// that fails does not stop the others.
func TestMountScript(t *testing.T) {
	v := Volumes{Mounts: []Mount{
		{Tag: "data", Path: "/data/it's $HOME `x` \"*\""},
		{Disk: virtioDisk("gone", 7, 1), Path: "/mnt/gone"},
		{Tag: "there", Path: "/mnt/there already"},
		{Tag: "linked", Path: "/mnt/link"},
		{Disk: virtioDisk("whole", 1, 0), Path: "/mnt/whole", ReadOnly: true},
		{Tag: "ro", Path: "/mnt/ro", ReadOnly: true},
	}}
	shells(t, func(t *testing.T, shell []string) {
		g := newGuest(t)
		g.file("/sys/block/vdb/serial", "whole\n")
		g.file("/mnt/target/file", "")
		g.link("/mnt/link", "/mnt/target")
		g.file("/proc/mounts", "root / ext4 rw 0 0\nthere "+g.path("/mnt/there")+`\040already 9p rw 0 0`+"\nx "+g.path("/mnt/target")+" 9p rw 0 0\n")
		mounts, said := g.run(shell, v.MountScript())
		want := "-t 9p -o trans=virtio,msize=262144 data /data/it's $HOME `x` \"*\"\n" +
			"-o ro /dev/vdb /mnt/whole\n" +
			"-t 9p -o trans=virtio,msize=262144,ro ro /mnt/ro\n"
		if mounts != want {
			t.Errorf("mounted\n%swant\n%s", mounts, want)
		}
		if said != "" { // findDisk's complaint is taken for a device by $() here
			t.Errorf("said %q", said)
		}
		if st, err := os.Stat(g.path("/mnt/ro")); err != nil || !st.IsDir() {
			t.Errorf("no directory: %v", err)
		}
	})
}

// Links are made where there was nothing, a wrong link, or a right one.
func TestSymlinkScript(t *testing.T) {
	v := Volumes{Devices: []DeviceLink{
		{virtioDisk("pvc", 1, 0), "/dev/testpvc"},
		{virtioDisk("pvc", 1, 0), "/dev/deep/er/it's"},
		{virtioDisk("gone", 5, 0), "/dev/gone"},
		{virtioDisk("pvc", 1, 0), "/dev/wrong"},
	}}
	shells(t, func(t *testing.T, shell []string) {
		g := newGuest(t)
		g.file("/sys/block/vdb/serial", "pvc\n")
		g.file("/dev/dir/x", "")
		g.link("/dev/wrong", "/dev/dir")
		for range 2 {
			g.run(shell, v.SymlinkScript())
			for _, path := range []string{"/dev/testpvc", "/dev/deep/er/it's", "/dev/wrong"} {
				if to, err := os.Readlink(g.path(path)); err != nil || to != g.path("/dev/vdb") {
					t.Errorf("%s: %s, %v", path, to, err)
				}
			}
			if _, err := os.Lstat(g.path("/dev/gone")); err == nil {
				t.Error("there is a link to a disk that is not")
			}
		}
	})
}

// Files that belong into volumes are bound there once, on a file or directory that
// is made if there is none.
func TestBindScript(t *testing.T) {
	v := Volumes{Mounts: []Mount{
		{Tag: "data", Path: "/data"},
		{Bind: "/mnt/own/a conf", Path: "/data/etc/a conf"},
		{Bind: "/mnt/own/dir", Path: "/data/dir/conf.d"},
		{Bind: "/mnt/own/none", Path: "/data/none"},
		{Bind: "/mnt/own/bound", Path: "/data/bound"},
	}}
	shells(t, func(t *testing.T, shell []string) {
		g := newGuest(t)
		g.file("/mnt/own/a conf", "a")
		g.file("/mnt/own/dir/x", "x")
		g.file("/mnt/own/bound", "b")
		g.link("/data/bound", "/mnt/own/bound") // one file under two names, as if bound
		mounts, said := g.run(shell, v.MountScript())
		want := "-t 9p -o trans=virtio,msize=262144 data /data\n" +
			"-o bind /mnt/own/a conf /data/etc/a conf\n" +
			"-o bind /mnt/own/dir /data/dir/conf.d\n"
		if mounts != want || said != "" {
			t.Errorf("mounted\n%swant\n%ssaid %q", mounts, want, said)
		}
		if st, err := os.Stat(g.path("/data/etc/a conf")); err != nil || !st.Mode().IsRegular() || st.Size() != 0 {
			t.Errorf("no file to bind to: %v %v", st, err)
		}
		if st, err := os.Stat(g.path("/data/dir/conf.d")); err != nil || !st.IsDir() {
			t.Errorf("no directory to bind to: %v", err)
		}
	})
}

// cloud-init mounts before it writes all files; so binding is left to the script.
func TestBindsAtBoot(t *testing.T) {
	var s Seed
	Volumes{Mounts: []Mount{{Tag: "data", Path: "/data"}, {Bind: "/own/a", Path: "/data/a"}}}.AddTo(&s)
	if len(s.Mounts) != 1 || s.Mounts[0][0] != "data" {
		t.Errorf("mounts %q", s.Mounts)
	}
	want := [][]string{{"sh", MountScriptFile}, {"mkdir", "-p", perBootDir}, {"ln", "-sf", MountScriptFile, perBootDir + "/"}}
	if !reflect.DeepEqual(s.RunCmd, want) {
		t.Errorf("runcmd %q, want %q", s.RunCmd, want)
	}
}
