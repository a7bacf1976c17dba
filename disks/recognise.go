package disks

import (
	"bytes"
	"io"
	"unicode/utf8"
)

// isoMagicAt is where an ISO9660 volume descriptor has its identifier.
const isoMagicAt = 16*2048 + 1

// recognise returns nil for a qcow2 file and otherwise says what it looks like.
func recognise(r io.ReaderAt, size int64) error {
	if size == 0 {
		return &FormatError{Looks: "an empty file"}
	}
	head := make([]byte, min(size, 4096))
	if err := readFull(r, head, 0); err != nil {
		return err
	}
	if bytes.HasPrefix(head, []byte(magic)) {
		return nil
	}
	looks := looksLike(head)
	if size >= isoMagicAt+5 {
		iso := make([]byte, 5)
		if err := readFull(r, iso, isoMagicAt); err != nil {
			return err
		}
		if string(iso) == "CD001" {
			looks = "an ISO9660 image (a CD)"
		}
	}
	return &FormatError{Looks: looks}
}

// signatures are what files begin with.
func signatures() []struct{ lead, looks string } {
	return []struct{ lead, looks string }{
		{"\x1f\x8b", "a gzip archive: decompress it first"},
		{"\xfd7zXZ\x00", "an xz archive: decompress it first"},
		{"\x28\xb5\x2f\xfd", "a zstd archive: decompress it first"},
		{"BZh", "a bzip2 archive: decompress it first"},
		{"\x04\x22\x4d\x18", "an lz4 archive: decompress it first"},
		{"PK\x03\x04", "a zip archive"},
		{"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"},
		{"KDMV", "a VMDK disk: convert it with `qemu-img convert -O qcow2`"},
		{"COWD", "a VMDK disk: convert it with `qemu-img convert -O qcow2`"},
		{"# Disk DescriptorFile", "a VMDK descriptor: convert the disk with `qemu-img convert -O qcow2`"},
		{"vhdxfile", "a VHDX disk: convert it with `qemu-img convert -O qcow2`"},
		{"conectix", "a VHD disk: convert it with `qemu-img convert -O qcow2`"},
		{"<<< ", "a VDI disk: convert it with `qemu-img convert -O qcow2`"},
		{"QED\x00", "a QED disk: convert it with `qemu-img convert -O qcow2`"},
		{"\x7fELF", "an ELF program"},
		{"LUKS\xba\xbe", "a LUKS volume"},
		{"%PDF-", "a PDF document"},
		{"version https://git-lfs", "a Git LFS pointer: fetch the file that it stands for"},
	}
}

func looksLike(head []byte) string {
	for _, s := range signatures() {
		if bytes.HasPrefix(head, []byte(s.lead)) {
			return s.looks
		}
	}
	text := bytes.ToLower(bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n"))
	switch {
	case bytes.HasPrefix(text, []byte("<!doctype html")), bytes.HasPrefix(text, []byte("<html")), bytes.HasPrefix(text, []byte("<head")):
		return "an HTML page, perhaps a server's error or login page"
	case bytes.HasPrefix(text, []byte("<?xml")), bytes.HasPrefix(text, []byte("<error")):
		return "an XML document, perhaps a server's error"
	case bytes.HasPrefix(text, []byte("{")) && isText(head):
		return "a JSON document, perhaps a server's error"
	case len(head) >= 262 && string(head[257:262]) == "ustar":
		return "a tar archive"
	case len(head) >= 520 && string(head[512:520]) == "EFI PART":
		return "a raw disk with a GPT: convert it with `qemu-img convert -f raw -O qcow2`"
	case len(head) >= 512 && head[510] == 0x55 && head[511] == 0xaa:
		return "a raw disk with an MBR: convert it with `qemu-img convert -f raw -O qcow2`"
	case len(head) >= 1082 && head[1080] == 0x53 && head[1081] == 0xef:
		return "a raw ext2/3/4 file system"
	case len(bytes.Trim(head, "\x00")) == 0:
		return "zeros: a sparse or failed download, or an empty raw disk"
	case isText(head):
		return "text"
	}
	return "none of the formats known here"
}

// isText tolerates a rune that is cut in two at the end.
func isText(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			return !utf8.FullRune(b)
		}
		if r < ' ' && r != '\n' && r != '\r' && r != '\t' && r != '\f' {
			return false
		}
		b = b[n:]
	}
	return true
}
