package images

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/containerd/errdefs"
)

// sniffLen is how much of a file is looked at, in bytes: the signature of btrfs
// comes last.
const sniffLen = 0x10040 + 8

// sniffEarly is how much suffices for most.
const sniffEarly = 4 << 10

// signature is a file type that is known not to be a disk image we take.
type signature struct {
	offset int
	magic  string
	what   string
}

// signatures returns the file types that servers hand out instead of a disk.
func signatures() []signature {
	return []signature{
		{0, "BZh", "a bzip2 file"},
		{0, "7z\xbc\xaf\x27\x1c", "a 7-zip archive"},
		{0, "PK\x03\x04", "a zip archive"},
		{257, "ustar", "a tar archive (an OVA?)"},
		{0, "KDMV", "a VMDK disk"},
		{0, "# Disk DescriptorFile", "a VMDK descriptor"},
		{0x40, "\x7f\x10\xda\xbe", "a VDI disk"},
		{0, "vhdxfile", "a VHDX disk"},
		{0, "conectix", "a VHD disk"},
		{0, "QED\x00", "a QED disk"},
		{0, "\x7fELF", "an ELF program"},
		{0, "hsqs", "a squashfs file system"},
		{0, "%PDF-", "a PDF document"},
		{0x8001, "CD001", "an ISO 9660 image (a CD)"},
	}
}

// looksLike names a file type that is certainly no disk image, by the file's
// first bytes, or returns "".
func looksLike(head []byte) string {
	for _, s := range signatures() {
		if len(head) > s.offset && bytes.HasPrefix(head[s.offset:], []byte(s.magic)) {
			return s.what
		}
	}
	if isText(head) {
		return textKind(head)
	}
	return ""
}

func textKind(head []byte) string {
	first := firstWords(head)
	lower := strings.ToLower(first)
	switch {
	case strings.HasPrefix(lower, "<!doctype html"), strings.HasPrefix(lower, "<html"):
		return fmt.Sprintf("an HTML page (%q)", first)
	case strings.HasPrefix(lower, "<"):
		return fmt.Sprintf("an XML document (%q)", first)
	case strings.HasPrefix(lower, "{"), strings.HasPrefix(lower, "["):
		return fmt.Sprintf("a JSON document (%q)", first)
	}
	return fmt.Sprintf("text (%q)", first)
}

// firstWords returns the beginning of a text for an error message.
func firstWords(head []byte) string {
	const show = 60
	text := strings.Join(strings.Fields(strings.TrimPrefix(string(head[:min(len(head), 4*show)]), "\ufeff")), " ")
	if r := []rune(text); len(r) > show {
		return string(r[:show]) + "..."
	}
	return text
}

// isText tells whether the bytes are printable UTF-8. The end may have been cut
// inside a character.
func isText(head []byte) bool {
	head = head[:min(len(head), 512)]
	for i := 0; i < len(head); {
		r, n := utf8.DecodeRune(head[i:])
		if r == utf8.RuneError && n == 1 {
			return i > 0 && len(head)-i < utf8.UTFMax && !utf8.FullRune(head[i:])
		}
		if r < ' ' && !strings.ContainsRune("\t\r\n\f", r) || r == 0x7f {
			return false
		}
		i += n
	}
	return len(head) > 0
}

// refused is the error for content that is no image.
func refused(what error) error {
	return fmt.Errorf("not a usable disk image: %w (accepted: qcow2 and raw disks, also compressed with gzip, xz or zstd): %w", what, errdefs.ErrFailedPrecondition)
}
