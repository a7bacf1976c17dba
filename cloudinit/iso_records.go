package cloudinit

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
)

var (
	littleEndian = binary.LittleEndian
	bigEndian    = binary.BigEndian
)

// both32 and both16 are ECMA-119 7.3.3 and 7.2.3: little endian, then big.
func both32(n uint32) []byte {
	return bigEndian.AppendUint32(littleEndian.AppendUint32(nil, n), n)
}

func both16(n uint16) []byte {
	return bigEndian.AppendUint16(littleEndian.AppendUint16(nil, n), n)
}

// descriptor fills the primary or supplementary volume descriptor (ECMA-119 8.4
// and 8.5).
func (m *image) descriptor(b []byte, v *volume) {
	kind, text := byte(1), func(s string) string { return s }
	if v.tree == joliet {
		kind, text = 2, ucs2
		copy(b[88:], "%/E") // UCS-2 level 3
	}
	space := text(" ")
	field := func(at, length int, value string) {
		copy(b[at:at+length], bytes.Repeat([]byte(space), length/len(space)))
		copy(b[at:at+length], text(value))
	}
	b[0] = kind
	copy(b[1:], "CD001\x01")
	field(8, 32, "LINUX")
	field(40, 32, m.label)
	copy(b[80:], both32(m.sectors))
	copy(b[120:], both16(1)) // volumes in the set
	copy(b[124:], both16(1)) // number of this one
	copy(b[128:], both16(sectorSize))
	copy(b[132:], both32(v.tableLen))
	littleEndian.PutUint32(b[140:], v.little)
	bigEndian.PutUint32(b[148:], v.big)
	copy(b[156:], v.record("\x00", m.root.at[v.tree], isDirectory, nil))
	field(190, 128, "") // volume set
	field(318, 128, "") // publisher
	field(446, 128, "") // data preparer
	field(574, 128, "") // application
	field(702, 37, "")  // copyright file
	field(739, 37, "")  // abstract file
	field(776, 37, "")  // bibliographic file
	created := stamp.Format("20060102150405") + "00\x00"
	copy(b[813:], created)
	copy(b[830:], created)
	copy(b[847:], "0000000000000000\x00") // does not expire
	copy(b[864:], created)
	b[881] = 1 // version of the directory and path table format
}

// pathTable is ECMA-119 9.4.
func (v *volume) pathTable(order binary.AppendByteOrder) []byte {
	var b []byte
	for _, d := range v.dirs {
		id, parent := "\x00", uint16(1)
		if d.parent != nil {
			id, parent = d.id[v.tree], d.parent.number[v.tree]
		}
		b = append(b, byte(len(id)), 0)
		b = order.AppendUint32(b, d.at[v.tree].sector)
		b = order.AppendUint16(b, parent)
		b = append(b, id...)
		if len(id)%2 == 1 {
			b = append(b, 0)
		}
	}
	return b
}

// pathTableLen does not depend on the byte order nor on sectors.
func (v *volume) pathTableLen() uint32 { return uint32(len(v.pathTable(littleEndian))) }

const isDirectory = 0x02

// record is a directory record, ECMA-119 9.1, with a system use area.
func (v *volume) record(id string, at extent, flags byte, use []byte) []byte {
	b := []byte{0, 0}
	b = append(b, both32(at.sector)...)
	b = append(b, both32(at.length)...)
	b = append(b, shortStamp()...)
	b = append(b, flags, 0, 0)
	b = append(b, both16(1)...)
	b = append(b, byte(len(id)))
	b = append(b, id...)
	if len(id)%2 == 0 {
		b = append(b, 0)
	}
	b = append(b, use...)
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	b[0] = byte(len(b))
	return b
}

func shortStamp() []byte {
	return []byte{byte(stamp.Year() - 1900), byte(stamp.Month()), byte(stamp.Day()), byte(stamp.Hour()), byte(stamp.Minute()), byte(stamp.Second()), 0}
}

// directory is the extent of a directory: itself, its parent, and its entries
// in order of their identifiers. No record crosses a sector.
func (v *volume) directory(d *dir) []byte {
	parent := d
	if d.parent != nil {
		parent = d.parent
	}
	type named struct {
		id     string
		record []byte
	}
	var entries []named
	for _, sub := range d.dirs {
		entries = append(entries, named{sub.id[v.tree], v.record(sub.id[v.tree], sub.at[v.tree], isDirectory, v.use(sub.name, true, subdirs(sub)))})
	}
	for _, f := range d.files {
		entries = append(entries, named{f.id[v.tree], v.record(f.id[v.tree]+v.version(), extent{f.sector, uint32(len(f.data))}, 0, v.use(f.name, false, 0))})
	}
	slices.SortFunc(entries, func(a, b named) int { return cmp.Compare(a.id, b.id) })
	records := [][]byte{
		v.record("\x00", d.at[v.tree], isDirectory, v.useSelf(d)),
		v.record("\x01", parent.at[v.tree], isDirectory, v.use("", true, subdirs(parent))),
	}
	for _, e := range entries {
		records = append(records, e.record)
	}
	return pack(records)
}

// version ends every file's identifier. Joliet's go without one, as those of
// genisoimage do: readers that do not take it off would show it.
func (v *volume) version() string {
	if v.tree == joliet {
		return ""
	}
	return ";1"
}

// dirLen does not depend on sectors; it is whole sectors.
func (v *volume) dirLen(d *dir) uint32 { return uint32(len(v.directory(d))) }

func subdirs(d *dir) int { return len(d.dirs) }

func pack(records [][]byte) []byte {
	var b []byte
	for _, r := range records {
		if rest := sectorSize - len(b)%sectorSize; len(r) > rest {
			b = append(b, make([]byte, rest)...)
		}
		b = append(b, r...)
	}
	return append(b, make([]byte, (sectorSize-len(b)%sectorSize)%sectorSize)...)
}
