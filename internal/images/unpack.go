package images

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

const (
	// maxDictionary bounds the memory of a decompressor, in bytes: what `xz -9`
	// (64 MiB) and `zstd --long` (128 MiB) need.
	maxDictionary = 128 << 20
	// peekLen is enough to recognise a compression or a tar archive, in bytes.
	peekLen = 512
)

// Compressions, by their names for people.
const (
	plain    = ""
	gzipped  = "gzip"
	xzipped  = "xz"
	zstdized = "zstd"
)

// compression recognises a compressed file by its first bytes.
func compression(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b\x08")):
		return gzipped
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return xzipped
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")),
		// A skippable frame (RFC 8878, 3.1.2), with which pzstd begins.
		len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte("\x2a\x4d\x18")):
		return zstdized
	}
	return plain
}

// decompressor returns what is in a compressed file. The caller ends it.
func decompressor(kind string, r io.Reader) (io.ReadCloser, error) {
	switch kind {
	case gzipped:
		return gzip.NewReader(r)
	case xzipped:
		x, err := xz.NewReader(r, maxDictionary)
		return io.NopCloser(x), err
	default:
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxDictionary), zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
}

// isTar recognises a tar archive by its first bytes.
func isTar(head []byte) bool {
	return len(head) >= 262 && string(head[257:262]) == "ustar"
}

// unpack writes the disk in r to the part: as it is, decompressed, or, where
// archives are allowed, out of the archive. It recognises all that by the
// content. packed tells that r is what a decompressor makes.
func (in *intake) unpack(r io.Reader, packed bool) error {
	b := bufio.NewReaderSize(r, peekLen)
	head, err := peek(b)
	if err != nil {
		return err
	}
	kind := compression(head)
	switch {
	case kind != plain && packed:
		return refused(fmt.Errorf("it is compressed twice, with %s inside", kind))
	case kind != plain:
		return in.decompress(kind, b)
	case in.archive && isTar(head):
		return in.extract(b)
	}
	return in.store(b)
}

func (in *intake) decompress(kind string, r io.Reader) error {
	d, err := decompressor(kind, r)
	if err != nil {
		return damagedData(kind, err)
	}
	defer d.Close()
	return in.unpack(&damagedAs{d, kind}, true)
}

// damagedAs explains a decompressor's errors.
type damagedAs struct {
	r    io.Reader
	kind string
}

func (d *damagedAs) Read(b []byte) (int, error) {
	n, err := d.r.Read(b)
	if err != nil && err != io.EOF {
		err = damagedData(d.kind, err)
	}
	return n, err
}

func damagedData(kind string, err error) error {
	if errors.Is(err, xz.ErrMemlimit) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return fmt.Errorf("the %s data need more than %d MiB of memory to decompress: %w", kind, maxDictionary>>20, errdefs.ErrFailedPrecondition)
	}
	return fmt.Errorf("the %s data are damaged: %w: %w", kind, err, errdefs.ErrFailedPrecondition)
}

const (
	// diskDir is where containerDisks have their disk.
	diskDir = "disk"
	// whiteout begins the names of files that take one out of the layers below;
	// opaque takes all (OCI image layer specification).
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// errNoDisk says that a layer has no disk. Another one may.
var errNoDisk = fmt.Errorf("no file in /%s: %w", diskDir, errdefs.ErrFailedPrecondition)

// extract looks for the one file below /disk in a tar archive.
func (in *intake) extract(r io.Reader) error {
	found, gone := "", []string(nil)
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return tarError(err)
		}
		name := path.Clean("/" + h.Name)
		if path.Dir(name) != "/"+diskDir {
			continue
		}
		if base := path.Base(name); strings.HasPrefix(base, whiteout) {
			gone = append(gone, base)
			continue
		}
		if h.Typeflag != tar.TypeReg || slices.Contains(in.deleted, whiteout+path.Base(name)) || slices.Contains(in.deleted, opaque) {
			continue
		}
		if found != "" {
			return fmt.Errorf("two files in /%s, %q and %q (accepted: one): %w", diskDir, path.Base(found), path.Base(name), errdefs.ErrFailedPrecondition)
		}
		found = name
		if err := in.unpack(&tarFile{t}, false); err != nil {
			return err
		}
	}
	if found == "" {
		in.deleted = append(in.deleted, gone...)
		return errNoDisk
	}
	return nil
}

// tarFile explains the errors of a file in an archive.
type tarFile struct{ r io.Reader }

func (t *tarFile) Read(b []byte) (int, error) {
	n, err := t.r.Read(b)
	if err != nil && err != io.EOF {
		err = tarError(err)
	}
	return n, err
}

// tarError leaves errors of what the archive is read from as they are.
func tarError(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) && !errdefs.IsUnavailable(err) {
		return fmt.Errorf("the tar archive is damaged: %w: %w", err, errdefs.ErrFailedPrecondition)
	}
	return err
}
