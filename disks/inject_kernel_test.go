package disks

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// kernels makes a /boot and a /lib/modules; each is "release builtin|modules.dep".
func kernels(t *testing.T, all ...string) (boot, modules string) {
	t.Helper()
	boot, modules = t.TempDir(), t.TempDir()
	put := func(path, content string) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range all {
		release, rest, _ := strings.Cut(k, " ")
		builtin, deps, _ := strings.Cut(rest, "|")
		put(filepath.Join(modules, release, "modules.builtin"), strings.ReplaceAll(builtin, " ", "\n"))
		put(filepath.Join(modules, release, "modules.dep"), deps)
		put(filepath.Join(boot, "vmlinuz-"+release), "kernel")
	}
	return boot, modules
}

const allBuiltin = "kernel/fs/ext4/ext4.ko kernel/drivers/virtio/virtio_pci.ko kernel/drivers/block/virtio_blk.ko kernel/fs/xfs/xfs.ko"

func TestFindKernel(t *testing.T) {
	boot, modules := kernels(t, "6.1.0-9 "+allBuiltin, "6.1.0-56 "+allBuiltin, "6.2.0 |", "5.10.0 "+allBuiltin)
	k, err := findKernel(boot, modules)
	if err != nil || k.image != filepath.Join(boot, "vmlinuz-6.1.0-56") || len(k.modules) != 0 {
		t.Errorf("%+v, %v", k, err)
	}
	// The one that runs comes first, and Fedora's lies with its modules.
	running := runningKernel()
	boot, modules = kernels(t, "99.0 "+allBuiltin, running+" "+allBuiltin)
	if err := os.Rename(filepath.Join(boot, "vmlinuz-"+running), filepath.Join(modules, running, "vmlinuz")); err != nil {
		t.Fatal(err)
	}
	if k, err := findKernel(boot, modules); err != nil || k.image != filepath.Join(modules, running, "vmlinuz") {
		t.Errorf("%+v, %v", k, err)
	}
}

func TestFindKernelModules(t *testing.T) {
	boot, modules := kernels(t, "6.1 kernel/fs/ext4/ext4.ko|"+
		"kernel/virtio-pci.ko.zst: kernel/virtio.ko.zst kernel/virtio_ring.ko.zst\n"+
		"kernel/virtio_blk.ko.zst: kernel/virtio_ring.ko.zst\nkernel/crc32c_generic.ko:\n"+
		"kernel/xfs.ko.zst: kernel/libcrc32c.ko.zst\nkernel/virtio.ko.zst:\n")
	k, err := findKernel(boot, modules)
	var names []string
	for _, m := range k.modules {
		names = append(names, moduleName(m))
	}
	want := []string{"virtio_ring", "virtio", "virtio_pci", "virtio_blk", "crc32c_generic", "libcrc32c", "xfs"}
	if err != nil || !slices.Equal(names, want) {
		t.Errorf("%v, %v; want %v", names, err, want)
	}
}

// The package that a node lacks is named, and why what it has will not do.
func TestFindNoKernel(t *testing.T) {
	boot, modules := kernels(t, "6.1 kernel/fs/ext4/ext4.ko kernel/virtio_pci.ko|", "6.2 "+allBuiltin)
	if err := os.Remove(filepath.Join(boot, "vmlinuz-6.2")); err != nil {
		t.Fatal(err)
	}
	_, err := findKernel(boot, modules)
	if !errors.Is(err, ErrNoKernel) {
		t.Fatal(err)
	}
	for _, want := range []string{"linux-image-cloud-amd64", "kernel 6.1: it has no module virtio_blk", "kernel 6.2: its image is neither vmlinuz-6.2 in " + boot} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error is %q, want %q", err, want)
		}
	}
	if _, err := findKernel(t.TempDir(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, ErrNoKernel) {
		t.Error(err)
	}
}

func TestCompareVersions(t *testing.T) {
	sorted := []string{"5.10.0-30-amd64", "6.1.0", "6.1.0-9-amd64", "6.1.0-56-amd64", "6.1.0-56-cloud-amd64", "6.10.0", "6.18.44-fc-v595"}
	for i, a := range sorted {
		for j, b := range sorted {
			got := compareVersions(a, b)
			if i < j && got >= 0 || i > j && got <= 0 || i == j && got != 0 {
				t.Errorf("%s and %s: %d", a, b, got)
			}
		}
	}
}

// xzWriter has the xz program compress what was written, as it does modules of a distribution.
type xzWriter struct {
	bytes.Buffer
	w io.Writer
}

func (x *xzWriter) Close() error {
	c := exec.Command("xz", "-c", "--x86", "--lzma2=dict=1MiB", "--check=crc32")
	c.Stdin, c.Stdout = &x.Buffer, x.w
	return c.Run()
}

// Distributions compress modules in three ways; the kernel takes none of them
// everywhere.
func TestReadModule(t *testing.T) {
	content := bytes.Repeat([]byte("module"), 10000)
	for suffix, writer := range map[string]func(io.Writer) (io.WriteCloser, error){
		"":     nil,
		".gz":  func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		".xz":  func(w io.Writer) (io.WriteCloser, error) { return &xzWriter{w: w}, nil },
		".zst": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
	} {
		packed := content
		if writer != nil {
			var b bytes.Buffer
			w, err := writer(&b)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(content); errors.Join(err, w.Close()) != nil {
				t.Fatal(err)
			}
			packed = b.Bytes()
		}
		path := filepath.Join(t.TempDir(), "xfs.ko"+suffix)
		if err := os.WriteFile(path, packed, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readModule(path); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, %v", suffix, len(got), err)
		}
		if suffix == "" {
			continue
		}
		if err := os.WriteFile(path, packed[:len(packed)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readModule(path); err == nil {
			t.Errorf("%s: half a module is read", suffix)
		}
	}
}

// What cpio(1) unpacks is what was put in.
func TestCPIO(t *testing.T) {
	var archive bytes.Buffer
	c := newCPIO(&archive)
	c.dir("/d")
	c.file("/d/file", 0o640, []byte("content"))
	c.file("/empty", 0o600, nil)
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(t.TempDir(), "cpio")
	if err := os.WriteFile(path, archive.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "sh", "-ec", "cd "+dir+"; busybox cpio -i <"+path+" 2>/dev/null")
	if got, err := os.ReadFile(dir + "/d/file"); err != nil || string(got) != "content" {
		t.Errorf("%q, %v", got, err)
	}
	if st, err := os.Stat(dir + "/d/file"); err != nil || st.Mode() != 0o640 {
		t.Errorf("%v, %v", st, err)
	}
	if st, err := os.Stat(dir + "/empty"); err != nil || st.Size() != 0 {
		t.Errorf("%v, %v", st, err)
	}
}

func FuzzCompareVersions(f *testing.F) {
	f.Add("6.1.0-56-cloud-amd64", "6.1.0-9")
	f.Add("01", "1")
	f.Add("0A", "05\xc9")
	f.Fuzz(func(t *testing.T, a, b string) {
		if compareVersions(a, b) != -compareVersions(b, a) || compareVersions(a, a) != 0 {
			t.Errorf("%q and %q: %d and %d", a, b, compareVersions(a, b), compareVersions(b, a))
		}
	})
}
