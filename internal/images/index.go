package images

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// index is the store as it was read from the disk.
type index struct {
	data  map[string]dataFile // by hex digest
	links map[string]link     // by file name
	tags  map[string]source   // what tags came in, by Name.key; nil: to be asked for

	tables
}

// tables are made of an index's data and links.
type tables struct {
	built  bool           // and nothing has changed since
	images []Image        // sorted by first name, then digest
	byID   map[string]int // into images
	byHex  map[string]int
	byKey  map[string]int // by Name.key
}

type dataFile struct {
	id           string
	size, blocks int64 // bytes
}

type link struct {
	file      string // below links
	name      Name
	text, key string // of the name
	hex       string // what it points to, "" when to nothing of ours
	mtime     time.Time
	blocks    int64 // bytes
}

func newIndex() *index {
	return &index{data: map[string]dataFile{}, links: map[string]link{}}
}

// update reads what has changed. After an error it must not be used any more.
func (ix *index) update(dataDir, linksDir string, data, links changes) error {
	if err := ix.updateData(dataDir, data); err != nil {
		return err
	}
	if err := ix.updateLinks(linksDir, links); err != nil {
		return err
	}
	if !ix.built {
		ix.build(dataDir)
	}
	return nil
}

func (ix *index) updateData(dir string, c changes) error {
	if c.all {
		return ix.readData(dir)
	}
	for name := range c.names {
		fi, err := os.Lstat(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err != nil || !isData(name, fi.Mode().Type()) {
			ix.forgetData(name)
			continue
		}
		ix.setData(name, fi)
	}
	return nil
}

func (ix *index) updateLinks(dir string, c changes) error {
	if c.all {
		return ix.readLinks(dir)
	}
	if len(c.names) == 0 {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	for name := range c.names {
		if err := ix.readLink(d, name); err != nil {
			return err
		}
	}
	return nil
}

func isData(name string, t fs.FileMode) bool { return isHexDigest(name) && t.IsRegular() }

func (ix *index) setData(hex string, fi fs.FileInfo) {
	old, known := ix.data[hex]
	d := dataFile{id: old.id, size: fi.Size(), blocks: blocks(fi)}
	if !known {
		d.id = ID(hex)
	}
	if d != old {
		ix.data[hex], ix.built = d, false
	}
}

func (ix *index) forgetData(hex string) {
	if _, known := ix.data[hex]; known {
		delete(ix.data, hex)
		ix.built = false
	}
}

func (ix *index) setLink(l link) {
	if ix.links[l.file] != l {
		ix.links[l.file], ix.built = l, false
	}
}

func (ix *index) forgetLink(file string) {
	if _, known := ix.links[file]; known {
		delete(ix.links, file)
		ix.built = false
	}
}

func (ix *index) readData(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(entries))
	for _, e := range entries {
		if !isData(e.Name(), e.Type()) {
			continue
		}
		fi, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		there[e.Name()] = true
		ix.setData(e.Name(), fi)
	}
	for hex := range ix.data {
		if !there[hex] {
			ix.forgetData(hex)
		}
	}
	return nil
}

// blocks returns what a file occupies on the disk, in bytes.
func blocks(fi fs.FileInfo) int64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return fi.Size()
}

func (ix *index) readLinks(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(names))
	for _, name := range names {
		there[name] = true
		if err := ix.readLink(d, name); err != nil {
			return err
		}
	}
	for file := range ix.links {
		if !there[file] {
			ix.forgetLink(file)
		}
	}
	return nil
}

// maxTarget is more than the length of any target of ours, in bytes.
const maxTarget = 256

// readLink reads one link of the directory. What is none, or gone, is forgotten.
func (ix *index) readLink(dir *os.File, file string) error {
	var target [maxTarget]byte
	n, err := unix.Readlinkat(int(dir.Fd()), file, target[:])
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		ix.forgetLink(file)
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "readlink", Path: filepath.Join(dir.Name(), file), Err: err}
	}
	var st unix.Stat_t
	err = unix.Fstatat(int(dir.Fd()), file, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		ix.forgetLink(file)
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "lstat", Path: filepath.Join(dir.Name(), file), Err: err}
	}
	name := parseLinkName(file)
	ix.setLink(link{
		file: file, name: name, text: name.String(), key: name.key(),
		hex: linkDigest(target[:n]), mtime: time.Unix(st.Mtim.Unix()), blocks: st.Blocks * 512,
	})
	return nil
}

// linkDigest returns the digest that a link's target names, "" for a target
// that is none of ours.
func linkDigest(target []byte) string {
	if dir, hex := filepath.Split(string(target)); len(target) < maxTarget && filepath.Base(dir) == dataName && isHexDigest(hex) {
		return hex
	}
	return ""
}

// build makes images and the look-up maps of data and links.
func (ix *index) build(dataDir string) {
	named := make(map[string][]link, len(ix.data))
	for _, l := range ix.current() {
		named[l.hex] = append(named[l.hex], l)
	}
	ix.images = make([]Image, 0, len(named))
	for hex, links := range named {
		ix.images = append(ix.images, newImage(hex, ix.data[hex], dataDir, links, ix.tags))
	}
	slices.SortFunc(ix.images, func(a, b Image) int {
		return cmp.Or(slices.Compare(a.Names, b.Names), cmp.Compare(a.Digest, b.Digest))
	})
	ix.built = true
	n := len(ix.images)
	ix.byID, ix.byHex, ix.byKey = make(map[string]int, n), make(map[string]int, n), make(map[string]int, n)
	for i, img := range ix.images {
		ix.byID[img.ID], ix.byHex[img.Digest] = i, i
		for _, l := range named[img.Digest] {
			ix.byKey[l.key] = i
		}
	}
	ix.addDigests()
}

// addDigests has images found by their RepoDigests, where these are no links.
func (ix *index) addDigests() {
	for i, img := range ix.images {
		for _, d := range img.RepoDigests {
			key := strings.TrimPrefix(d, Prefix)
			if _, taken := ix.byKey[key]; !taken {
				ix.byKey[key] = i
			}
		}
	}
}

// current returns the links that count: they point to data that is there and
// not empty (a crash of a store that did not sync left such files), and are the
// newest spelling of their name. Two spellings stay behind when a crash hits a
// pull under another spelling than the first.
func (ix *index) current() map[string]link {
	newest := make(map[string]link, len(ix.links))
	for _, l := range ix.links {
		if ix.data[l.hex].size == 0 {
			continue
		}
		if other, taken := newest[l.key]; !taken || l.newer(other) {
			newest[l.key] = l
		}
	}
	return newest
}

func (l link) newer(other link) bool {
	return cmp.Or(l.mtime.Compare(other.mtime), cmp.Compare(l.file, other.file)) > 0
}

func newImage(hex string, d dataFile, dataDir string, links []link, tags map[string]source) Image {
	// CRI takes an image of size 0 for a broken one, and a file system may keep a
	// small file in its inode.
	img := Image{ID: d.id, Digest: hex, Size: max(d.blocks, 1), Path: dataDir + "/" + hex}
	for _, l := range links {
		digest := l.name.Digest // may stand for what the disk came in
		if digest == "" {
			img.Names, digest = append(img.Names, l.text), hex
			if src := tags[l.key]; src.Digest == hex {
				digest = src.Sent[0]
			}
		}
		img.RepoDigests = append(img.RepoDigests, l.name.repo()+"@"+digestPrefix+digest)
		if l.mtime.After(img.PulledAt) {
			img.PulledAt = l.mtime
		}
	}
	slices.Sort(img.Names)
	slices.Sort(img.RepoDigests)
	img.RepoDigests = slices.Compact(img.RepoDigests)
	return img
}

// linksOf returns the files of all links to the data, and of older spellings
// of the same names: those would come back to life otherwise.
func (ix *index) linksOf(hex string) []string {
	keys := map[string]bool{}
	for _, l := range ix.links {
		if l.hex == hex {
			keys[l.key] = true
		}
	}
	var files []string
	for file, l := range ix.links {
		if l.hex == hex || keys[l.key] && ix.byKeyHex(l.key) == hex {
			files = append(files, file)
		}
	}
	slices.Sort(files)
	return files
}

// byKeyHex returns the digest that a name stands for, or "".
func (ix *index) byKeyHex(key string) string {
	if i, ok := ix.byKey[key]; ok {
		return ix.images[i].Digest
	}
	return ""
}

// aliases returns the files of the links with the same meaning as n, but
// another spelling.
func (ix *index) aliases(n Name) []string {
	var files []string
	for file, l := range ix.links {
		if l.key == n.key() && file != n.linkName() {
			files = append(files, file)
		}
	}
	return files
}

// clone makes a copy that shares nothing with the index.
func (img Image) clone() Image {
	img.Names = slices.Clone(img.Names)
	img.RepoDigests = slices.Clone(img.RepoDigests)
	return img
}
