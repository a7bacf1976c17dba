package injector

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// An ordinary process must go on as if nothing were there.
func TestMainReturns(t *testing.T) { Main() }

func mustWrite(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	mode := uint32(0o4751)
	mustWrite(t, dir+"/old", "old")
	if err := errors.Join(os.Chmod(dir+"/old", 0o710), os.Chown(dir+"/old", 7, 7), os.Symlink("old", dir+"/link"), os.Symlink("a/b", dir+"/nowhere")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		file File
		at   string
		mode fs.FileMode
	}{
		{File{Path: "/old"}, "old", 0o710},
		{File{Path: "/old", Mode: &mode, UID: 3, GID: 4}, "old", 0o751},
		{File{Path: "/link"}, "link", 0o644},
		{File{Path: "/x/y/z"}, "x/y/z", 0o644},
		{File{Path: "/nowhere/f"}, "a/b/f", 0o644},
	} {
		f := c.file
		f.Path = dir + f.Path
		if err := f.write([]byte(c.file.Path)); err != nil {
			t.Errorf("%s: %v", c.file.Path, err)
			continue
		}
		at := filepath.Join(dir, c.at)
		st, err := os.Lstat(at)
		if err != nil || st.Mode() != c.mode {
			t.Errorf("%s: %v, %v; want %v", c.file.Path, st, err, c.mode)
			continue
		}
		if got, _ := os.ReadFile(at); string(got) != c.file.Path {
			t.Errorf("%s holds %q", c.at, got)
		}
		if owner := st.Sys().(*syscall.Stat_t); int(owner.Uid) != f.UID || int(owner.Gid) != f.GID {
			t.Errorf("%s is of %d:%d", c.at, owner.Uid, owner.Gid)
		}
	}
}

func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	mustWrite(t, dir+"/file", "")
	if err := errors.Join(os.Mkdir(dir+"/dir", 0o755), os.Symlink("b", dir+"/a"), os.Symlink("a", dir+"/b")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/dir":        "it is a directory in the image",
		"/file/x":     "/file is not a directory in the image",
		"/file/x/y":   "not a directory",
		"/a/x":        "too many levels of symbolic links",
		"/dir/../a/x": "too many levels of symbolic links",
	} {
		err := File{Path: dir + path}.write(nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

// A new file is labelled like its directory, one that replaces another like that.
func TestLabels(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Setxattr(dir, selinuxLabel, []byte("dir_t\x00"), 0); err != nil {
		t.Skip("this file system takes no labels:", err)
	}
	mustWrite(t, dir+"/old", "")
	if err := unix.Setxattr(dir+"/old", selinuxLabel, []byte("old_t\x00"), 0); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"old": "old_t\x00", "new": "dir_t\x00", "sub/new": "dir_t\x00"} {
		if err := (File{Path: filepath.Join(dir, path)}).write(nil); err != nil {
			t.Fatal(err)
		}
		if got := labelOf(filepath.Join(dir, path)); string(got) != want {
			t.Errorf("%s has the label %q, want %q", path, got, want)
		}
	}
}

func TestIsRoot(t *testing.T) {
	for _, c := range []struct {
		want bool
		dirs string
	}{
		{true, "etc usr"}, {true, "etc bin lib"}, {true, "etc usr boot home"},
		{false, ""}, {false, "grub efi"}, {false, "etc"}, {false, "usr bin"}, {false, "lost+found"},
	} {
		dir := t.TempDir()
		for name := range strings.FieldsSeq(c.dirs) {
			if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if got := isRoot(dir); got != c.want {
			t.Errorf("%q: %v", c.dirs, got)
		}
	}
}

func TestIdentify(t *testing.T) {
	at := func(offset int, mark string) string { return strings.Repeat("\x00", offset) + mark }
	for want, head := range map[string]string{
		"ext4":                   at(1080, "\x53\xef"+at(200, "")),
		"xfs":                    "XFSB",
		"an LVM physical volume": at(512, "LABELONE"),
		"a LUKS volume":          "LUKS\xba\xbe\x00\x02",
		"a Linux RAID member":    at(4096, "\xfc\x4e\x2b\xa9"),
		"btrfs":                  at(0x10040, "_BHRfS_M"),
		"FAT":                    at(82, "FAT32   "),
		"swap":                   at(4086, "SWAPSPACE2"),
		"nothing that is known":  "",
	} {
		if got := identify(strings.NewReader(head)); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func FuzzIdentify(f *testing.F) {
	f.Add([]byte("XFSB"))
	f.Add(make([]byte, 2000))
	f.Fuzz(func(t *testing.T, head []byte) {
		if identify(bytes.NewReader(head)) == "" {
			t.Error("nothing was said")
		}
	})
}
