package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/qemulet/qemulet/e2e/node"
)

// docs/security.md promises these.

// A guest that breaks out of QEMU finds itself without anything: another user, no capabilities, a sandbox, and only the files
// of its own VM.
func TestSecurityOfQEMU(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "confined", nil)
	vm.Run(t)
	qemus := n.QEMUs()
	if len(qemus) != 1 {
		t.Fatalf("%d QEMUs run", len(qemus))
	}
	proc := fmt.Sprintf("/proc/%d", qemus[0].PID)
	status := read(t, proc, "status")
	matches(t, "the user", status, `(?m)^Uid:(\t[1-9]\d*){4}$`)
	matches(t, "the group", status, `(?m)^Gid:(\t[1-9]\d*){4}$`)
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
		matches(t, set, status, `(?m)^`+set+`:\t0+$`)
	}
	matches(t, "privileges", status, `(?m)^NoNewPrivs:\t1$`)
	matches(t, "the sandbox", status, `(?m)^Seccomp:\t2$`)
	matches(t, "the sandbox's rules", read(t, proc, "cmdline"), `-sandbox\x00on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny\x00`)
	matches(t, "cores", read(t, proc, "limits"), `(?m)^Max core file size +0 +0 `)
	if env := read(t, proc, "environ"); env != "LC_ALL=C\x00" {
		t.Errorf("environment %q", env)
	}
	wantOwnFiles(t, proc, vm.Pod.Metadata.Uid)
	vm.Remove(t)
	n.NoLeaks(t)
}

// What a QEMU may have open: its VM's files, its image without writing, and what has no name.
var (
	ownFiles    = `^(/dev/null|/dev/net/tun|/dev/vhost-net|/dev/kvm|(socket|pipe):.*|anon_inode:.*|/memfd:.*|.*/run/vm/[0-9a-f]{12}/.*)$`
	imageOfNode = regexp.MustCompile(`/images/data/[0-9a-f]{64}$`)
)

func wantOwnFiles(t *testing.T, proc, uid string) {
	t.Helper()
	own := regexp.MustCompile(ownFiles)
	fds, err := os.ReadDir(proc + "/fd")
	check(t, err)
	images := 0
	for _, fd := range fds {
		link, err := os.Readlink(filepath.Join(proc, "fd", fd.Name()))
		check(t, err)
		switch {
		case imageOfNode.MatchString(link):
			images++
			matches(t, "the image's descriptor", read(t, proc, "fdinfo/"+fd.Name()), `(?m)^flags:\t\d*0$`) // O_RDONLY
		case own.MatchString(link), strings.Contains(link, "/pods/"+uid+"/"):
		default:
			t.Errorf("descriptor %s is %s", fd.Name(), link)
		}
	}
	if images == 0 {
		t.Error("the image is not open")
	}
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, name))
	check(t, err)
	return string(raw)
}

// Nobody but root has anything of the daemon's and of its VMs: no file can be read by others, and no socket connected to.
func TestSecurityOfFiles(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "private", nil)
	vm.Run(t)
	for path, want := range map[string]fs.FileMode{
		"run/cri.sock":               fs.ModeSocket | 0o660,
		"run/api.sock":               fs.ModeSocket | 0o660,
		"run/cri.sock.changes":       0o600,
		"run/vm":                     fs.ModeDir | 0o711,
		"run/vm/*":                   fs.ModeDir | 0o700,
		"run/vm/*/*.sock":            fs.ModeSocket | 0o600,
		"run/vm/*/console.in":        fs.ModeNamedPipe | 0o600,
		"run/vm/*/qemu.log":          0o600,
		"state/qemulet.db":           0o600,
		"state/images":               fs.ModeDir | 0o700,
		"state/images/data/*":        0o400,
		"state/pods":                 fs.ModeDir | 0o711,
		"state/pods/*":               fs.ModeDir | 0o700,
		"state/pods/*/*.qcow2":       0o600,
		"state/pods/*/*/seed.iso":    0o600,
		"state/pods/*/*/config.json": 0o600,
		"state/pods/*/*/console.log": 0o600,
	} {
		found, err := filepath.Glob(filepath.Join(n.Dir, path))
		check(t, err)
		if len(found) == 0 {
			t.Errorf("there is no %s", path)
		}
		for _, file := range found {
			info, err := os.Lstat(file)
			check(t, err)
			if info.Mode() != want {
				t.Errorf("%s has the mode %v, expected %v", file, info.Mode(), want)
			}
		}
	}
	vm.Remove(t)
	n.NoLeaks(t)
}
