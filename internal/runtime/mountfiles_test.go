package runtime

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/qemulet/qemulet/cloudinit"
)

// atomicVolume is laid out as kubelet's AtomicWriter does: a directory per
// state, a link to the current one, and links through that.
func atomicVolume(t *testing.T, dir string, files map[string]os.FileMode) {
	t.Helper()
	const state = "..2026_11_22_10_00_00.123456789"
	for name, mode := range files {
		path := filepath.Join(dir, state, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("content of "+name), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		top, _, _ := strings.Cut(name, "/")
		_ = os.Symlink(filepath.Join(dataLink, top), filepath.Join(dir, top)) // again for each file below it
	}
	if err := os.Symlink(state, filepath.Join(dir, dataLink)); err != nil {
		t.Fatal(err)
	}
}

func describe(files []cloudinit.WriteFile) []string {
	var all []string
	for _, f := range files {
		all = append(all, fmt.Sprintf("%s %04o %s", f.Path, uint32(f.Mode), f.Data))
	}
	return all
}

func TestVolumeFiles(t *testing.T) {
	dir := t.TempDir()
	atomicVolume(t, dir, map[string]os.FileMode{"a.conf": 0o644, "secret": 0o400, "sub/deep/run.sh": 0o755, ".hidden": 0o440})
	// An older state that kubelet has not deleted yet.
	if err := os.MkdirAll(filepath.Join(dir, "..2025_old"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "..2025_old", "a.conf"), []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	var m mountedFiles
	if err := m.addVolume(dir, "/etc/app"); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"/etc/app/.hidden 0440 content of .hidden",
		"/etc/app/a.conf 0644 content of a.conf",
		"/etc/app/secret 0400 content of secret",
		"/etc/app/sub/deep/run.sh 0755 content of sub/deep/run.sh",
	}
	if got := describe(m.files); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A directory within such a volume, by subPath, has no states of its own.
func TestVolumeFilesOfSubPath(t *testing.T) {
	dir := t.TempDir()
	atomicVolume(t, dir, map[string]os.FileMode{"sub/x": 0o644, "sub/y/z": 0o600, "other": 0o644})
	var m mountedFiles
	if err := m.addVolume(filepath.Join(dir, "sub"), "/opt"); err != nil {
		t.Fatal(err)
	}
	if got, want := describe(m.files), []string{"/opt/x 0644 content of sub/x", "/opt/y/z 0600 content of sub/y/z"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// While kubelet replaces the content, what is read is all of one state.
func TestVolumeReplacedMeanwhile(t *testing.T) {
	dir := t.TempDir()
	state := func(n int) {
		name := fmt.Sprintf("..state-%d", n)
		for _, f := range []string{"a", "b"} {
			_ = os.MkdirAll(filepath.Join(dir, name), 0o755)
			if err := os.WriteFile(filepath.Join(dir, name, f), fmt.Append(nil, n), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		tmp := filepath.Join(dir, "..data_tmp")
		if err := os.Symlink(name, tmp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, dataLink)); err != nil {
			t.Fatal(err)
		}
		_ = os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..state-%d", n-1)))
	}
	state(0)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for n := 1; ; n++ {
			select {
			case <-stop:
				return
			default:
				state(n)
			}
		}
	}()
	defer func() { close(stop); <-done }()
	read := 0
	for range 200 {
		var m mountedFiles
		if err := m.addVolume(dir, "/x"); err != nil {
			continue // replaced too often
		}
		read++
		if len(m.files) != 2 || string(m.files[0].Data) != string(m.files[1].Data) {
			t.Fatalf("mixed: %q", describe(m.files))
		}
	}
	if read == 0 {
		t.Error("never read")
	}
}

func TestMountedFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte{0xff, 0}, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	var m mountedFiles
	if err := m.addFile(path, "/f"); err != nil {
		t.Fatal(err)
	}
	if want := []cloudinit.WriteFile{{Path: "/f", Mode: 0o2640, Data: []byte{0xff, 0}, Base64: true}}; !reflect.DeepEqual(m.files, want) {
		t.Errorf("got %+v", m.files)
	}
}

func TestMountedFileRefused(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, maxMountedFile+1); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		big:                        "has 1048577 bytes: a single file is copied into the guest, up to 1048576 bytes",
		fifo:                       "is a FIFO and not a file",
		"/dev/zero":                "is a device and not a file",
		dir:                        "is a directory and not a file",
		filepath.Join(dir, "none"): "no such file",
	} {
		var m mountedFiles
		if err := m.addFile(path, "/x"); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if err := os.Truncate(big, maxMountedFile); err != nil {
		t.Fatal(err)
	}
	var m mountedFiles
	var err error
	for range maxMountedFiles/maxMountedFile + 1 {
		if err == nil {
			err = m.addFile(big, "/x")
		}
	}
	if err == nil || !strings.Contains(err.Error(), "more than 8388608 bytes together") {
		t.Errorf("too much together: %v", err)
	}
}

// Links that lead out of a volume are not followed: what they lead to was not mounted.
func TestVolumeLinkOut(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "x")); err != nil {
		t.Fatal(err)
	}
	var m mountedFiles
	if err := m.addVolume(dir, "/x"); err == nil {
		t.Errorf("read %q", describe(m.files))
	}
}

func TestKindOf(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for path, want := range map[string]string{socket: "a socket", dir: "a directory", "/dev/null": "a device", "/proc/self/stat": "a file"} {
		info, err := os.Stat(path)
		if err != nil || kindOf(info.Mode()) != want {
			t.Errorf("%s: %v %v, want %s", path, info, err, want)
		}
	}
}

func TestHostsName(t *testing.T) {
	const kubelets = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\nfe00::0\tip6-localnet\n10.1.2.3\tweb-0.nginx.default.svc.cluster.local\tweb-0\n" +
		"\n# Entries added by HostAliases.\n10.0.0.1\tweb-0.example.com\n"
	for _, c := range []struct{ hosts, hostname, want string }{
		{kubelets, "web-0", "web-0.nginx.default.svc.cluster.local"},
		{kubelets, "web", ""},
		{"10.1.2.3\tvm\n10.0.0.1\tvm.example.com\tother\n", "vm", ""},
		{"", "vm", ""},
		{"a b", "", ""},
	} {
		if got := hostsName([]byte(c.hosts), c.hostname); got != c.want {
			t.Errorf("%q in %q: %q, want %q", c.hostname, c.hosts, got, c.want)
		}
	}
}
