package images

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// FSInfo measures the store.
func (s *Store) FSInfo() (FSInfo, error) {
	info := FSInfo{Time: time.Now()}
	s.mu.Lock()
	ix, err := s.index()
	if err == nil {
		info.InodesUsed = uint64(len(ix.data) + len(ix.links))
		for _, d := range ix.data {
			info.UsedBytes += uint64(d.blocks)
		}
		for _, l := range ix.links {
			info.UsedBytes += uint64(l.blocks) // the targets are too long for an inode
		}
	}
	s.mu.Unlock()
	if err != nil {
		return FSInfo{}, err
	}
	if err := s.addOthers(&info); err != nil {
		return FSInfo{}, fmt.Errorf("image store: %w", err)
	}
	if info.Mountpoint, err = mountpoint(s.opts.Dir); err != nil {
		return FSInfo{}, fmt.Errorf("image store: %w", err)
	}
	return info, nil
}

// addOthers counts what the index does not know: the directories, part files
// and the cache.
func (s *Store) addOthers(info *FSInfo) error {
	paths := []string{s.opts.Dir, s.dataDir, s.linksDir, filepath.Join(s.opts.Dir, sourcesName)}
	entries, err := os.ReadDir(s.dataDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), partPrefix) {
			paths = append(paths, filepath.Join(s.dataDir, e.Name()))
		}
	}
	for _, path := range paths {
		fi, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		info.UsedBytes += uint64(blocks(fi))
		info.InodesUsed++
	}
	return nil
}

// mountpoint returns where the file system that holds the directory is mounted.
func mountpoint(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", err
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	return longestMount(f, dir)
}

// longestMount finds the mount point that dir is below of in a mountinfo table
// (proc_pid_mountinfo(5)), of which the fifth field is the mount point.
func longestMount(table io.Reader, dir string) (string, error) {
	best := ""
	lines := bufio.NewScanner(table)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		// Of two mounts on one place the later covers the earlier.
		if m := unescapeMount(fields[4]); below(dir, m) && len(m) >= len(best) {
			best = m
		}
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	if best == "" {
		return "", fmt.Errorf("no mount point for %s in mountinfo", dir)
	}
	return best, nil
}

func below(dir, mount string) bool {
	return mount == "/" || dir == mount || strings.HasPrefix(dir, mount+"/")
}

// unescapeMount undoes the kernel's \ooo for blanks and backslashes.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
