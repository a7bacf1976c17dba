package runtime

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/disks"
	"github.com/qemulet/qemulet/internal/flexvolume"
	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/internal/vmpod"
)

// flexVolume puts a volume where kubelet would have the driver put it.
func (n *testNode) flexVolume(uid, name, options string) (dir string) {
	n.t.Helper()
	dir = filepath.Join(flexvolume.PodDir(n.KubeletPods, uid), name)
	n.must(os.MkdirAll(dir, 0o700))
	n.must(os.WriteFile(filepath.Join(dir, flexvolume.DataFile), []byte(`{"uuid":"`+name+`",`+options[1:]), 0o600))
	return dir
}

// file makes a file of zeros to be a disk.
func (n *testNode) file(name string, size int64) string {
	n.t.Helper()
	n.must(os.WriteFile(n.path(name), nil, 0o600))
	n.must(os.Truncate(n.path(name), size))
	return n.path(name)
}

func device(guest, host string) *runtimeapi.Device {
	return &runtimeapi.Device{ContainerPath: guest, HostPath: host, Permissions: "mrw"}
}

func (n *testNode) volumes(id string) *volumes {
	n.t.Helper()
	v, err := n.vm(id)
	n.must(err)
	spec, err := vmpod.Parse(v.pod.config(), v.record().Config.M)
	n.must(err)
	vols, err := n.volumesOf(v, spec)
	n.must(err)
	return vols
}

// The order is Virtlet's, and each disk has a serial number of its own.
func TestVolumesInOrder(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	pod := n.podConfig()
	long := strings.Repeat("x", 63)
	n.flexVolume(pod.Metadata.Uid, "zoo", `{"type":"qcow2","capacity":"4M"}`)
	dir := n.flexVolume(pod.Metadata.Uid, "data", `{"type":"qcow2","capacity":"4MiB","part":"2"}`)
	n.flexVolume(pod.Metadata.Uid, long, `{"type":"qcow2","capacity":"4MB","kubernetes.io/readwrite":"ro"}`)
	n.must(os.Symlink(n.file("a", 1<<20), n.path("link")))
	cfg := vmConfig("ignores", 0)
	cfg.Devices = []*runtimeapi.Device{device("/dev/root", n.path("link")), device("/dev/data", n.file("b", 1<<20)), device("/x/y", n.file("c", 1<<20))}
	cfg.Devices[1].Permissions = "r"
	cfg.Mounts = []*runtimeapi.Mount{{ContainerPath: "/mnt", HostPath: dir + "/"}}
	sandbox := n.run(pod)
	id := n.create(sandbox, cfg)

	vols := n.volumes(id)
	var got []string
	for _, d := range vols.machineDisks() {
		got = append(got, fmt.Sprintf("%s %s %s %v", d.ID, d.Serial, d.Format, d.ReadOnly))
	}
	want := []string{"root root qcow2 false",
		"vol0 " + vols.disks[0].Serial + " raw false", // not "root", which is taken
		"vol1 data raw true", "vol2 " + vols.disks[2].Serial + " raw false",
		"vol3 " + vols.disks[3].Serial + " qcow2 false", // not "data" either
		"vol4 " + vols.disks[4].Serial + " qcow2 true",
		"vol5 zoo qcow2 false", "seed seed raw true"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("disks are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	serials := map[string]bool{"root": true, "seed": true}
	for _, d := range vols.disks {
		if serials[d.Serial] || len(d.Serial) > 20 {
			t.Errorf("serial number %q is taken or too long", d.Serial)
		}
		serials[d.Serial] = true
	}
	if vols.disks[0].path != n.path("a") {
		t.Errorf("the link was not resolved: %s", vols.disks[0].path)
	}
	m := vols.seed.Mounts
	if len(m) != 1 || m[0].Path != "/mnt" || m[0].Disk.Part != 2 || m[0].Disk.Serial != vols.disks[3].Serial || m[0].Disk.LUN != 4 {
		t.Errorf("mounts %+v", m)
	}
	n.start(id)
	v, _ := n.vm(id)
	text, err := os.ReadFile(filepath.Join(n.vmDir(pod.Metadata.Uid, v.id), configFile))
	n.must(err)
	for _, want := range []string{n.path("a"), `"destination": "/mnt"`, `"serial=zoo"`, `"ro"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is not in config.json", want)
		}
	}
	n.removePod(sandbox)
}

// What a later attempt finds is what an earlier one has left.
func TestVolumeBelongsToThePod(t *testing.T) {
	n := newTestNode(t)
	n.image("off", guestPowersOff)
	pod := n.podConfig()
	n.flexVolume(pod.Metadata.Uid, "data", `{"type":"qcow2","capacity":"4MiB"}`)
	sandbox := n.run(pod)
	id := n.create(sandbox, vmConfig("off", 0))
	path := n.volumes(id).disks[0].path
	before, err := os.Stat(path)
	n.must(err)
	n.start(id)
	n.awaitEnd(id)
	id = n.create(sandbox, vmConfig("off", 1))
	after, err := os.Stat(path)
	n.must(err)
	if !os.SameFile(before, after) || before.Mode().Perm() != 0o600 {
		t.Errorf("the volume was made anew, or is open to others: %v", before.Mode())
	}
	n.start(id)
	n.awaitEnd(id)
	n.removePod(sandbox)
}

func TestVolumesRefused(t *testing.T) {
	n := newTestNode(t)
	n.image("off", guestPowersOff)
	n.must(unix.Mkfifo(n.path("fifo"), 0o600))
	same := n.file("same", 1<<20)
	for name, c := range map[string]struct {
		devices []*runtimeapi.Device
		flex    map[string]string
		is      func(error) bool
		says    []string
	}{
		"no device":     {devices: []*runtimeapi.Device{device("/dev/x", n.path("nowhere"))}, is: errdefs.IsFailedPrecondition, says: []string{"volume device /dev/x", "nowhere"}},
		"FIFO":          {devices: []*runtimeapi.Device{device("/dev/x", n.path("fifo"))}, is: errdefs.IsInvalidArgument, says: []string{"/dev/x", "a FIFO"}},
		"directory":     {devices: []*runtimeapi.Device{device("/dev/x", n.dir)}, is: errdefs.IsInvalidArgument, says: []string{"a directory"}},
		"GPU":           {devices: []*runtimeapi.Device{device("/dev/x", "/dev/null")}, is: errdefs.IsInvalidArgument, says: []string{"a character device"}},
		"twice":         {devices: []*runtimeapi.Device{device("/dev/x", same), device("/dev/y", same)}, is: errdefs.IsInvalidArgument, says: []string{"two disks", "/dev/x", "/dev/y"}},
		"root twice":    {devices: []*runtimeapi.Device{device("/", same), device("/dev/y", same)}, is: errdefs.IsInvalidArgument, says: []string{"two disks"}},
		"capacity":      {flex: map[string]string{"v": `{"type":"qcow2","capacity":"4 Gb"}`}, is: errdefs.IsInvalidArgument, says: []string{`flexvolume "v"`, "invalid capacity unit", "accepted"}},
		"small":         {flex: map[string]string{"a": `{"type":"qcow2","capacity":"4M"}`, "v": `{"type":"qcow2","capacity":"4K"}`}, is: func(error) bool { return true }, says: []string{"flexvolume v", "4096 bytes"}},
		"type":          {flex: map[string]string{"v": `{"type":"iscsi"}`}, is: errdefs.IsInvalidArgument, says: []string{`"iscsi"`, "qcow2"}},
		"no type":       {flex: map[string]string{"v": `{"part":"1"}`}, is: errdefs.IsInvalidArgument, says: []string{`flexvolume "v"`}},
		"raw forbidden": {flex: map[string]string{"v": `{"type":"raw","path":"/dev/sda"}`}, is: errdefs.IsInvalidArgument, says: []string{"/dev/sda", "whitelisted", "/dev/loop*"}},
		"raw escape":    {flex: map[string]string{"v": `{"type":"raw","path":"/dev/loop0/../sda"}`}, is: errdefs.IsInvalidArgument, says: []string{"raw device"}},
		"raw no disk":   {flex: map[string]string{"v": `{"type":"raw","path":"/dev/loop-control"}`}, is: errdefs.IsInvalidArgument, says: []string{"a character device"}},
		"ceph monitors": {flex: map[string]string{"v": `{"type":"ceph","monitor":"a,b","pool":"p","volume":"v","user":"u","secret":"aHVzaA=="}`}, is: errdefs.IsInvalidArgument, says: []string{"monitor"}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := n.podConfig()
			for name, options := range c.flex {
				n.flexVolume(pod.Metadata.Uid, name, options)
			}
			sandbox := n.run(pod)
			cfg := vmConfig("off", 0)
			cfg.Devices = c.devices
			_, err := n.CreateContainer(t.Context(), sandbox, cfg, nil)
			if err == nil || !c.is(err) {
				t.Fatalf("got %v", err)
			}
			for _, word := range c.says {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q is not in: %v", word, err)
				}
			}
			if strings.Contains(err.Error(), "aHVzaA") {
				t.Errorf("a secret is in: %v", err)
			}
			if left, _ := filepath.Glob(filepath.Join(n.podDir(pod.Metadata.Uid), "*")); len(left) > 0 {
				t.Errorf("left are %v", left)
			}
			n.must(n.StopSandbox(t.Context(), sandbox))
			n.must(n.RemoveSandbox(t.Context(), sandbox))
		})
	}
	n.wantClean()
}

func TestTooManyVolumes(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	for _, c := range []struct {
		driver string
		limit  int
	}{{"virtio", 21}, {"scsi", 26}} {
		cfg := vmConfig("ignores", 0)
		for i := range c.limit - 2 {
			cfg.Devices = append(cfg.Devices, device(fmt.Sprintf("/dev/d%d", i), n.file(fmt.Sprintf("d%d", i), 1<<20)))
		}
		pod := n.podConfig()
		pod.Annotations = map[string]string{"VirtletDiskDriver": c.driver}
		sandbox := n.run(pod)
		one := vmConfig("ignores", 0)
		one.Devices = append(one.Devices, cfg.Devices...)
		one.Devices = append(one.Devices, device("/dev/more", n.file("more", 1<<20)))
		_, err := n.CreateContainer(t.Context(), sandbox, one, nil)
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), fmt.Sprintf("too many %s block devices: the pod has %d", c.driver, c.limit+1)) ||
			!strings.Contains(err.Error(), fmt.Sprintf("the limit is %d", c.limit)) {
			t.Errorf("got %v", err)
		}
		n.start(n.create(sandbox, cfg))
		n.must(n.StopSandbox(t.Context(), sandbox))
		n.must(n.RemoveSandbox(t.Context(), sandbox))
	}
	n.wantClean()
}

// digestOf is the image's, by its name.
func (n *testNode) digestOf(image string) string {
	n.t.Helper()
	target, err := os.Readlink(n.path("images/links", image))
	n.must(err)
	return filepath.Base(target)
}

func (n *testNode) holds(path, image string) bool {
	n.t.Helper()
	digest, err := hex.DecodeString(n.digestOf(image))
	n.must(err)
	data, err := os.ReadFile(path)
	n.must(err)
	return bytes.HasPrefix(data, disks.RootHeader([sha256.Size]byte(digest)))
}

func TestPersistentRoot(t *testing.T) {
	n := newTestNode(t)
	n.image("off", guestPowersOff)
	n.image("ignores", guestIgnores)
	path := n.file("root", 2<<20)
	rooted := func(image string, attempt uint32) *runtimeapi.ContainerConfig {
		cfg := vmConfig(image, attempt)
		cfg.Devices = []*runtimeapi.Device{device("/", path)}
		return cfg
	}
	first := n.run(n.podConfig())
	id := n.create(first, rooted("off", 0))
	if !n.holds(path, "off") {
		t.Fatal("the header is not that of the image")
	}
	if _, err := os.Stat(n.rootPath(must(n.pod(first)).uid())); err == nil {
		t.Error("there is an overlay")
	}

	// Another pod must keep off the device from the first moment on, this
	// daemon's or the next one's.
	second := n.run(n.podConfig())
	n.crash(nil)
	_, err := n.CreateContainer(t.Context(), second, rooted("off", 0), nil)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "it is the root disk of container "+id) {
		t.Errorf("the device was given away: %v", err)
	}
	n.start(id)
	n.awaitEnd(id)

	// It is free again; the same image leaves what guests have written.
	n.scribble(path, 1<<20, "kept")
	id = n.create(second, rooted("off", 0))
	n.start(id)
	n.awaitEnd(id)
	if data, _ := os.ReadFile(path); !bytes.Contains(data, []byte("kept")) {
		t.Error("the data are gone")
	}
	// Both pods have the same log.
	if log, _ := os.ReadFile(must(n.Container(id)).LogPath); strings.Count(string(log), "persistent root:") != 1 {
		t.Errorf("the log says %s", log)
	}

	// Another image does not, and the log tells.
	id = n.create(second, rooted("ignores", 1))
	n.start(id)
	if data, _ := os.ReadFile(path); bytes.Contains(data, []byte("kept")) || !n.holds(path, "ignores") {
		t.Error("the device was not made anew")
	}
	log, _ := os.ReadFile(must(n.Container(id)).LogPath)
	for _, want := range []string{"THE IMAGE HAS CHANGED", n.digestOf("off"), n.digestOf("ignores"), path} {
		if !strings.Contains(string(log), want) {
			t.Errorf("%q is not in the log: %s", want, log)
		}
	}
	n.must(n.RemoveSandbox(t.Context(), first))
	n.removePod(second)
	if !n.holds(path, "ignores") {
		t.Error("the disk went with its pod")
	}
}

func (n *testNode) scribble(path string, at int64, text string) {
	n.t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	n.must(err)
	defer f.Close()
	_, err = f.WriteAt([]byte(text), at)
	n.must(err)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestPersistentRootRefused(t *testing.T) {
	n := newTestNode(t)
	n.image("off", guestPowersOff)
	newer := n.file("newer", 2<<20)
	n.scribble(newer, 0, string(disks.RootHeader([sha256.Size]byte{})[:9])+"\x02 of the future")
	small := n.file("small", 1<<20)
	n.scribble(small, 0, "somebody's data")
	sandbox := n.run(n.podConfig())
	for path, word := range map[string]string{newer: "version 2", small: "too small", n.path("nowhere"): "no such file"} {
		before, _ := os.ReadFile(path)
		cfg := vmConfig("off", 0)
		cfg.Devices = []*runtimeapi.Device{device("/", path)}
		_, err := n.CreateContainer(t.Context(), sandbox, cfg, nil)
		if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", path, err)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
			t.Errorf("%s was written to", path)
		}
	}

	// What is not what it was made is not booted.
	path := n.file("root", 2<<20)
	cfg := vmConfig("off", 0)
	cfg.Devices = []*runtimeapi.Device{device("/", path)}
	id := n.create(sandbox, cfg)
	n.scribble(path, 12, "?")
	if err := n.StartContainer(t.Context(), id); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "something else has written to it") {
		t.Errorf("started: %v", err)
	}
	n.removePod(sandbox)
}

// A daemon that dies while it copies leaves no finished disk, and the next one
// begins again.
func TestPersistentRootInterrupted(t *testing.T) {
	n := newTestNode(t)
	n.image("off", guestPowersOff)
	path := n.file("root", 2<<20)
	sandbox := n.run(n.podConfig())
	cfg := vmConfig("off", 0)
	cfg.Devices = []*runtimeapi.Device{device("/", path)}
	id := n.create(sandbox, cfg)
	n.scribble(path, 0, strings.Repeat("\x00", 512))
	n.crash(func(db *store.DB) {
		n.containerRecord(db, id, func(c *store.Container) { c.Phase = store.ContainerCreating })
	})
	id = n.create(sandbox, cfg)
	if !n.holds(path, "off") {
		t.Error("the disk was not finished")
	}
	n.start(id)
	n.awaitEnd(id)
	n.removePod(sandbox)
}

// After a reboot the pod's next VM has the same volumes and the same root device.
func TestVolumesAfterReboot(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	path := n.file("root", 2<<20)
	config := func(attempt uint32) *runtimeapi.ContainerConfig {
		cfg := vmConfig("ignores", attempt)
		cfg.Devices = []*runtimeapi.Device{device("/", path)}
		return cfg
	}
	pod := n.podConfig()
	n.flexVolume(pod.Metadata.Uid, "data", `{"type":"qcow2","capacity":"4MiB"}`)
	sandbox := n.run(pod)
	id := n.create(sandbox, config(0))
	n.start(id)
	volume := n.volumes(id).disks[0].path
	before, err := os.Stat(volume)
	n.must(err)
	n.reboot(id)
	n.scribble(path, 1<<20, "kept")

	pod.Metadata.Attempt++
	next := n.run(pod)
	id = n.create(next, config(1))
	n.start(id)
	if after, err := os.Stat(volume); err != nil || !os.SameFile(before, after) {
		t.Errorf("the volume was made anew: %v", err)
	}
	if data, _ := os.ReadFile(path); !bytes.Contains(data, []byte("kept")) {
		t.Error("the root disk was made anew")
	}
	n.must(n.RemoveSandbox(t.Context(), sandbox))
	n.removePod(next)
}

// A key is in memory that its user, and no other, can read.
func TestKeyIsOnlyForQEMU(t *testing.T) {
	r := &Runtime{Options: Options{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}}
	f, err := r.openKey("aHVzaA==")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Uid != 65534 || st.Mode&0o777 != 0o400 {
		t.Errorf("owner %d, mode %o, %v", st.Uid, st.Mode, err)
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil || string(data) != "aHVzaA==" {
		t.Errorf("%q, %v", data, err)
	}
}
