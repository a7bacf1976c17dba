package images

import (
	"cmp"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// settle is how long after a directory's last change its mtime is trusted to
// show the next one: several times the coarsest clock tick of Linux.
const settle = 50 * time.Millisecond

// index is the store as it was read from the disk.
type index struct {
	dataStamp, linksStamp stamp

	data  map[string]dataFile // by hex digest
	links map[string]link     // by file name

	tables
}

// tables are made of an index's data and links.
type tables struct {
	built  bool           // and nothing was forgotten since
	images []Image        // sorted by first name, then digest
	byID   map[string]int // into images
	byHex  map[string]int
	byKey  map[string]int // by Name.key
}

type dataFile struct {
	size, blocks int64 // bytes
}

type link struct {
	file  string // below links
	name  Name
	hex   string // what it points to, "" when to nothing of ours
	mtime time.Time
}

// stamp tells whether a directory changed since it was read.
type stamp struct {
	mtime   time.Time
	trusted bool // an equal mtime means that nothing has changed
}

// readStamp must be called before the directory is read: a change while reading
// is then seen next time.
func readStamp(dir string, now time.Time) (stamp, error) {
	fi, err := os.Stat(dir)
	if err != nil {
		return stamp{}, err
	}
	return stamp{mtime: fi.ModTime(), trusted: now.Sub(fi.ModTime()) > settle}, nil
}

// unchanged tells whether what was read at old is what is there at s.
func (s stamp) unchanged(old stamp) bool {
	return old.trusted && old.mtime.Equal(s.mtime)
}

// readIndex reads the directories that may have changed, and returns old if none
// has. What old knows about files that are still there is not looked up again:
// data files never change, and a link is judged by its target.
func readIndex(dataDir, linksDir string, old *index) (_ *index, err error) {
	if old == nil {
		old = &index{}
	}
	now := time.Now()
	ix := &index{data: old.data, links: old.links}
	if ix.dataStamp, err = readStamp(dataDir, now); err != nil {
		return nil, err
	}
	if ix.linksStamp, err = readStamp(linksDir, now); err != nil {
		return nil, err
	}
	sameData, sameLinks := ix.dataStamp.unchanged(old.dataStamp), ix.linksStamp.unchanged(old.linksStamp)
	if sameData && sameLinks {
		return old, nil
	}
	if !sameData {
		if ix.data, err = readData(dataDir, old.data); err != nil {
			return nil, err
		}
	}
	if !sameLinks {
		if ix.links, err = readLinks(linksDir, old.links); err != nil {
			return nil, err
		}
	}
	if sameLinks && old.built && maps.Equal(ix.data, old.data) {
		// Only a part file came or went.
		ix.tables = old.tables
		return ix, nil
	}
	ix.build(dataDir)
	return ix, nil
}

// forgetData makes the next readIndex look the data file up again.
func (ix *index) forgetData(hex string) {
	if ix != nil {
		ix.dataStamp.trusted, ix.built = false, false
		delete(ix.data, hex)
	}
}

// forgetLink makes the next readIndex look the link up again.
func (ix *index) forgetLink(file string) {
	if ix != nil {
		ix.linksStamp.trusted, ix.built = false, false
		delete(ix.links, file)
	}
}

func readData(dir string, old map[string]dataFile) (map[string]dataFile, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	data := make(map[string]dataFile, len(entries))
	for _, e := range entries {
		if !isHexDigest(e.Name()) || !e.Type().IsRegular() {
			continue
		}
		d, known := old[e.Name()]
		if !known {
			fi, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			d = dataFile{size: fi.Size(), blocks: blocks(fi)}
		}
		data[e.Name()] = d
	}
	return data, nil
}

// blocks returns what a file occupies on the disk, in bytes.
func blocks(fi fs.FileInfo) int64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return fi.Size()
}

func readLinks(dir string, old map[string]link) (map[string]link, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	links := make(map[string]link, len(entries))
	for _, e := range entries {
		if e.Type() != fs.ModeSymlink {
			continue
		}
		l, err := readLink(dir, e.Name(), old)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		links[l.file] = l
	}
	return links, nil
}

func readLink(dir, file string, old map[string]link) (link, error) {
	target, err := os.Readlink(filepath.Join(dir, file))
	if err != nil {
		return link{}, err
	}
	hex := linkDigest(target)
	if l, known := old[file]; known && l.hex == hex {
		return l, nil
	}
	fi, err := os.Lstat(filepath.Join(dir, file))
	if err != nil {
		return link{}, err
	}
	return link{file: file, name: parseLinkName(file), hex: hex, mtime: fi.ModTime()}, nil
}

// linkDigest returns the digest that a link's target names, "" for a target
// that is none of ours.
func linkDigest(target string) string {
	if dir, hex := filepath.Split(target); filepath.Base(dir) == dataName && isHexDigest(hex) {
		return hex
	}
	return ""
}

// build makes images and the look-up maps of data and links.
func (ix *index) build(dataDir string) {
	named := map[string][]link{}
	for _, l := range ix.current() {
		named[l.hex] = append(named[l.hex], l)
	}
	for hex, links := range named {
		ix.images = append(ix.images, newImage(hex, ix.data[hex].size, dataDir, links))
	}
	slices.SortFunc(ix.images, func(a, b Image) int {
		return cmp.Or(slices.Compare(a.Names, b.Names), cmp.Compare(a.Digest, b.Digest))
	})
	ix.built = true
	ix.byID, ix.byHex, ix.byKey = map[string]int{}, map[string]int{}, map[string]int{}
	for i, img := range ix.images {
		ix.byID[img.ID], ix.byHex[img.Digest] = i, i
		for _, l := range named[img.Digest] {
			ix.byKey[l.name.key()] = i
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
		key := l.name.key()
		if other, taken := newest[key]; !taken || l.newer(other) {
			newest[key] = l
		}
	}
	return newest
}

func (l link) newer(other link) bool {
	return cmp.Or(l.mtime.Compare(other.mtime), cmp.Compare(l.file, other.file)) > 0
}

func newImage(hex string, size int64, dataDir string, links []link) Image {
	img := Image{ID: ID(hex), Digest: hex, Size: size, Path: filepath.Join(dataDir, hex)}
	for _, l := range links {
		if l.name.Digest == "" {
			img.Names = append(img.Names, l.name.String())
		}
		img.RepoDigests = append(img.RepoDigests, l.name.repo()+"@"+digestPrefix+hex)
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
			keys[l.name.key()] = true
		}
	}
	var files []string
	for file, l := range ix.links {
		if l.hex == hex || keys[l.name.key()] && ix.byKeyHex(l.name.key()) == hex {
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
		if l.name.key() == n.key() && file != n.linkName() {
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
