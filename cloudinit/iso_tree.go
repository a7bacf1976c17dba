package cloudinit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// maxDepth counts the root; it is ECMA-119's.
	maxDepth = 8
	// maxName is Joliet's limit, in UTF-16 code units.
	maxName = 64
)

// dir is a directory of both trees.
type dir struct {
	names
	parent *dir
	dirs   []*dir
	files  []*file
	at     [2]extent // by tree
	number [2]uint16 // in the path table, from 1
}

type file struct {
	names
	data   []byte
	sector uint32
}

// names of a file or directory: its own, and the identifiers of the trees. The
// root has none. The version number that ends a file's identifier is not in it,
// since entries are sorted without.
type names struct {
	name string
	id   [2]string
}

type extent struct{ sector, length uint32 }

// tree numbers the two trees.
type tree int

const (
	rockRidge tree = iota
	joliet
)

func newTree(files []File) (*dir, error) {
	root := &dir{}
	for _, f := range files {
		if err := root.add(f); err != nil {
			return nil, err
		}
	}
	root.identify()
	return root, nil
}

func (d *dir) add(f File) error {
	parts := strings.Split(f.Path, "/")
	if len(parts) > maxDepth {
		return fmt.Errorf("file %q: accepted are up to %d directories", f.Path, maxDepth-1)
	}
	for _, p := range parts {
		if err := checkName(p); err != nil {
			return fmt.Errorf("file %q: %w", f.Path, err)
		}
	}
	for _, p := range parts[:len(parts)-1] {
		if d.file(p) != nil {
			return fmt.Errorf("file %q: %q is a file", f.Path, p)
		}
		d = d.child(p)
	}
	name := parts[len(parts)-1]
	if d.file(name) != nil || d.dir(name) != nil {
		return fmt.Errorf("file %q is there twice", f.Path)
	}
	d.files = append(d.files, &file{names: names{name: name}, data: f.Data})
	return nil
}

func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("%q is not a name", name)
	case !utf8.ValidString(name) || len(utf16.Encode([]rune(name))) > maxName || len(name) > 2*maxName:
		return fmt.Errorf("name %q: accepted are up to %d characters", name, maxName)
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || strings.ContainsRune(`*:;?\`, r) }):
		return fmt.Errorf(`name %q: not accepted are control characters and * : ; ? \`, name)
	}
	return nil
}

func (d *dir) file(name string) *file {
	for _, f := range d.files {
		if f.name == name {
			return f
		}
	}
	return nil
}

func (d *dir) dir(name string) *dir {
	for _, sub := range d.dirs {
		if sub.name == name {
			return sub
		}
	}
	return nil
}

// child returns the directory of that name, new if need be.
func (d *dir) child(name string) *dir {
	if sub := d.dir(name); sub != nil {
		return sub
	}
	sub := &dir{names: names{name: name}, parent: d}
	d.dirs = append(d.dirs, sub)
	return sub
}

// identify gives each name its identifiers in both trees.
func (d *dir) identify() {
	taken := map[string]bool{}
	for _, f := range d.files {
		f.id = [2]string{shortName(f.name, taken), ucs2(f.name)}
	}
	for _, sub := range d.dirs {
		sub.id = [2]string{shortDirName(sub.name, taken), ucs2(sub.name)}
		sub.identify()
	}
}

// shortName is a level 1 identifier, 8.3 of A-Z, 0-9 and _, not yet taken.
func shortName(name string, taken map[string]bool) string {
	base, ext := name, ""
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		base, ext = name[:i], name[i+1:]
	}
	ext = clip(mangle(ext), 3)
	return unique(clip(mangle(base), 8), "."+ext, taken)
}

func shortDirName(name string, taken map[string]bool) string {
	return unique(clip(mangle(name), 8), "", taken)
}

// unique puts a number in the place of the last characters if it must.
func unique(base, ext string, taken map[string]bool) string {
	id := base + ext
	for n := 0; taken[id]; n++ {
		number := fmt.Sprint(n)
		id = clip(base, 8-len(number)) + number + ext
	}
	taken[id] = true
	return id
}

func mangle(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		}
		return '_'
	}, s)
}

func clip(s string, n int) string { return s[:min(len(s), n)] }

func ucs2(s string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u>>8), byte(u))
	}
	return string(b)
}

// breadthFirst lists all directories level by level, parents' order first and
// identifiers' order within, and numbers them: the order of a path table.
func breadthFirst(root *dir, t tree) []*dir {
	all := []*dir{root}
	for i := 0; i < len(all); i++ {
		all[i].number[t] = uint16(i + 1)
		subs := slices.Clone(all[i].dirs)
		slices.SortFunc(subs, func(a, b *dir) int { return cmp.Compare(a.id[t], b.id[t]) })
		all = append(all, subs...)
	}
	return all
}

// files lists all files, directory by directory.
func (v *volume) files() []*file {
	var all []*file
	for _, d := range v.dirs {
		all = append(all, d.files...)
	}
	return all
}
