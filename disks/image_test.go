package disks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What Inspect says is what qemu-img says; and whether a disk may stand on it.
func TestInspectIsWhatQemuImgSays(t *testing.T) {
	dir := t.TempDir()
	backing := filepath.Join(dir, "backing.raw")
	if err := os.WriteFile(backing, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args    []string
		refused string // what CheckBase says; "" = accepted
	}{
		"v3":             {[]string{"PATH", "10M"}, ""},
		"v2":             {[]string{"-o", "compat=0.10", "PATH", "10M"}, ""},
		"odd size":       {[]string{"PATH", "1000001"}, ""},
		"4 KiB clusters": {[]string{"-o", "cluster_size=4096", "PATH", "100M"}, ""},
		"512 clusters":   {[]string{"-o", "cluster_size=512", "PATH", "100M"}, ""},
		"2 MiB clusters": {[]string{"-o", "cluster_size=2M", "PATH", "100M"}, ""},
		"1-bit refs":     {[]string{"-o", "refcount_bits=1", "PATH", "100M"}, ""},
		"64-bit refs":    {[]string{"-o", "refcount_bits=64", "PATH", "100M"}, ""},
		"lazy refs":      {[]string{"-o", "lazy_refcounts=on", "PATH", "100M"}, ""},
		"zstd":           {[]string{"-o", "compression_type=zstd", "PATH", "100M"}, ""},
		"subclusters":    {[]string{"-o", "extended_l2=on", "PATH", "100M"}, ""},
		"preallocated":   {[]string{"-o", "preallocation=metadata", "PATH", "10M"}, ""},
		"10 TiB":         {[]string{"PATH", "10T"}, ""},
		"20 TiB":         {[]string{"PATH", "20T"}, "virtual size is 21990232555520 bytes, the limit 17592186044416"},
		"empty disk":     {[]string{"PATH", "0"}, "virtual size is 0"},
		"backing":        {[]string{"-b", backing, "-F", "raw", "PATH"}, `backing file, "` + backing},
		"backing v2":     {[]string{"-o", "compat=0.10", "-b", backing, "-F", "raw", "PATH"}, "backing file"},
		"json backing":   {[]string{"-u", "-b", `json:{"driver":"raw","file":{"driver":"file","filename":"/etc/shadow"}}`, "-F", "raw", "PATH", "1M"}, "backing file"},
		"data file":      {[]string{"-o", "data_file=" + filepath.Join(dir, "data.raw"), "PATH", "10M"}, "data are in another file"},
		"raw data file":  {[]string{"-o", "data_file_raw=on,data_file=" + filepath.Join(dir, "data2.raw"), "PATH", "10M"}, "data are in another file"},
		"aes":            {[]string{"--object", "secret,id=s,data=abc", "-o", "encrypt.format=aes,encrypt.key-secret=s", "PATH", "10M"}, "encrypted (aes)"},
	} {
		t.Run(name, func(t *testing.T) {
			path := create(t, c.args...)
			got, err := inspectFile(t, path)
			if err != nil {
				t.Fatal(err)
			}
			if want := infoOf(t, path).image(); got != want {
				t.Errorf("qemu-img info: %+v\nInspect:       %+v", want, got)
			}
			_, err = checkFile(t, path)
			switch {
			case c.refused == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.refused != "" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.refused)):
				t.Errorf("CheckBase: %v, want ErrRefused with %q", err, c.refused)
			}
		})
	}
}

// Images with data in them, as they come from a build or a download.
func TestCheckBaseFilled(t *testing.T) {
	for name, args := range map[string][]string{
		"v3":             {"PATH", "20M"},
		"v2":             {"-o", "compat=0.10", "PATH", "20M"},
		"4 KiB clusters": {"-o", "cluster_size=4096", "PATH", "20M"},
		"512 clusters":   {"-o", "cluster_size=512", "PATH", "20M"},
		"subclusters":    {"-o", "extended_l2=on", "PATH", "20M"},
		"preallocated":   {"-o", "preallocation=metadata", "PATH", "20M"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filled(t, args...)
			if _, err := checkFile(t, path); err != nil {
				t.Error(err)
			}
			run(t, "qemu-img", "snapshot", "-c", "one", path)
			if img, err := checkFile(t, path); err != nil || img.Snapshots != 1 {
				t.Errorf("with a snapshot: %+v, %v", img, err)
			}
		})
	}
	t.Run("compressed", func(t *testing.T) {
		for _, kind := range []string{"zlib", "zstd"} {
			packed := filepath.Join(t.TempDir(), "packed.qcow2")
			run(t, "qemu-img", "convert", "-c", "-O", "qcow2", "-o", "compression_type="+kind, filled(t, "PATH", "20M"), packed)
			if img, err := checkFile(t, packed); err != nil || img.Compression != kind {
				t.Errorf("%s: %+v, %v", kind, img, err)
			}
		}
	})
}

// A download that stops anywhere is noticed, although QEMU would open most of
// what it leaves and read zeros.
func TestCheckBaseTruncated(t *testing.T) {
	packed := filepath.Join(t.TempDir(), "packed.qcow2")
	run(t, "qemu-img", "convert", "-c", "-O", "qcow2", filled(t, "PATH", "20M"), packed)
	for _, path := range []string{filled(t, "PATH", "20M"), filled(t, "-o", "compat=0.10", "PATH", "20M"), packed} {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := CheckBase(bytes.NewReader(whole), int64(len(whole)), Limits{}); err != nil {
			t.Fatal(err)
		}
		cut := []int{4, 50, 71, 90, 111, 512, 65536, len(whole) / 2, len(whole) - 65536}
		for n := 4096; n < len(whole)-65536; n += 77777 {
			cut = append(cut, n)
		}
		for _, n := range cut {
			if n >= len(whole)-512 {
				continue
			}
			_, err := CheckBase(bytes.NewReader(whole[:n]), int64(n), Limits{})
			var format *FormatError
			if !errors.As(err, &format) || !format.Truncated || !strings.Contains(err.Error(), "cut off") {
				t.Errorf("%d of %d bytes: %v, want a truncated *FormatError", n, len(whole), err)
			}
		}
	}
}

func TestNotAnImage(t *testing.T) {
	sparse := func(n int, set ...func(b []byte)) []byte {
		b := make([]byte, n)
		for _, f := range set {
			f(b)
		}
		return b
	}
	put := func(at int, s string) func([]byte) { return func(b []byte) { copy(b[at:], s) } }
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":      {nil, "an empty file"},
		"html":       {[]byte("\n  <!DOCTYPE HTML><html><body>404"), "an HTML page"},
		"html bom":   {[]byte("\xef\xbb\xbf<html>"), "an HTML page"},
		"xml":        {[]byte(`<?xml version="1.0"?><Error><Code>NoSuchKey`), "an XML document"},
		"json":       {[]byte(`{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`), "a JSON document"},
		"gzip":       {[]byte("\x1f\x8b\x08\x00abc"), "a gzip archive"},
		"xz":         {[]byte("\xfd7zXZ\x00abc"), "an xz archive"},
		"zstd":       {[]byte("\x28\xb5\x2f\xfdabc"), "a zstd archive"},
		"bzip2":      {[]byte("BZh91AY"), "a bzip2 archive"},
		"zip":        {[]byte("PK\x03\x04abc"), "a zip archive"},
		"tar":        {sparse(1024, put(0, "disk.raw"), put(257, "ustar\x00")), "a tar archive"},
		"iso":        {sparse(40960, put(32769, "CD001")), "an ISO9660 image"},
		"hybrid iso": {sparse(40960, put(32769, "CD001"), put(510, "\x55\xaa")), "an ISO9660 image"},
		"mbr":        {sparse(4096, put(510, "\x55\xaa")), "a raw disk with an MBR"},
		"gpt":        {sparse(4096, put(510, "\x55\xaa"), put(512, "EFI PART")), "a raw disk with a GPT"},
		"ext4":       {sparse(4096, put(1080, "\x53\xef")), "a raw ext2/3/4 file system"},
		"zeros":      {sparse(70000), "zeros"},
		"text":       {[]byte("Not Found\n"), "text"},
		"vmdk":       {[]byte("KDMV\x01\x00\x00\x00"), "a VMDK disk"},
		"vhdx":       {[]byte("vhdxfile"), "a VHDX disk"},
		"vhd":        {[]byte("conectix\x00"), "a VHD disk"},
		"vdi":        {[]byte("<<< Oracle VM VirtualBox Disk Image >>>\n"), "a VDI disk"},
		"lfs":        {[]byte("version https://git-lfs.github.com/spec/v1\n"), "a Git LFS pointer"},
		"luks":       {[]byte("LUKS\xba\xbe\x00\x01"), "a LUKS volume"},
		"noise":      {[]byte("\x01\x02\x03\x04\x80"), "none of the formats"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Inspect(bytes.NewReader(c.data), int64(len(c.data)))
			var format *FormatError
			if !errors.As(err, &format) || !strings.HasPrefix(format.Looks, c.want) || format.Truncated {
				t.Errorf("got %v, want one that looks like %s", err, c.want)
			}
		})
	}
}

// The real thing, as its own program makes it.
func TestNotAnImageForReal(t *testing.T) {
	for format, want := range map[string]string{"vmdk": "VMDK", "vhdx": "VHDX", "vdi": "VDI", "qed": "QED", "raw": "zeros"} {
		path := filepath.Join(t.TempDir(), "image")
		run(t, "qemu-img", "create", "-q", "-f", format, path, "10M")
		if _, err := inspectFile(t, path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", format, err)
		}
	}
}

// Headers that no program writes, and somebody might.
func TestDamagedHeader(t *testing.T) {
	whole, err := os.ReadFile(filled(t, "PATH", "20M"))
	if err != nil {
		t.Fatal(err)
	}
	u32 := func(at int, v uint32) func([]byte) {
		return func(b []byte) { binary.BigEndian.PutUint32(b[at:], v) }
	}
	u64 := func(at int, v uint64) func([]byte) {
		return func(b []byte) { binary.BigEndian.PutUint64(b[at:], v) }
	}
	for name, c := range map[string]struct {
		edit func([]byte)
		want string
	}{
		"version 1":            {u32(4, 1), "header.version is 1"},
		"version 4":            {u32(4, 4), "header.version is 4"},
		"cluster bits 8":       {u32(20, 8), "header.cluster_bits is 8"},
		"cluster bits 63":      {u32(20, 63), "header.cluster_bits is 63"},
		"size":                 {u64(24, 1<<63), "header.size"},
		"size beyond L1":       {u64(24, 1<<40), "header.l1_size is 1; a virtual size of 1099511627776 bytes needs 2048"},
		"L1 too big":           {u32(36, 1<<30), "header.l1_size is 1073741824"},
		"L1 beyond the end":    {u64(40, 1<<40), "header.l1_table_offset points to"},
		"L1 at 0":              {u64(40, 0), "header.l1_table_offset is 0"},
		"L1 not aligned":       {u64(40, 3), "header.l1_table_offset is 3"},
		"L1 overflow":          {u64(40, 0xffffffffffff0000), "header.l1_table_offset is"},
		"refcounts at 0":       {u64(48, 0), "header.refcount_table_offset is 0"},
		"no refcounts":         {u32(56, 0), "header.refcount_table_clusters is 0"},
		"refcounts too big":    {u32(56, 0xffffffff), "header.refcount_table_clusters"},
		"refcounts beyond":     {u64(48, 1<<40), "header.refcount_table_offset points to"},
		"too many snapshots":   {u32(60, 70000), "header.nb_snapshots is 70000"},
		"snapshots beyond":     {func(b []byte) { u32(60, 3)(b); u64(64, 1<<40)(b) }, "header.snapshots_offset points to"},
		"refcount order":       {u32(96, 7), "header.refcount_order is 7"},
		"header length":        {u32(100, 96), "header.header_length is 96"},
		"header length huge":   {u32(100, 0xfffffff8), "header.header_length is"},
		"luks":                 {u32(32, 2), "encrypted (luks)"},
		"corrupt":              {u64(72, incompatCorrupt), "marked as corrupt"},
		"unknown feature":      {u64(72, 1<<33), "features that are not known here (incompatible bits 0x200000000)"},
		"data file bit only":   {u64(72, incompatDataFile), "data are in another file"},
		"compression":          {func(b []byte) { u64(72, incompatCompression)(b); b[104] = 9 }, "compressed in a way"},
		"extension too long":   {func(b []byte) { u32(112, 0x12345678)(b); u32(116, 0xffffffff)(b) }, "header extension 0x12345678 at 112"},
		"backing name long":    {func(b []byte) { u64(8, 600)(b); u32(16, 5000)(b) }, "header.backing_file_offset"},
		"backing name outside": {func(b []byte) { u64(8, 1<<30)(b); u32(16, 5)(b) }, "header.backing_file_offset"},
		"backing name":         {func(b []byte) { u64(8, 600)(b); u32(16, 5)(b); copy(b[600:], "/etc/") }, `backing file, "/etc/"`},
		"L2 not aligned":       {func(b []byte) { u64(int(binary.BigEndian.Uint64(b[40:])), 1<<63|512)(b) }, "an L2 table at 512"},
		"L2 beyond":            {func(b []byte) { u64(int(binary.BigEndian.Uint64(b[40:])), 1<<63|1<<40)(b) }, "an L2 table lies at 1099511627776"},
	} {
		t.Run(name, func(t *testing.T) {
			b := bytes.Clone(whole)
			c.edit(b)
			_, err := CheckBase(bytes.NewReader(b), int64(len(b)), Limits{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// Refcounts may be stale in a file that nobody writes to.
func TestDirtyIsAccepted(t *testing.T) {
	whole, err := os.ReadFile(filled(t, "-o", "lazy_refcounts=on", "PATH", "20M"))
	if err != nil {
		t.Fatal(err)
	}
	whole[79] |= incompatDirty
	if img, err := CheckBase(bytes.NewReader(whole), int64(len(whole)), Limits{}); err != nil || !img.Dirty {
		t.Errorf("%+v, %v", img, err)
	}
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, os.ErrPermission }

func TestReadErrorIsPassedOn(t *testing.T) {
	_, err := Inspect(failing{}, 1<<20)
	if !errors.Is(err, os.ErrPermission) {
		t.Errorf("got %v", err)
	}
}

// Nothing that a file says makes the reader panic, hang or take much memory;
// what it accepts qemu-img would open, which is for TestInspectIsWhatQemuImgSays.
func FuzzCheckBase(f *testing.F) {
	for _, o := range []Overlay{{Backing: "/b", BackingFormat: Raw, VirtualSize: 1 << 20}, {Backing: "/some/where", BackingFormat: QCow2, VirtualSize: 1 << 40}} {
		l, err := o.layout()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(l.header(), int64(4*overlayCluster))
		own := l.header()
		clear(own[8:20])
		f.Add(own, int64(4*overlayCluster))
	}
	f.Add([]byte(magic+"\x00\x00\x00\x02"), int64(100))
	f.Fuzz(func(t *testing.T, head []byte, size int64) {
		if size < 0 || size > 64<<20 {
			t.Skip()
		}
		r := padded{head, size}
		img, err := Inspect(r, size)
		base, baseErr := CheckBase(r, size, Limits{})
		switch {
		case err != nil && baseErr == nil:
			t.Fatalf("CheckBase accepts what Inspect does not: %v", err)
		case baseErr == nil && (base != img || base.BackingFile != "" || base.DataFile || base.VirtualSize <= 0):
			t.Fatalf("accepted: %+v", base)
		}
	})
}

// padded is head followed by zeros.
type padded struct {
	head []byte
	size int64
}

func (p padded) ReadAt(b []byte, at int64) (int, error) {
	n := max(min(int64(len(b)), p.size-at), 0)
	clear(b)
	if at < int64(len(p.head)) {
		copy(b[:n], p.head[at:])
	}
	if n < int64(len(b)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

func TestLimits(t *testing.T) {
	f, size := openFile(t, filled(t, "PATH", "20M"))
	if _, err := CheckBase(f, size, Limits{VirtualSize: 20<<20 - 1}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "the limit 20971519") {
		t.Errorf("got %v", err)
	}
	// Out of budget after the first table, whose data are all there.
	if _, err := CheckBase(f, size, Limits{VirtualSize: 20 << 20, ScanBytes: 1}); err != nil {
		t.Error(err)
	}
}
