package disks

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestRawOfOthers recognises what other programs make.
func TestRawOfOthers(t *testing.T) {
	for _, c := range []struct {
		what  string
		size  int64
		argv  []string
		stdin string
	}{
		{"mbr", 4 << 20, []string{"sfdisk", "-q"}, "label: dos\n2048,,83,*\n"},
		{"gpt", 4 << 20, []string{"sfdisk", "-q"}, "label: gpt\n2048,\n"},
		{"ext4", 4 << 20, []string{"mke2fs", "-q", "-t", "ext4"}, ""},
		{"odd length", 4<<20 + 7, []string{"mke2fs", "-q", "-t", "ext2"}, ""},
	} {
		path := filepath.Join(t.TempDir(), "disk")
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, c.size)); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(c.argv[0], append(c.argv[1:], path)...)
		cmd.Stdin = bytes.NewReader([]byte(c.stdin))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", c.what, err, out)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		img, err := CheckBase(f, c.size, Limits{})
		if err != nil || img != (Image{Format: Raw, VirtualSize: (c.size + 511) / 512 * 512}) {
			t.Errorf("%s: %+v, %v", c.what, img, err)
		}
		if _, err := CheckBase(f, c.size, Limits{VirtualSize: 1 << 20}); !errors.Is(err, ErrRefused) {
			t.Errorf("%s over the limit: %v", c.what, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestIsBase(t *testing.T) {
	at := func(size, at int, magic string) []byte {
		b := make([]byte, size)
		copy(b[at:], magic)
		return b
	}
	mbr := at(4096, 510, "\x55\xaa")
	hybrid := at(RawHeadLen, isoMagicAt, "CD001")
	copy(hybrid, mbr)
	status := bytes.Clone(mbr)
	status[446] = 0x17
	for _, c := range []struct {
		what string
		head []byte
		want bool
	}{
		{"qcow2", []byte("QFI\xfb"), true},
		{"mbr", mbr, true},
		{"mbr with a status that is none", status, false},
		{"gpt of 4 KiB sectors", at(8192, 4096, "EFI PART"), true},
		{"xfs", at(4096, 0, "XFSB"), true},
		{"btrfs", at(RawHeadLen, 0x10040, "_BHRfS_M"), true},
		{"ntfs", at(512, 3, "NTFS    "), true},
		{"fat32", at(512, 82, "FAT32   "), true},
		{"hybrid CD", hybrid, false},
		{"zeros", make([]byte, RawHeadLen), false},
		{"text", []byte("hello"), false},
		{"nothing", nil, false},
	} {
		if got := IsBase(c.head); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

func FuzzCheckBaseRaw(f *testing.F) {
	f.Add([]byte("QFI\xfb"))
	f.Add(append(make([]byte, 510), 0x55, 0xaa))
	f.Fuzz(func(t *testing.T, b []byte) {
		img, err := CheckBase(bytes.NewReader(b), int64(len(b)), Limits{})
		if err == nil && !IsBase(b[:min(len(b), RawHeadLen)]) {
			t.Fatalf("accepted, and refused by its head: %+v", img)
		}
	})
}
