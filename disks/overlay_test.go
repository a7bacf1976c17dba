package disks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// base is an image with a known first MiB.
func base(t testing.TB, format Format) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "base."+string(format))
	run(t, "qemu-img", "create", "-q", "-f", string(format), path, "10M")
	run(t, "qemu-io", "-f", string(format), "-c", "write -P 0x41 0 1M", path)
	return path
}

const tib = int64(1) << 40

// QEMU's programs take our overlay for one of their own, at any size.
func TestOverlayByQemu(t *testing.T) {
	for _, format := range []Format{QCow2, Raw} {
		below := base(t, format)
		for _, size := range []int64{1, 1 << 20, 10 << 20, 10<<20 + 1, 123456789, 1 << 30, 512<<20 + 512, 4 * tib, 4*tib + 512, 100 * tib, MaxVirtualSize} {
			t.Run(fmt.Sprintf("%s %d", format, size), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "root.qcow2")
				if err := CreateOverlay(path, Overlay{Backing: below, BackingFormat: format, VirtualSize: size}); err != nil {
					t.Fatal(err)
				}
				checkOverlay(t, path, below, format, roundUp(size, sector))
			})
		}
	}
}

func checkOverlay(t *testing.T, path, below string, format Format, size int64) {
	t.Helper()
	if out := string(run(t, "qemu-img", "check", "-f", "qcow2", path)); !strings.Contains(out, "No errors were found") {
		t.Errorf("qemu-img check: %s", out)
	}
	checkChain(t, path, below, format, size)
	want := infoOf(t, path).image()
	if got, err := inspectFile(t, path); err != nil || got != want {
		t.Errorf("Inspect: %+v, %v; qemu-img info: %+v", got, err, want)
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", st.Mode(), err)
	}
	if size < 10<<20 {
		return
	}
	// Reads come from below, and zeros follow; writes go to the overlay only.
	last := size - 512
	run(t, "qemu-io", "-f", "qcow2", "-c", "read -P 0x41 0 1M", "-c", "read -P 0 1M 1M", "-c", fmt.Sprintf("read -P 0 %d 512", last),
		"-c", "write -P 0x55 512k 100k", "-c", fmt.Sprintf("write -P 0x66 %d 512", last), path)
	run(t, "qemu-io", "-f", "qcow2", "-c", "read -P 0x41 0 512k", "-c", "read -P 0x55 512k 100k", "-c", fmt.Sprintf("read -P 0x66 %d 512", last), path)
	run(t, "qemu-io", "-f", string(format), "-r", "-c", "read -P 0x41 0 1M", below)
	run(t, "qemu-img", "check", "-f", "qcow2", path)
}

func checkChain(t *testing.T, path, below string, format Format, size int64) {
	t.Helper()
	var chain []qemuInfo
	if err := json.Unmarshal(run(t, "qemu-img", "info", "--backing-chain", "--output=json", path), &chain); err != nil {
		t.Fatal(err)
	}
	if len(chain) != 2 || chain[0].VirtualSize != size || chain[0].Backing != below || chain[0].BackingFormat != string(format) || chain[0].Specific.Data.Compat != "1.1" {
		t.Errorf("qemu-img info --backing-chain: %+v", chain)
	}
}

// The file is as large as qemu-img's, and no larger on disk.
func TestOverlayIsSmall(t *testing.T) {
	below := base(t, QCow2)
	path := filepath.Join(t.TempDir(), "root.qcow2")
	if err := CreateOverlay(path, Overlay{Backing: below, BackingFormat: QCow2, VirtualSize: 100 * tib}); err != nil {
		t.Fatal(err)
	}
	var info struct {
		ActualSize int64 `json:"actual-size"`
	}
	if err := json.Unmarshal(run(t, "qemu-img", "info", "--output=json", path), &info); err != nil {
		t.Fatal(err)
	}
	if info.ActualSize > 64<<10 {
		t.Errorf("%d bytes on disk", info.ActualSize)
	}
}

// qemu-img can grow, commit and rebase it.
func TestOverlayIsOrdinary(t *testing.T) {
	below := base(t, QCow2)
	path := filepath.Join(t.TempDir(), "root.qcow2")
	if err := CreateOverlay(path, Overlay{Backing: below, BackingFormat: QCow2, VirtualSize: 10 << 20}); err != nil {
		t.Fatal(err)
	}
	run(t, "qemu-img", "resize", "-q", path, "2G")
	run(t, "qemu-io", "-f", "qcow2", "-c", "write -P 0x77 1G 64k", path)
	run(t, "qemu-img", "rebase", "-f", "qcow2", "-b", "", path)
	run(t, "qemu-img", "check", path)
	run(t, "qemu-io", "-f", "qcow2", "-c", "read -P 0x41 0 1M", "-c", "read -P 0x77 1G 64k", path)
}

func TestOverlayRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		o    Overlay
		want string
	}{
		"relative":  {Overlay{Backing: "base.qcow2", BackingFormat: QCow2, VirtualSize: 1}, "an absolute path"},
		"no name":   {Overlay{Backing: "", BackingFormat: QCow2, VirtualSize: 1}, "an absolute path"},
		"long name": {Overlay{Backing: "/" + strings.Repeat("x", 1023), BackingFormat: QCow2, VirtualSize: 1}, "an absolute path of up to 1023 bytes"},
		"no format": {Overlay{Backing: "/b", BackingFormat: "", VirtualSize: 1}, `backing format ""`},
		"vmdk":      {Overlay{Backing: "/b", BackingFormat: "vmdk", VirtualSize: 1}, `accepted are "qcow2" and "raw"`},
		"no size":   {Overlay{Backing: "/b", BackingFormat: Raw, VirtualSize: 0}, "virtual size of 0 bytes"},
		"negative":  {Overlay{Backing: "/b", BackingFormat: Raw, VirtualSize: -1}, "virtual size of -1 bytes"},
		"too big":   {Overlay{Backing: "/b", BackingFormat: Raw, VirtualSize: MaxVirtualSize + 1}, "accepted are 1 to 2251799813685248"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "root.qcow2")
			err := CreateOverlay(path, c.o)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestOverlayNeverReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "root.qcow2")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CreateOverlay(path, Overlay{Backing: "/b", BackingFormat: Raw, VirtualSize: 1 << 20}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want fs.ErrExist", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("overwritten with %d bytes", len(b))
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	if err := CreateOverlay(filepath.Join(dir, "none", "root.qcow2"), Overlay{Backing: "/b", BackingFormat: Raw, VirtualSize: 1}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: got %v", err)
	}
}

func TestRootSize(t *testing.T) {
	for _, c := range []struct{ image, requested, want int64 }{
		{10 << 20, 0, 10 << 20},
		{10 << 20, 1, 10 << 20},
		{10 << 20, -5, 10 << 20},
		{10 << 20, 4 << 30, 4 << 30},
		{10 << 20, 10<<20 + 1, 10<<20 + 512},
		{1000001, 0, 1000448},
	} {
		if got := RootSize(c.image, c.requested); got != c.want {
			t.Errorf("RootSize(%d, %d) = %d, want %d", c.image, c.requested, got, c.want)
		}
	}
}

// Inspect reads back what the writer was told, for all overlays.
func TestOverlayRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Overlay{
			Backing:       "/" + rapid.StringMatching(`[ -~]{0,999}`).Draw(t, "backing"),
			BackingFormat: rapid.SampledFrom([]Format{QCow2, Raw}).Draw(t, "format"),
			VirtualSize:   rapid.Int64Range(1, MaxVirtualSize).Draw(t, "size"),
		}
		l, err := o.layout()
		if err != nil {
			t.Fatal(err)
		}
		size := l.clusters() * overlayCluster
		img, err := Inspect(padded{l.header(), size}, size)
		if err != nil {
			t.Fatal(err)
		}
		if img.BackingFile != o.Backing || img.BackingFormat != o.BackingFormat || img.VirtualSize != roundUp(o.VirtualSize, sector) {
			t.Errorf("wrote %+v, read %+v", o, img)
		}
	})
}

func BenchmarkCreateOverlay(b *testing.B) {
	below := base(b, QCow2)
	dir := b.TempDir()
	path := filepath.Join(dir, "root.qcow2")
	b.Run("here", func(b *testing.B) {
		for b.Loop() {
			if err := CreateOverlay(path, Overlay{Backing: below, BackingFormat: QCow2, VirtualSize: 10 << 30}); err != nil {
				b.Fatal(err)
			}
			_ = os.Remove(path)
		}
	})
	b.Run("qemu-img", func(b *testing.B) {
		for b.Loop() {
			run(b, "qemu-img", "create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", path, "10G")
			_ = os.Remove(path)
		}
	})
}

func BenchmarkCheckBase(b *testing.B) {
	whole, err := os.ReadFile(filled(b, "PATH", "20M"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := CheckBase(bytes.NewReader(whole), int64(len(whole)), Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}
