package disks

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const stranger = 65534

// sharedDir is a directory that only root can walk to, with a file of root's.
func sharedDir(t *testing.T, below string) string {
	t.Helper()
	if below == "" {
		below = t.TempDir()
	}
	if err := os.Chmod(below, 0o700); err != nil {
		t.Fatalf("root is needed: %v", err)
	}
	dir := filepath.Join(below, "shared")
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("of root"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// as runs a shell without privileges in the shared directory, descriptor 3.
func (s Share) as(t *testing.T, uid int, script string) (string, error) {
	t.Helper()
	cmd := exec.Command("sh", "-c", "cd /proc/self/fd/3 && "+script)
	cmd.ExtraFiles = []*os.File{s.File}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func openShared(t *testing.T, path string, o ShareOptions) Share {
	t.Helper()
	s, err := OpenShare(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.File.Close() })
	return s
}

func owner(t *testing.T, path string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Error(err)
	}
	return fmt.Sprintf("%d:%d", st.Uid, st.Gid)
}

// Where owners can be mapped, a stranger reads and writes root's files as root
// would, and no owner changes.
func TestShareMapped(t *testing.T) {
	for _, uid := range []int{1, 1000, stranger} {
		dir := sharedDir(t, "")
		s := openShared(t, dir, ShareOptions{UID: uid, GID: uid})
		if !s.Mapped || s.Note != "" {
			t.Fatalf("%+v: is %s on a file system that maps owners (ext4, xfs, btrfs, tmpfs since Linux 6.3)?", s, dir)
		}
		out, err := s.as(t, uid, "cat file && echo new >new && mkdir sub/x && chmod 700 sub && mv file sub/x/ && echo more >>sub/x/file && stat -c %u sub")
		if want := "of root" + fmt.Sprint(uid); err != nil || out != want {
			t.Errorf("%d: %v: %q, want %q", uid, err, out, want)
		}
		for _, name := range []string{"", "new", "sub", "sub/x", "sub/x/file"} {
			if got := owner(t, filepath.Join(dir, name)); got != "0:0" {
				t.Errorf("%d: %q belongs to %s", uid, name, got)
			}
		}
	}
}

// Others stay themselves, and the descriptor's mount is the only trace. Seen from a
// mount namespace of its own: tests that run beside this one mount things too.
func TestShareMappedOthers(t *testing.T) {
	inMountNamespace(t, func() {
		dir := sharedDir(t, "")
		if err := errors.Join(os.Chown(filepath.Join(dir, "sub"), 1234, 2345), os.Chmod(filepath.Join(dir, "sub"), 0o700)); err != nil {
			t.Error(err)
			return
		}
		before, err := os.ReadFile("/proc/thread-self/mounts")
		if err != nil {
			t.Error(err)
			return
		}
		s := openShared(t, dir, ShareOptions{UID: stranger, GID: stranger})
		if out, err := s.as(t, stranger, "stat -c %u:%g sub && ls sub"); err == nil || !strings.HasPrefix(out, "1234:2345\n") {
			t.Errorf("%v: %q", err, out)
		}
		if after, err := os.ReadFile("/proc/thread-self/mounts"); err != nil || string(after) != string(before) {
			t.Errorf("%v: mounts were\n%s, are\n%s", err, before, after)
		}
	})
}

func TestShareReadOnly(t *testing.T) {
	dir := sharedDir(t, "")
	for _, o := range []ShareOptions{
		{UID: stranger, GID: stranger, ReadOnly: true},
		{UID: stranger, GID: stranger, ReadOnly: true, ChownAll: true},
	} {
		s := openShared(t, dir, o)
		if out, err := s.as(t, stranger, "cat file"); err != nil || out != "of root" {
			t.Errorf("%v: %q", err, out)
		}
		if out, err := s.as(t, stranger, "echo x >new"); err == nil || !strings.Contains(out, "Read-only") {
			t.Errorf("%v: %q", err, out)
		}
	}
}

// Where owners cannot be mapped, the directory is given away, and what is in it is
// not; the pod's log says so.
func TestShareUnmapped(t *testing.T) {
	inMountNamespace(t, func() {
		below := t.TempDir()
		// Linux maps no owners in a ramfs.
		if err := unix.Mount("ramfs", below, "ramfs", 0, ""); err != nil {
			t.Error(err)
			return
		}
		defer unix.Unmount(below, unix.MNT_DETACH)
		dir := sharedDir(t, below)
		o := ShareOptions{UID: stranger, GID: stranger}
		readOnly := o
		readOnly.ReadOnly = true
		if s := openShared(t, dir, readOnly); s.Mapped || s.Note == "" || owner(t, dir) != "0:0" {
			t.Errorf("%+v, owner %s", s, owner(t, dir))
		}
		s := openShared(t, dir, o)
		if s.Mapped || !strings.Contains(s.Note, dir) || !strings.Contains(s.Note, "user 65534") {
			t.Errorf("%+v", s)
		}
		if out, err := s.as(t, stranger, "echo x >new && ! cat file 2>/dev/null"); err != nil {
			t.Errorf("%v: %q", err, out)
		}
		if owner(t, dir) != "65534:65534" || owner(t, filepath.Join(dir, "file")) != "0:0" {
			t.Errorf("owners are %s and %s", owner(t, dir), owner(t, filepath.Join(dir, "file")))
		}
		if s := openShared(t, dir, o); s.Mapped || s.Note != "" {
			t.Errorf("the second time: %+v", s)
		}
	})
}

func inMountNamespace(t *testing.T, test func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked: the thread, and its namespace, end with this goroutine.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err != nil {
			t.Errorf("a mount namespace is needed, as root: %v", err)
			return
		}
		test()
	}()
	<-done
}

// What a link leads to is not given away.
func TestShareChownAll(t *testing.T) {
	dir := sharedDir(t, "")
	outside := filepath.Join(t.TempDir(), "outside")
	if err := errors.Join(os.WriteFile(outside, nil, 0o600), os.Symlink(outside, filepath.Join(dir, "sub", "link"))); err != nil {
		t.Fatal(err)
	}
	s := openShared(t, dir, ShareOptions{UID: stranger, GID: stranger, ChownAll: true})
	if out, err := s.as(t, stranger, "cat file && echo x >>sub/new"); err != nil || s.Mapped {
		t.Errorf("%v: %q, %+v", err, out, s)
	}
	for name, want := range map[string]string{"": "65534:65534", "file": "65534:65534", "sub": "65534:65534", "sub/link": "65534:65534"} {
		if got := owner(t, filepath.Join(dir, name)); got != want {
			t.Errorf("%q belongs to %s", name, got)
		}
	}
	if got := owner(t, outside); got != "0:0" {
		t.Errorf("outside belongs to %s", got)
	}
}

func TestShareRefuses(t *testing.T) {
	dir := sharedDir(t, "")
	o := ShareOptions{UID: stranger, GID: stranger}
	for path, want := range map[string]error{
		filepath.Join(dir, "none"): fs.ErrNotExist,
		filepath.Join(dir, "file"): unix.ENOTDIR,
	} {
		if s, err := OpenShare(path, o); !errors.Is(err, want) || !strings.Contains(err.Error(), path) || s.File != nil {
			t.Errorf("%s: %+v, %v", path, s, err)
		}
	}
	for _, o := range []ShareOptions{{UID: 7}, {UID: -1, GID: 7}, {UID: 7, GID: -1}} {
		if _, err := OpenShare(dir, o); err == nil || !strings.Contains(err.Error(), "unprivileged") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// Root needs nothing to be done for it.
func TestShareOfRoot(t *testing.T) {
	dir := sharedDir(t, "")
	if s := openShared(t, dir, ShareOptions{}); s.Mapped || s.Note != "" {
		t.Errorf("%+v", s)
	}
	s := openShared(t, dir, ShareOptions{ReadOnly: true})
	if err := os.WriteFile(fmt.Sprintf("/proc/self/fd/%d/new", s.File.Fd()), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing to a read-only share: %v", err)
	}
	if got := owner(t, dir); got != "0:0" {
		t.Errorf("it belongs to %s", got)
	}
}

func BenchmarkOpenShare(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		s, err := OpenShare(dir, ShareOptions{UID: stranger, GID: stranger})
		if err != nil {
			b.Fatal(err)
		}
		s.File.Close()
	}
}
