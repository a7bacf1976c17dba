package cloudinit

// The system use entries of SUSP 1.12 (IEEE P1281) and RRIP 1991A (IEEE
// P1282), few enough that every record holds its own.

const (
	modeFile = 0o100400
	modeDir  = 0o040500
)

// use is the system use area of a record; name is empty for a directory's
// entries of itself and its parent. Joliet has none.
func (v *volume) use(name string, isDir bool, subdirs int) []byte {
	if v.tree == joliet {
		return nil
	}
	mode, links := uint32(modeFile), uint32(1)
	if isDir {
		mode, links = modeDir, uint32(2+subdirs)
	}
	b := posix(mode, links)
	b = append(b, timestamps()...)
	if name != "" {
		b = append(b, "NM"...)
		b = append(b, byte(5+len(name)), 1, 0)
		b = append(b, name...)
	}
	return b
}

// useSelf is that of a directory's first record, which in the root announces
// what the others hold.
func (v *volume) useSelf(d *dir) []byte {
	b := v.use("", true, subdirs(d))
	if v.tree == joliet || d.parent != nil {
		return b
	}
	return append(append([]byte("SP\x07\x01\xbe\xef\x00"), b...), extensionReference()...)
}

// posix is PX: mode, links, user, group.
func posix(mode, links uint32) []byte {
	b := []byte("PX\x24\x01")
	for _, n := range []uint32{mode, links, 0, 0} {
		b = append(b, both32(n)...)
	}
	return b
}

// timestamps is TF with modification, access and attribute change.
func timestamps() []byte {
	b := []byte("TF\x1a\x01\x0e")
	for range 3 {
		b = append(b, shortStamp()...)
	}
	return b
}

// extensionReference is ER.
func extensionReference() []byte {
	const (
		id     = "RRIP_1991A"
		text   = "THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS"
		source = "IEEE P1282"
	)
	b := []byte{'E', 'R', byte(8 + len(id) + len(text) + len(source)), 1, byte(len(id)), byte(len(text)), byte(len(source)), 1}
	return append(b, id+text+source...)
}
