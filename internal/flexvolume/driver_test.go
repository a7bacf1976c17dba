package flexvolume

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// kubelet calls the driver's binary as kubelet does.
type kubelet struct{ driver string }

// inNamespace runs a test in a mount namespace of its own, which ends with it.
func inNamespace(t *testing.T, test func(*testing.T, kubelet)) {
	t.Helper()
	driver := filepath.Join(t.TempDir(), "flexvolume_driver")
	if out, err := exec.Command("go", "build", "-o", driver, "../../cmd/flexvolume_driver").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked: the thread, and its namespace, end with this
		// goroutine. What it starts is born in the namespace.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err != nil {
			t.Errorf("a mount namespace is needed, as root: %v", err)
			return
		}
		test(t, kubelet{driver})
	}()
	<-done
}

// call runs the driver; its answer is one line of JSON, whatever happens.
func (k kubelet) call(t *testing.T, args ...string) map[string]any {
	t.Helper()
	out, err := exec.Command(k.driver, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%q: %v: %s", args, err, out)
	}
	var reply map[string]any
	if err := json.Unmarshal(out, &reply); err != nil || strings.Count(string(out), "\n") != 1 || !strings.HasSuffix(string(out), "\n") {
		t.Errorf("%q: %v: %q", args, err, out)
	}
	return reply
}

func (k kubelet) succeeds(t *testing.T, args ...string) {
	t.Helper()
	if reply := k.call(t, args...); reply["status"] != StatusSuccess {
		t.Errorf("%q: %v", args, reply)
	}
}

func readOptions(t *testing.T, dir string) map[string]string {
	t.Helper()
	path := filepath.Join(dir, DataFile)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return nil
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
		t.Errorf("%s: mode %v, %v; want 0600", path, st.Mode(), err)
	}
	var o map[string]string
	if err := json.Unmarshal(data, &o); err != nil {
		t.Error(err)
	}
	return o
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// A volume's whole life, with every call made twice, as kubelet does after a
// timeout.
func TestVolumeLife(t *testing.T) {
	inNamespace(t, func(t *testing.T, k kubelet) {
		pods := t.TempDir()
		dir := filepath.Join(PodDir(pods, "uid"), "data")
		const given = `{"type":"qcow2","capacity":"10MB","kubernetes.io/readwrite":"rw","kubernetes.io/fsType":""}`
		k.succeeds(t, "init")
		k.succeeds(t, "mount", dir, given)
		first := readOptions(t, dir)
		if !uuidForm.MatchString(first["uuid"]) || first["capacity"] != "10MB" || first["kubernetes.io/readwrite"] != "rw" {
			t.Errorf("options are %v", first)
		}
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("mode %v, %v; want 0700", st.Mode(), err)
		}
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err != nil || fs.Type != unix.TMPFS_MAGIC {
			t.Errorf("file system %x, %v; want a tmpfs", fs.Type, err)
		}
		k.succeeds(t, "mount", dir, strings.Replace(given, "10MB", "20MB", 1))
		second := readOptions(t, dir)
		if second["uuid"] != first["uuid"] || second["capacity"] != "20MB" {
			t.Errorf("options are %v, were %v", second, first)
		}
		volumes, err := List(PodDir(pods, "uid"))
		if err != nil || len(volumes) != 1 || volumes[0] != (Volume{Name: "data", Dir: dir, UUID: first["uuid"], Type: QCow2, Part: 1, Capacity: "20MB"}) {
			t.Errorf("%+v, %v", volumes, err)
		}
		// Without the tmpfs, as a daemon in another namespace sees it, or all
		// see it after a reboot.
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
		if below := readOptions(t, dir); below["uuid"] != first["uuid"] {
			t.Errorf("below are %v", below)
		}
		k.succeeds(t, "mount", dir, given)
		if again := readOptions(t, dir); again["uuid"] != first["uuid"] {
			t.Errorf("after a reboot: %v", again)
		}
		for range 2 {
			k.succeeds(t, "unmount", dir)
			if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("after unmount: %v", err)
			}
		}
	})
}

// Something that is still in the directory does not hold up the pod's end; nor
// does a second tmpfs on top of the first.
func TestUnmountBusy(t *testing.T) {
	inNamespace(t, func(t *testing.T, k kubelet) {
		dir := filepath.Join(t.TempDir(), "data")
		k.succeeds(t, "mount", dir, `{"type":"qcow2"}`)
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			t.Error(err)
		}
		f, err := os.Create(filepath.Join(dir, "open"))
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		k.succeeds(t, "unmount", dir)
		if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after unmount: %v", err)
		}
	})
}

// A link in the directory's place is not followed.
func TestUnmountLink(t *testing.T) {
	inNamespace(t, func(t *testing.T, k kubelet) {
		target := t.TempDir()
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(target, link); err != nil {
			t.Error(err)
		}
		if reply := k.call(t, "unmount", link); reply["status"] != StatusFailure {
			t.Errorf("%v", reply)
		}
		if _, err := os.Stat(target); err != nil {
			t.Error(err)
		}
	})
}

func TestCalls(t *testing.T) {
	d := Driver{NewUUID: func() string { return "u" }}
	for _, c := range []struct {
		args []string
		line string
	}{
		{[]string{"init"}, `{"status":"Success","capabilities":{"attach":false,"selinuxRelabel":false,"fsGroup":false}}`},
		{[]string{"attach", "{}", "node"}, `{"status":"Success"}`},
		{[]string{"detach", "dev", "node"}, `{"status":"Success"}`},
		{[]string{"waitforattach", "/dev/x", "{}"}, `{"status":"Success","device":"/dev/x"}`},
		{[]string{"waitforattach", "", "{}"}, `{"status":"Success","device":""}`},
		{[]string{"isattached", "{}", "node"}, `{"status":"Success","attached":true}`},
		{[]string{"getvolumename", "{}"}, `{"status":"Not supported"}`},
		{[]string{"mountdevice", "a", "b", "c"}, `{"status":"Not supported"}`},
		{[]string{"unmountdevice", "a"}, `{"status":"Not supported"}`},
		{[]string{"init", "x"}, `{"status":"Failure","message":"flexvolume driver: init: 1 arguments given, accepted are 0"}`},
		{[]string{"mount", "/a/b/c"}, `{"status":"Failure","message":"flexvolume driver: mount: 1 arguments given, accepted are 2"}`},
		{nil, `{"status":"Failure","message":"flexvolume driver: no operation given"}`},
	} {
		if got := string(d.Call(c.args).Line()); got != c.line+"\n" {
			t.Errorf("%q: %s, want %s", c.args, got, c.line)
		}
	}
}

// What is refused is refused before anything is made or removed, and no option's
// value is in a message.
func TestMountRefuses(t *testing.T) {
	d := Driver{NewUUID: func() string { return "u" }}
	for _, args := range [][]string{
		{"mount", "relative/dir", "{}"}, {"mount", "/", "{}"}, {"mount", "/etc", "{}"}, {"mount", "/a/../etc/x/y", "{}"}, {"mount", "", "{}"},
		{"unmount", "relative/dir"}, {"unmount", "/"}, {"unmount", "/etc"}, {"unmount", "/nonexistent/../etc/x"}, {"unmount", ""},
	} {
		if r := d.Call(args); r.Status != StatusFailure || !strings.Contains(r.Message, `"`+args[1]+`"`) {
			t.Errorf("%q: %+v", args, r)
		}
	}
	dir := filepath.Join(t.TempDir(), "data")
	for _, options := range []string{"", "null", "[]", `"hush"`, `{"secret":"hush`, `{"secret":"hush"}x`} {
		if r := d.Call([]string{"mount", dir, options}); r.Status != StatusFailure || strings.Contains(r.Message, "hush") {
			t.Errorf("%q: %+v", options, r)
		}
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left is %v", err)
	}
}

// A mount that fails says so to kubelet, and is tried again.
func TestMountUnprivileged(t *testing.T) {
	inNamespace(t, func(t *testing.T, k kubelet) {
		parent, err := os.MkdirTemp("", "flex")
		if err != nil {
			t.Error(err)
			return
		}
		defer os.RemoveAll(parent)
		if err := errors.Join(os.Chmod(parent, 0o777), os.Chmod(filepath.Dir(k.driver), 0o755), os.Chmod(filepath.Dir(filepath.Dir(k.driver)), 0o755)); err != nil {
			t.Error(err)
		}
		dir := filepath.Join(parent, "data")
		cmd := exec.Command(k.driver, "mount", dir, `{"type":"qcow2"}`)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.Output()
		if err != nil || !strings.Contains(string(out), `"Failure"`) || !strings.Contains(string(out), "mount tmpfs") {
			t.Errorf("%v: %s", err, out)
		}
		k.succeeds(t, "mount", dir, `{"type":"qcow2"}`)
		k.succeeds(t, "unmount", dir)
	})
}
