package disks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/qemulet/qemulet/disks/injector"
)

// TestMain makes the test program its own injecting machine, like any program
// that uses Inject.
func TestMain(m *testing.M) {
	injector.Main()
	os.Exit(m.Run())
}

// injectOptions are those of this machine: emulated, and as a user who owns nothing.
func injectOptions(t testing.TB) InjectOptions {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a machine")
	}
	if err := addSelf(newCPIO(new(bytes.Buffer))); errors.Is(err, ErrDynamic) {
		t.Skip(err)
	}
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	return InjectOptions{Binary: qemu, Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}

// tree makes a directory with what a root file system has.
func tree(t testing.TB, more ...string) string {
	t.Helper()
	dir := t.TempDir()
	script := "cd " + dir + "; chmod 755 .; mkdir etc usr run mnt var; " + strings.Join(more, "; ")
	run(t, "sh", "-ec", script)
	return dir
}

// ext makes an ext2, ext3 or ext4 file system with the content of a directory.
func ext(t testing.TB, kind, dir string, size int64) string {
	t.Helper()
	path := sparse(t, filepath.Join(t.TempDir(), kind), size)
	run(t, "mke2fs", "-q", "-F", "-t", kind, "-d", dir, path)
	return path
}

// xfs makes one, with /etc and /usr.
func xfs(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	path := sparse(t, filepath.Join(dir, "xfs"), 320<<20)
	proto := filepath.Join(dir, "proto")
	text := "/\n0 0\nd--755 0 0\netc d--755 0 0\n$\nusr d--755 0 0\n$\n$\n"
	if err := os.WriteFile(proto, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.xfs", "-q", "-p", proto, path)
	return path
}

// partitioned makes a disk with these partitions; its first begins at 1 MiB.
func partitioned(t testing.TB, label string, parts ...string) string {
	t.Helper()
	script, at := "label: "+label+"\n", int64(1)
	path := filepath.Join(t.TempDir(), "disk")
	for _, part := range parts {
		st, err := os.Stat(part)
		if err != nil {
			t.Fatal(err)
		}
		mib := st.Size() >> 20
		script += fmt.Sprintf("start=%dMiB, size=%dMiB\n", at, mib)
		run(t, "dd", "status=none", "if="+part, "of="+path, "bs=1M", fmt.Sprintf("seek=%d", at), "conv=notrunc,sparse")
		at += mib
	}
	sparse(t, path, (at+1)<<20)
	cmd := exec.Command("sfdisk", "-q", path)
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v: %s", err, out)
	}
	return path
}

// part copies a partition out of a disk.
func part(t testing.TB, disk string, mib, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "part")
	run(t, "dd", "status=none", "if="+disk, "of="+path, "bs=1M", fmt.Sprintf("skip=%d", mib), fmt.Sprintf("count=%d", size>>20), "conv=sparse")
	sparse(t, path, size)
	return path
}

func openRW(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// debugfs asks e2fsprogs for what is in a file system.
func debugfs(t testing.TB, device, request string) string {
	t.Helper()
	return string(run(t, "debugfs", "-R", request, device))
}

// wantFile compares content, mode and owner as debugfs shows them.
func wantFile(t *testing.T, device, path, content, mode string, uid, gid int) {
	t.Helper()
	if got := debugfs(t, device, "cat "+path); got != content {
		t.Errorf("%s holds %.80q, want %.80q", path, got, content)
	}
	stat := strings.Join(strings.Fields(debugfs(t, device, "stat "+path)), " ")
	for _, want := range []string{"Type: regular", "Mode: " + mode, fmt.Sprintf("User: %d Group: %d", uid, gid)} {
		if !strings.Contains(stat, want) {
			t.Errorf("%s: debugfs says %s; want %s", path, stat, want)
		}
	}
}

// An overlay over an image, as a pod has one: EFI-like and boot partitions are
// passed over, directories are made, links stay inside, what is there is replaced.
func TestInjectOverlay(t *testing.T) {
	t.Parallel()
	o := injectOptions(t)
	const size = 48 << 20
	swap := sparse(t, filepath.Join(t.TempDir(), "swap"), 2<<20)
	run(t, "mkswap", "-q", swap)
	boot := ext(t, "ext4", t.TempDir(), 8<<20)
	root := ext(t, "ext4", tree(t, "ln -s /run var/run", "ln -s ../../../../../../tmp/x var/up", "ln -s /mnt/later var/later",
		"ln -s ../run/resolv.conf etc/resolv.conf", "echo old >etc/app.conf", "chmod 640 etc/app.conf", "chown 7:8 etc/app.conf", "mkdir -p tmp/x"), size)
	image := filepath.Join(t.TempDir(), "image.qcow2")
	run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", partitioned(t, "dos", swap, boot, root), image)
	before := run(t, "sha256sum", image)

	large := strings.Repeat("0123456789abcdef", 1<<16)
	overlay := filepath.Join(t.TempDir(), "root.qcow2")
	backing, _ := openFile(t, image)
	var got Injection
	err := CreateOverlay(overlay, Overlay{Backing: image, BackingFormat: QCow2, VirtualSize: 100 << 20, Fill: func(f *os.File) (err error) {
		got, err = Inject(t.Context(), InjectTarget{Disk: f, Format: QCow2, Backing: backing}, []InjectFile{
			{Path: "/etc/new/deep/secret", Data: []byte("s3cret\x00\n"), Mode: 0o400},
			{Path: "/etc/with blank/\"q' é\n", Data: []byte("odd name")},
			{Path: "/etc/app.conf", Data: []byte("new")},
			{Path: "/etc/resolv.conf", Data: []byte("nameserver")},
			{Path: "/var/run/x", Data: []byte("absolute link")},
			{Path: "/var/up/y", Data: []byte("link past the top")},
			{Path: "/var/later/z", Data: []byte("link into nothing")},
			{Path: "/usr/../usr/owned", Data: []byte("owned"), Mode: 0o755, UID: 1000, GID: 1001},
			{Path: "/large", Data: []byte(large)},
			{Path: "/empty"},
		}, o)
		return err
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got != (Injection{Partition: 3, Filesystem: "ext4"}) {
		t.Errorf("Inject says %+v", got)
	}
	if !bytes.Equal(run(t, "sha256sum", image), before) {
		t.Error("the image has changed")
	}
	run(t, "qemu-img", "check", "-q", overlay)
	raw := filepath.Join(t.TempDir(), "raw")
	run(t, "qemu-img", "convert", "-O", "raw", overlay, raw)
	device := part(t, raw, 1+2+8, size)
	run(t, "e2fsck", "-fn", device)
	wantFile(t, device, "/etc/new/deep/secret", "s3cret\x00\n", "0400", 0, 0)
	wantFile(t, device, "/etc/app.conf", "new", "0640", 0, 0)
	wantFile(t, device, "/etc/resolv.conf", "nameserver", "0644", 0, 0)
	wantFile(t, device, "/run/x", "absolute link", "0644", 0, 0)
	wantFile(t, device, "/tmp/x/y", "link past the top", "0644", 0, 0)
	wantFile(t, device, "/mnt/later/z", "link into nothing", "0644", 0, 0)
	wantFile(t, device, "/usr/owned", "owned", "0755", 1000, 1001)
	wantFile(t, device, "/large", large, "0644", 0, 0)
	wantFile(t, device, "/empty", "", "0644", 0, 0)
	if ls := debugfs(t, device, `ls -l "/etc/with blank"`); !strings.Contains(ls, `"q' \xc3\xa9\x0a`) {
		t.Errorf("odd name: %q", ls)
	}
	if dir := debugfs(t, device, "stat /etc/new"); !strings.Contains(dir, "Mode:  0755") {
		t.Errorf("a new directory is %s", dir)
	}
}

// A root file system of the kind that RHEL has, in a GPT.
func TestInjectXFS(t *testing.T) {
	t.Parallel()
	o := injectOptions(t)
	bios := sparse(t, filepath.Join(t.TempDir(), "bios"), 1<<20)
	disk := partitioned(t, "gpt", bios, xfs(t))
	got, err := Inject(t.Context(), InjectTarget{Disk: openRW(t, disk), Format: Raw},
		[]InjectFile{{Path: "/etc/deep/file", Data: []byte("written to xfs"), Mode: 0o640, UID: 5, GID: 6}}, o)
	if err != nil || got != (Injection{Partition: 2, Filesystem: "xfs"}) {
		t.Fatalf("%+v, %v", got, err)
	}
	device := part(t, disk, 2, 320<<20)
	run(t, "xfs_repair", "-n", device)
	inode := string(run(t, "xfs_db", "-r", "-c", "path /etc/deep/file", "-c", "print core.mode core.uid core.gid core.size", device))
	if want := "core.mode = 0100640\ncore.uid = 5\ncore.gid = 6\ncore.size = 14\n"; inode != want {
		t.Errorf("xfs_db says %q, want %q", inode, want)
	}
	data := string(run(t, "xfs_db", "-r", "-c", "path /etc/deep/file", "-c", "dblock 0", "-c", "type text", "-c", "print", device))
	if !strings.Contains(data, "written.to.xfs") {
		t.Errorf("xfs_db says\n%s", data)
	}
}

// A persistent root: a block device, behind the header, with an image that has no
// partitions and whose journal was not written back.
func TestInjectPersistentRoot(t *testing.T) {
	t.Parallel()
	o := injectOptions(t)
	raw := ext(t, "ext3", tree(t), 40<<20)
	const block = 5000
	writeJournal(t, raw, block)
	image := RootImage{Path: filepath.Join(t.TempDir(), "image"), VirtualSize: 40 << 20, Digest: [32]byte{1}}
	run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image.Path)
	path := sparse(t, filepath.Join(t.TempDir(), "disk"), 50<<20)
	var got Injection
	image.Fill = func(ctx context.Context, d RootDisk, f *os.File) (err error) {
		if state, _, _ := ReadRootHeader(readAt(t, path, 0, sector), image.Digest); state != RootFresh {
			t.Errorf("before the files are written the device is %v", state)
		}
		got, err = Inject(ctx, InjectTarget{Disk: f, Format: Raw, Offset: d.Offset, Length: d.Length},
			[]InjectFile{{Path: "/etc/motd", Data: []byte("persistent")}}, o)
		return err
	}
	if _, err := PrepareRoot(t.Context(), loopDevice(t, path), image); err != nil {
		t.Fatal(err)
	}
	if got != (Injection{Filesystem: "ext4"}) {
		t.Errorf("Inject says %+v", got)
	}
	device := filepath.Join(t.TempDir(), "part")
	if err := os.WriteFile(device, readAt(t, path, RootOffset, 40<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "e2fsck", "-fn", device)
	wantFile(t, device, "/etc/motd", "persistent", "0644", 0, 0)
	if got := readAt(t, device, block*1024, 4); string(got) != "JJJJ" {
		t.Errorf("the journal was not written back: block %d begins with %q", block, got)
	}
}

// writeJournal leaves a file system as a crash does: with a block that is in the
// journal only.
func writeJournal(t *testing.T, device string, block int) {
	t.Helper()
	data := filepath.Join(t.TempDir(), "block")
	if err := os.WriteFile(data, bytes.Repeat([]byte("J"), 1024), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("debugfs", "-w", "-f", "-", device)
	cmd.Stdin = strings.NewReader(fmt.Sprintf("journal_open\njournal_write -b %d %s\njournal_close\n", block, data))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("debugfs: %v: %s", err, out)
	}
	if !strings.Contains(string(run(t, "dumpe2fs", "-h", device)), "needs_recovery") {
		t.Fatal("the journal is clean")
	}
}

// What a disk has instead of a root file system is named.
func TestInjectNoRoot(t *testing.T) {
	t.Parallel()
	o := injectOptions(t)
	swap := sparse(t, filepath.Join(t.TempDir(), "swap"), 1<<20)
	run(t, "mkswap", "-q", swap)
	lvm := sparse(t, filepath.Join(t.TempDir(), "lvm"), 1<<20)
	writeAt(t, lvm, []byte("LABELONE"), 512)
	broken := sparse(t, filepath.Join(t.TempDir(), "broken"), 1<<20)
	writeAt(t, broken, []byte("XFSB"), 0)
	disk := partitioned(t, "gpt", swap, lvm, ext(t, "ext4", t.TempDir(), 4<<20), broken)
	_, err := Inject(t.Context(), InjectTarget{Disk: openRW(t, disk), Format: Raw}, []InjectFile{{Path: "/etc/x"}}, o)
	if !errors.Is(err, ErrNoRootFilesystem) {
		t.Fatalf("Inject says %v", err)
	}
	for _, want := range []string{
		"partition 1: swap, partition 2: an LVM physical volume, partition 3: ext4 without a system's directories, partition 4: xfs that cannot be mounted (it is damaged",
		"; needed is ext2, ext3, ext4 or xfs with /etc and one of /usr and /bin",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error is %q, want %q", err, want)
		}
	}
}

// The machine's own words reach the error: here a file in the way, and a disk that
// is full.
func TestInjectFails(t *testing.T) {
	t.Parallel()
	o := injectOptions(t)
	disk := ext(t, "ext2", tree(t, "echo >etc/file"), 4<<20)
	for name, c := range map[string]struct {
		file InjectFile
		want string
	}{
		"file as a directory": {InjectFile{Path: "/etc/file/x"}, "file /etc/file/x: /etc/file is not a directory in the image"},
		"full":                {InjectFile{Path: "/etc/big", Data: make([]byte, 8<<20)}, "no space left on device"},
	} {
		_, err := Inject(t.Context(), InjectTarget{Disk: openRW(t, disk), Format: Raw}, []InjectFile{c.file}, o)
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, ErrNoRootFilesystem) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInjectRefuses(t *testing.T) {
	for want, files := range map[string][]InjectFile{
		`path "etc/x": needed is an absolute path`:     {{Path: "etc/x"}},
		`path "": needed is`:                           {{}},
		`path "/etc/": needed is`:                      {{Path: "/etc/"}},
		`path "/a\x00b": needed is`:                    {{Path: "/a\x00b"}},
		"mode u-----":                                  {{Path: "/x", Mode: fs.ModeSetuid}},
		"owner -1:0: accepted are 0 to 4294967294":     {{Path: "/x", UID: -1}},
		"accepted are 10000 files with 67108864 bytes": {{Path: "/x", Data: make([]byte, MaxInjectBytes+1)}},
	} {
		_, err := Inject(t.Context(), InjectTarget{}, files, InjectOptions{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
}

// program is a script in the place of QEMU.
func program(t *testing.T, script string) InjectOptions {
	t.Helper()
	o := injectOptions(t)
	o.Credential = nil
	o.Binary = filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(o.Binary, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestInjectMachineDies(t *testing.T) {
	target := InjectTarget{Disk: openRW(t, sparse(t, filepath.Join(t.TempDir(), "disk"), 1<<20)), Format: Raw}
	for script, want := range map[string]string{
		"echo Kernel panic":                    "the machine ended without an answer; its console said: Kernel panic",
		"echo no such accelerator >&2; exit 1": "exit status 1: no such accelerator",
		"echo '{\"Error\": \"ca' >&5":          "without an answer",
	} {
		_, err := Inject(t.Context(), target, []InjectFile{{Path: "/x"}}, program(t, script))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want %q", script, err, want)
		}
	}
}

// A cancelled injection takes its machine with it, and says why it was cancelled.
func TestInjectCancelled(t *testing.T) {
	target := InjectTarget{Disk: openRW(t, sparse(t, filepath.Join(t.TempDir(), "disk"), 1<<20)), Format: Raw}
	started := filepath.Join(t.TempDir(), "started")
	o := program(t, "echo $$ >"+started+".new; mv "+started+".new "+started+"; exec sleep 1000")
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the pod is gone")
	go func() { awaitFile(started); cancel(reason) }()
	if _, err := Inject(ctx, target, []InjectFile{{Path: "/x"}}, o); !errors.Is(err, reason) {
		t.Errorf("Inject says %v", err)
	}
	pid, err := os.ReadFile(started)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/proc/" + strings.TrimSpace(string(pid))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("process %s lives: %v", pid, err)
	}
}

// What a failed Fill leaves is no disk.
func TestFillFails(t *testing.T) {
	reason := errors.New("no kernel")
	image := rootImage(t)
	dir := t.TempDir()
	err := CreateOverlay(filepath.Join(dir, "root.qcow2"), Overlay{Backing: image.Path, BackingFormat: QCow2, VirtualSize: 10 << 20,
		Fill: func(*os.File) error { return reason }})
	if left, _ := os.ReadDir(dir); !errors.Is(err, reason) || len(left) != 0 {
		t.Errorf("CreateOverlay says %v and leaves %v", err, left)
	}
	path := sparse(t, filepath.Join(dir, "disk"), 11<<20)
	failing := image
	failing.Fill = func(context.Context, RootDisk, *os.File) error { return reason }
	if _, err := PrepareRoot(t.Context(), path, failing); !errors.Is(err, reason) {
		t.Errorf("PrepareRoot says %v", err)
	}
	if state, _, err := ReadRootHeader(readAt(t, path, 0, 512), image.Digest); state != RootFresh || err != nil {
		t.Errorf("the device is %v, %v", state, err)
	}
	// Filled once: a disk that is there is not touched.
	if _, err := PrepareRoot(t.Context(), path, image); err != nil {
		t.Fatal(err)
	}
	if _, err := PrepareRoot(t.Context(), path, failing); err != nil {
		t.Errorf("PrepareRoot fills a disk again: %v", err)
	}
}

func BenchmarkInject(b *testing.B) {
	o := injectOptions(b)
	for name, disk := range map[string]string{"ext4": ext(b, "ext4", tree(b), 48<<20), "xfs": xfs(b)} {
		b.Run(name, func(b *testing.B) {
			target := InjectTarget{Disk: openRW(b, disk), Format: Raw}
			for b.Loop() {
				if _, err := Inject(b.Context(), target, []InjectFile{{Path: "/etc/x", Data: []byte("x")}}, o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestInjectOverRawImage(t *testing.T) {
	o := injectOptions(t)
	const size = 24 << 20
	image := ext(t, "ext4", tree(t), size)
	overlay := filepath.Join(t.TempDir(), "root.qcow2")
	backing, _ := openFile(t, image)
	err := CreateOverlay(overlay, Overlay{Backing: image, BackingFormat: Raw, VirtualSize: size, Fill: func(f *os.File) error {
		target := InjectTarget{Disk: f, Format: QCow2, Backing: backing, BackingFormat: Raw}
		_, err := Inject(t.Context(), target, []InjectFile{{Path: "/etc/new", Data: []byte("new")}}, o)
		return err
	}})
	if err != nil {
		t.Fatal(err)
	}
	raw := filepath.Join(t.TempDir(), "raw")
	run(t, "qemu-img", "convert", "-O", "raw", overlay, raw)
	wantFile(t, raw, "/etc/new", "new", "0644", 0, 0)
}
