package disks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What CreateVolume makes is, for the programs that know, an image that is whole,
// with one partition that fills it, with a file system that is whole.
func TestCreateVolume(t *testing.T) {
	for _, capacity := range []int64{MinVolume, 16 << 20, 100<<20 + 1, DefaultCapacity, 100 << 30} {
		t.Run(fmt.Sprint(capacity), func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "data.qcow2")
			if err := CreateVolume(t.Context(), path, capacity); err != nil {
				t.Fatal(err)
			}
			size := roundUp(capacity, sector)
			if img, err := checkFile(t, path); err != nil || img.VirtualSize != size {
				t.Errorf("%+v, %v; want %d bytes", img, err, size)
			}
			if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
				t.Errorf("mode %v, %v; want 0600", st.Mode(), err)
			}
			run(t, "qemu-img", "check", "-q", "-f", "qcow2", path)
			checkPartition(t, path, size)
			if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
				t.Errorf("left are %v, %v", left, err)
			}
		})
	}
}

func checkPartition(t *testing.T, path string, size int64) {
	t.Helper()
	raw := filepath.Join(t.TempDir(), "raw")
	run(t, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw)
	table := string(run(t, "sfdisk", "--dump", raw))
	want := fmt.Sprintf("start=        2048, size=%12d, type=83", size/sector-2048)
	if !strings.Contains(table, "label: dos") || !strings.Contains(table, want) || strings.Count(table, "start=") != 1 {
		t.Errorf("sfdisk says\n%s\nwant %q", table, want)
	}
	part := filepath.Join(t.TempDir(), "part")
	run(t, "qemu-img", "convert", "-O", "raw", "--image-opts", "driver=raw,offset=1048576,file.driver=file,file.filename="+raw, part)
	run(t, "e2fsck", "-fn", part)
	super := string(run(t, "dumpe2fs", "-h", part))
	if strings.Contains(super, "metadata_csum") || !strings.Contains(super, "extent") {
		t.Errorf("dumpe2fs says\n%s", super)
	}
	if size >= 16<<20 && !strings.Contains(super, "has_journal") {
		t.Errorf("no journal:\n%s", super)
	}
}

// Two volumes are told apart by their partition's UUID.
func TestCreateVolumeSignature(t *testing.T) {
	record := func() []byte {
		path := filepath.Join(t.TempDir(), "v")
		if err := CreateVolume(t.Context(), path, MinVolume); err != nil {
			t.Fatal(err)
		}
		raw := path + ".raw"
		run(t, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw)
		return readAt(t, raw, 0, sector)
	}
	if bytes.Equal(record(), record()) {
		t.Error("two volumes have the same boot record")
	}
}

func TestCreateVolumeRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, capacity := range []int64{-1, 0, MinVolume - 1, MaxVolume + 1} {
		err := CreateVolume(t.Context(), filepath.Join(dir, "v"), capacity)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprint(capacity)) {
			t.Errorf("%d: %v", capacity, err)
		}
	}
	taken := sparse(t, filepath.Join(dir, "taken"), 7)
	if err := CreateVolume(t.Context(), taken, MinVolume); !errors.Is(err, fs.ErrExist) {
		t.Errorf("CreateVolume says %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := CreateVolume(cancelled, filepath.Join(dir, "v"), MinVolume); !errors.Is(err, context.Canceled) {
		t.Errorf("CreateVolume says %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestCreateVolumeFails(t *testing.T) {
	fakeImg(t, `echo "no space" >&2; exit 1`)
	dir := t.TempDir()
	if err := CreateVolume(t.Context(), filepath.Join(dir, "v"), MinVolume); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("CreateVolume says %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

func BenchmarkCreateVolume(b *testing.B) {
	for _, capacity := range []int64{1 << 30, 100 << 30} {
		b.Run(fmt.Sprint(capacity), func(b *testing.B) {
			dir := b.TempDir()
			for i := 0; b.Loop(); i++ {
				if err := CreateVolume(b.Context(), filepath.Join(dir, fmt.Sprint(i)), capacity); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
