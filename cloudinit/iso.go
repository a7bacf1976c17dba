package cloudinit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// WriteISO writes the files as an ISO9660 image (ECMA-119, level 1) on which
// Linux sees their names by Rock Ridge and others see them by Joliet. The
// image is deterministic: there is one time stamp for all, files belong to
// root and can be read by root only.
//
// A label has up to 16 characters; a path up to 7 directories, with names of up
// to 64 characters and none of the characters that Joliet forbids.
func WriteISO(w io.Writer, label string, files []File) error {
	root, err := newTree(files)
	if err == nil && (label == "" || len(label) > maxLabel || !printable(label)) {
		err = fmt.Errorf("label %q: accepted are 1 to %d ASCII characters", label, maxLabel)
	}
	if err != nil {
		return fmt.Errorf("write ISO image: %w", err)
	}
	_, err = w.Write(newImage(label, root).bytes())
	return err
}

// CreateISO writes the image to a file that only its owner can read, and that
// is whole and durable when it appears under its name. It replaces another.
func CreateISO(path, label string, files []File) error {
	var image bytes.Buffer
	if err := WriteISO(&image, label, files); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.new")
	if err != nil {
		return fmt.Errorf("create ISO image %s: %w", path, err)
	}
	_, err = f.Write(image.Bytes())
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("create ISO image %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// stamp is the time of everything in an image.
var stamp = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// sectorSize is ECMA-119's logical sector and block.
const sectorSize = 2048

const maxLabel = 16

// The sectors of an image: system area, descriptors, path tables (two byte
// orders for each of the two trees), directories of both trees, files.
const (
	primarySector = 16
	jolietSector  = 17
	endSector     = 18
	tablesSector  = 19
)

// image is an image whose sectors are all assigned.
type image struct {
	label   string
	root    *dir
	volumes [2]volume // ISO9660 with Rock Ridge, Joliet
	sectors uint32
}

// volume is one of the two trees over the same files.
type volume struct {
	tree
	dirs         []*dir // in the path table's order
	little, big  uint32 // sectors of its path tables
	tableLen     uint32
	tableSectors uint32
}

func newImage(label string, root *dir) *image {
	m := &image{label: label, root: root}
	next := uint32(tablesSector)
	m.volumes = [2]volume{{tree: rockRidge}, {tree: joliet}}
	for i := range m.volumes {
		v := &m.volumes[i]
		v.dirs = breadthFirst(root, v.tree)
		v.tableLen = v.pathTableLen()
		v.tableSectors = sectorsFor(int(v.tableLen))
		v.little, v.big = next, next+v.tableSectors
		next += 2 * v.tableSectors
	}
	for i := range m.volumes {
		for _, d := range m.volumes[i].dirs {
			d.at[i] = extent{next, m.volumes[i].dirLen(d)}
			next += sectorsFor(int(d.at[i].length))
		}
	}
	for _, f := range m.volumes[0].files() {
		f.sector = next
		next += sectorsFor(len(f.data))
	}
	m.sectors = next
	return m
}

func (m *image) bytes() []byte {
	b := make([]byte, int(m.sectors)*sectorSize)
	at := func(sector uint32) []byte { return b[int(sector)*sectorSize:] }
	m.descriptor(at(primarySector), &m.volumes[0])
	m.descriptor(at(jolietSector), &m.volumes[1])
	copy(at(endSector), "\xffCD001\x01")
	for i := range m.volumes {
		v := &m.volumes[i]
		copy(at(v.little), v.pathTable(littleEndian))
		copy(at(v.big), v.pathTable(bigEndian))
		for _, d := range v.dirs {
			copy(at(d.at[i].sector), v.directory(d))
		}
	}
	for _, f := range m.volumes[0].files() {
		copy(at(f.sector), f.data)
	}
	return b
}

func sectorsFor(n int) uint32 { return uint32((n + sectorSize - 1) / sectorSize) }

func printable(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}
