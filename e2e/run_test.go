package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qemulet/qemulet/e2e/node"
)

// machine is a machine without a cluster: no daemon, no CNI configuration, and a person with a terminal.
type machine struct {
	*node.Node
	settings []string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	t.Parallel()
	n := node.New(t, node.Options{NoCNI: true})
	m := &machine{Node: n, settings: []string{"--accel=tcg", "--cni-bin-dir=/usr/lib/cni"}}
	for flag, dir := range map[string]string{"run-dir": "run", "state-dir": "state", "cni-conf-dir": "cni", "netns-dir": "netns", "image-translation-dir": "images.d"} {
		m.settings = append(m.settings, "--"+flag+"="+filepath.Join(n.Dir, dir))
	}
	n.Web.Guest(t, "tiny", "tiny")
	// What any run leaves: its records, without a pod.
	if out, code := m.do(t, "run", m.manifest(t, "first", "nosuch", "")); code != 1 {
		t.Fatalf("exit code %d: %s", code, out)
	}
	n.Mark(t)
	return m
}

// manifest writes a pod with the given image; more is added to its spec.
func (m *machine) manifest(t *testing.T, name, image, more string) string {
	t.Helper()
	file := filepath.Join(m.Dir, name+".yaml")
	check(t, os.WriteFile(file, []byte(pod(name, image, more)), 0o644))
	return file
}

func pod(name, image, more string) string {
	if !strings.Contains(more, "terminationGracePeriodSeconds") {
		more += "  terminationGracePeriodSeconds: 20\n"
	}
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata:
  name: %s
  annotations:
    kubernetes.io/target-runtime: virtlet.cloud
    VirtletDiskDriver: virtio
spec:
  containers:
  - name: vm
    image: virtlet.cloud/%s
    tty: true
    stdin: true
    resources: {limits: {memory: 96Mi}}
%s`, name, image, more)
}

func (m *machine) argv(t *testing.T, command string, args ...string) []string {
	argv := []string{"nsenter", "--net=/run/netns/" + m.Netns(), node.Binary(t, "qemulet"), command}
	return append(append(argv, m.settings...), args...)
}

func (m *machine) command(t *testing.T, command string, args ...string) *exec.Cmd {
	argv := m.argv(t, command, args...)
	c := exec.CommandContext(seconds(t, 120), argv[0], argv[1:]...)
	// A session of its own has no terminal, also when the tests were started in one.
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return c
}

// do runs a command to its end and returns all it said.
func (m *machine) do(t *testing.T, command string, args ...string) (string, int) {
	t.Helper()
	c := m.command(t, command, args...)
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), c.ProcessState.ExitCode()
}

// must is do for what has to succeed.
func (m *machine) must(t *testing.T, command string, args ...string) string {
	t.Helper()
	out, code := m.do(t, command, args...)
	if code != 0 {
		t.Errorf("%s %v ends with %d: %s", command, args, code, out)
	}
	return out
}

// refused is do for what has to fail with certain words.
func (m *machine) refused(t *testing.T, words []string, command string, args ...string) {
	t.Helper()
	out, code := m.do(t, command, args...)
	if code != 1 {
		t.Errorf("%s %v ends with %d: %s", command, args, code, out)
	}
	mentions(t, out, words...)
}

// terminal runs a command in a terminal, which tells the exit code and its own state at the end.
func (m *machine) terminal(t *testing.T, command string, args ...string) *node.Console {
	t.Helper()
	script := `trap : INT; "$@"; echo "code=$?"; stty -a | grep -wo -e '-\?icanon' -e '-\?echo'`
	return node.InTerminal(t, nil, append([]string{"sh", "-c", script, "sh"}, m.argv(t, command, args...)...)...)
}

// ends expects the exit code, and a terminal that is as before.
func ends(t *testing.T, c *node.Console, code int) {
	t.Helper()
	c.Expect(fmt.Sprintf(`code=%d\nicanon\necho\n`, code), 40*time.Second)
	c.Wait(5 * time.Second)
}

// cgroups returns the control groups of the machine's VMs.
func (m *machine) cgroups(t *testing.T) (dirs []string) {
	t.Helper()
	for _, q := range m.QEMUs() {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", q.PID))
		check(t, err)
		for _, path := range regexp.MustCompile(`(?m)^\d+:.*:(/.*qemulet.*)$`).FindAllStringSubmatch(string(raw), -1) {
			for _, top := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
				found, _ := filepath.Glob(top + path[1])
				dirs = append(dirs, found...)
			}
		}
	}
	if len(dirs) == 0 {
		t.Error("the VM is in no control group")
	}
	return dirs
}

// nothingLeft checks that only the image is.
func (m *machine) nothingLeft(t *testing.T, cgroups ...string) {
	t.Helper()
	m.NoLeaks(t)
	for _, dir := range append(cgroups, filepath.Join(m.Dir, "state", "logs")) {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("left behind: %s", dir)
		}
	}
}

const ready = `@@GUEST ready `

// A person at the console, and others who look on.
func TestRunConsole(t *testing.T) {
	m := newMachine(t)
	yaml := m.manifest(t, "web", "tiny", "  nodeSelector: {extraRuntime: virtlet}\n")
	c := m.terminal(t, "run", yaml)
	c.Expect(`note: no CNI configuration in .*: pods are connected to the bridge qemulet0\n`, 10*time.Second)
	c.Expect(`note: spec.nodeSelector is not applicable`, 10*time.Second)
	c.Expect(`pulled virtlet.cloud/tiny\npod default/web has the address 10\.77\.\d+\.\d+\nthis is the console of web; Ctrl-\] leaves it\n`, 20*time.Second)
	c.Expect(`^\[    0.000000\] Linux version `, node.BootLimit)
	c.Expect(ready+`.*hostname=web`, node.BootLimit)
	if got := c.Command("hostname"); got != "web" {
		t.Errorf("the console answers %q", got)
	}
	cgroups := m.cgroups(t)

	c.Send("\x1d")
	c.Expect(`\ndetached: left the console of web, which runs on; Enter returns to it, Ctrl-C ends the pod\n`, 5*time.Second)
	c.Send("\x04\x1d\n") // neither Ctrl-D nor Ctrl-] is in the way of returning
	if got := c.Command("echo ba''ck"); got != "back" {
		t.Errorf("after the return the console answers %q", got)
	}

	a, b := m.terminal(t, "attach", "web"), m.terminal(t, "attach", "default/web")
	a.Expect(`attached to the console of web; Ctrl-\] leaves it`, 5*time.Second)
	b.Expect(`attached to the console`, 5*time.Second)
	a.Command("true")
	a.Send("echo from''-a\n")
	b.Expect(`from-a\n`, 5*time.Second)
	c.Expect(`from-a\n`, 5*time.Second)
	a.Send("\x1d")
	a.Expect(`\ndetached: left the console of web, which runs on\n`, 5*time.Second)
	ends(t, a, 0)

	logs := m.terminal(t, "logs", "-f", "web")
	logs.Expect(`Linux version`, 5*time.Second)
	logs.Expect(`from-a\n`, 5*time.Second)
	mentions(t, m.must(t, "logs", "--timestamps", "web"), "Z [    0.000000] Linux version", "from-a")
	mentions(t, m.must(t, "ps"), "default", "web", "running", "10.77.", "virtlet.cloud/tiny")
	m.refused(t, []string{"pod default/web exists already", "qemulet attach web", "qemulet rm --force web"}, "run", yaml)
	m.refused(t, []string{`runs: `, "qemulet stop web"}, "rm", "web")
	m.refused(t, []string{`pod "nosuch" is not there`, "qemulet ps"}, "attach", "nosuch")
	mentions(t, func() string { out, _ := m.do(t, "run", "--accel=kvm", yaml); return out }(), `the daemon that runs has accel "tcg": "kvm", from the flag --accel, has no effect`)

	c.Send("\x1d")
	c.Expect(`detached`, 5*time.Second)
	c.Send("\x03")
	c.Expect(`powering web off \(at most 20s\); Ctrl-C again ends it by force\n`, 5*time.Second)
	c.Expect(`reboot: Power down\n+web: the guest powered off when asked to \(Completed, exit code 0\)\n`, 20*time.Second)
	ends(t, c, 0)
	b.Expect(`code=\d+\nicanon`, 10*time.Second)
	logs.Expect(`Power down`, 10*time.Second)
	logs.Expect(`code=`, 10*time.Second)
	m.nothingLeft(t, cgroups...)
}

// A kernel that panics is a failure, a guest that powers itself off is none; a guest that reboots has not ended.
func TestRunRestartPolicy(t *testing.T) {
	m := newMachine(t)
	c := m.terminal(t, "run", m.manifest(t, "again", "tiny", "  restartPolicy: OnFailure\n"))
	c.Expect(ready, node.BootLimit)
	c.Command("touch /tmp/here")
	c.Send("reboot -f\n")
	c.Expect(`Linux version`, node.BootLimit)
	c.Expect(ready, node.BootLimit)
	c.Command("true")
	c.Send("echo c >/proc/sysrq-trigger\n")
	c.Expect(`again: the guest's kernel panicked .*\(GuestPanic, exit code 1\)\nrestartPolicy OnFailure: it boots again; Ctrl-C ends the pod\n`, 20*time.Second)
	c.Expect(ready, node.BootLimit)
	c.Command("true")
	c.Send("poweroff -f\n")
	c.Expect(`again: the guest powered off \(Completed, exit code 0\)\n`, 10*time.Second)
	ends(t, c, 0)
	m.nothingLeft(t)
}

// The first Ctrl-C asks the guest, the second does not; the exit code tells.
func TestRunForced(t *testing.T) {
	m := newMachine(t)
	c := m.terminal(t, "run", m.manifest(t, "deaf", "tiny", ""))
	c.Expect(`Linux version`, node.BootLimit) // no ACPI yet
	c.Send("\x1d")
	c.Expect(`detached`, 5*time.Second)
	c.Send("\x03")
	c.Expect(`powering deaf off`, 5*time.Second)
	c.Send("\x03")
	c.Expect(`ending it by force\n`, 5*time.Second)
	c.Expect(`\(Error, exit code 137\)\n`, 10*time.Second)
	ends(t, c, 137)
	m.nothingLeft(t)
}

// Without a terminal: the manifest from a pipe with its ConfigMap, the output into a file, and SIGTERM.
func TestRunWithoutTerminal(t *testing.T) {
	m := newMachine(t)
	c := m.command(t, "run", "-")
	c.Stdin = strings.NewReader(pod("piped", "tiny", "    env: [{name: A, valueFrom: {configMapKeyRef: {name: c, key: k}}}]\n") +
		"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {k: v}\n")
	said := start(t, m, c)
	said.wait(t, `(?m)^this is the console of piped, without input; Ctrl-C ends the pod\n\[ `)
	said.wait(t, ready)
	attach := m.command(t, "attach", "piped")
	in, err := attach.StdinPipe()
	check(t, err)
	seen := start(t, m, attach)
	_, err = in.Write([]byte("echo typed by''-a-pipe\n"))
	check(t, err)
	seen.wait(t, `typed by-a-pipe`)
	check(t, attach.Process.Signal(syscall.SIGTERM))
	if code := exitCode(attach); code != 0 {
		t.Errorf("attach ended with %d", code)
	}
	check(t, c.Process.Signal(syscall.SIGTERM))
	if code := exitCode(c); code != 0 {
		t.Errorf("run ended with %d", code)
	}
	text := said.text(t)
	mentions(t, text, "powering piped off", "piped: the guest powered off when asked to")
	for _, line := range strings.SplitAfter(text, "\n") {
		if strings.Contains(line, "piped") && strings.Contains(line, "\r") && !strings.Contains(line, "@@") && !strings.Contains(line, "tiny#") {
			t.Errorf("a line for a terminal in a file: %q", line)
		}
	}
	m.nothingLeft(t)
}

// The end of whoever looks at it ends the pod: a pipe that is closed, a terminal that is.
func TestRunHungUp(t *testing.T) {
	m := newMachine(t)
	c := m.command(t, "run", m.manifest(t, "pipe", "tiny", "  terminationGracePeriodSeconds: 1\n"))
	r, w, err := os.Pipe()
	check(t, err)
	c.Stdout = w
	check(t, c.Start())
	w.Close()
	if _, err := r.Read(make([]byte, 100)); err != nil {
		t.Error(err)
	}
	r.Close()
	if code := exitCode(c); code != 0 && code != 137 {
		t.Errorf("exit code %d", code)
	}
	m.nothingLeft(t)

	argv := m.argv(t, "run", m.manifest(t, "tty", "tiny", ""))
	terminal := node.InTerminal(t, nil, argv...)
	terminal.Expect(ready, node.BootLimit)
	terminal.HangUp()
	node.Eventually(t, 30*time.Second, func() error {
		if q := m.QEMUs(); len(q) > 0 {
			return fmt.Errorf("%v still runs", q)
		}
		return nil
	})
	m.nothingLeft(t)
}

// In the background: the daemon that was started for it is found again when it was killed, and ends with its last pod.
func TestRunDetached(t *testing.T) {
	m := newMachine(t)
	yaml := m.manifest(t, "back", "tiny", "  restartPolicy: Always\n")
	out := m.must(t, "run", "--detach", yaml)
	mentions(t, out, "a daemon runs in the background", "restartPolicy Always has no effect with --detach", "qemulet attach back", "qemulet rm back")
	node.Eventually(t, node.BootLimit, func() error {
		if !strings.Contains(m.must(t, "logs", "back"), ready) {
			return errors.New("the guest has not booted")
		}
		return nil
	})
	cgroups := m.cgroups(t)
	m.refused(t, []string{"exists already"}, "run", "--detach", yaml)

	pid, err := strconv.Atoi(regexp.MustCompile(`process (\d+);`).FindStringSubmatch(out)[1])
	check(t, err)
	check(t, syscall.Kill(pid, syscall.SIGKILL))
	node.Eventually(t, 5*time.Second, func() error {
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(stat), ") Z ") {
			return errors.New("the daemon is still there")
		}
		return nil
	})
	mentions(t, m.must(t, "ps"), "the daemon is gone, but perhaps not its pods: starting it again", "back", "running")
	a := m.terminal(t, "attach", "back")
	a.Expect(`attached`, 5*time.Second)
	if got := a.Command("hostname"); got != "back" {
		t.Errorf("after the daemon's death the console answers %q", got)
	}
	mentions(t, m.must(t, "stop", "back"), "back: the guest powered off when asked to (Completed, exit code 0)")
	a.Expect(`back: the guest powered off when asked to`, 10*time.Second)
	ends(t, a, 0)
	mentions(t, m.must(t, "ps"), "exited (Completed)")
	m.refused(t, []string{"does not run, it is exited (Completed)", "qemulet logs back", "qemulet rm back"}, "attach", "back")
	mentions(t, m.must(t, "logs", "-f", "back"), "Power down")
	mentions(t, m.must(t, "rm", "back"), "removed pod default/back")
	m.refused(t, []string{"no daemon listens on", "qemulet run"}, "ps")
	m.nothingLeft(t, cgroups...)
}

// A run that was killed leaves its VM, which the next commands find and end.
func TestRunKilled(t *testing.T) {
	m := newMachine(t)
	yaml := m.manifest(t, "orphan", "tiny", "    volumeMounts: [{name: mem, mountPath: /mem}, {name: flex, mountPath: /flex}]\n"+
		"  volumes:\n  - {name: mem, emptyDir: {medium: Memory}}\n"+
		"  - {name: flex, flexVolume: {driver: virtlet/flexvolume_driver, options: {type: qcow2, capacity: 8MB}}}\n")
	c := m.command(t, "run", yaml)
	said := start(t, m, c)
	said.wait(t, `Linux version`)
	check(t, c.Process.Kill())
	_ = c.Wait()
	if len(m.QEMUs()) != 1 {
		t.Error("the VM did not survive")
	}
	m.refused(t, []string{"pod default/orphan exists already", "qemulet rm --force orphan"}, "run", yaml)
	mentions(t, m.must(t, "ps"), "orphan", "running")
	mentions(t, m.must(t, "rm", "--force", "orphan"), "removed pod default/orphan")
	m.nothingLeft(t)
}

// Two runs share a daemon; the one that has it in its process leaves it to the other.
func TestRunHandsTheDaemonOn(t *testing.T) {
	m := newMachine(t)
	first := m.command(t, "run", m.manifest(t, "one", "tiny", "  terminationGracePeriodSeconds: 1\n"))
	start(t, m, first).wait(t, `Linux version`)
	second := m.terminal(t, "run", m.manifest(t, "two", "tiny", ""))
	second.Expect(ready, node.BootLimit)
	second.Command("true")
	check(t, first.Process.Signal(syscall.SIGINT))
	exitCode(first)
	second.Expect(`the console of two was lost`, 10*time.Second)
	second.Expect(`this is (its|the) console again\n`, 20*time.Second)
	if got := second.Command("hostname"); got != "two" {
		t.Errorf("the console answers %q", got)
	}
	second.Send("poweroff -f\n")
	second.Expect(`two: the guest powered off`, 10*time.Second)
	ends(t, second, 0)
	m.nothingLeft(t)
}

// What is wrong is said in words that name it, and nothing is left.
func TestRunBadInput(t *testing.T) {
	m := newMachine(t)
	m.Web.Bytes(t, "page", []byte("<!DOCTYPE html><html><body>Please log in</body></html>"))
	for name, c := range map[string]struct {
		image, more string
		args        []string
		words       []string
	}{
		"no image":      {"nosuch", "", nil, []string{"pulling the image", "virtlet.cloud/nosuch"}},
		"a page":        {"page", "", nil, []string{"virtlet.cloud/page", "looks like an HTML page", "qcow2"}},
		"never pulled":  {"unpulled", "    imagePullPolicy: Never\n", nil, []string{"virtlet.cloud/unpulled is not on this machine", "imagePullPolicy is Never"}},
		"host network":  {"tiny", "  hostNetwork: true\n", nil, []string{"hostNetwork", "network of its own"}},
		"no QEMU":       {"tiny", "", []string{"--qemu-binary=/nonexistent/qemu"}, []string{"/nonexistent/qemu", "install QEMU"}},
		"no plugins":    {"tiny", "", []string{"--cni-bin-dir=/nonexistent"}, []string{"bridge", "/nonexistent"}},
		"no such flag":  {"tiny", "", []string{"--acel=tcg"}, []string{"--acel", "qemulet run --help"}},
		"bad setting":   {"tiny", "", []string{"--accel=hvf"}, []string{"hvf", "auto, kvm, tcg"}},
		"two manifests": {"tiny", "", []string{"other.yaml"}, []string{"takes one argument and got 2"}},
		"bad manifest": {"", "  restartPolcy: Never\n  initContainers: [{name: a, image: b}]\n", nil,
			[]string{`unknown field "spec.restartPolcy"`, `"a": a VM pod has no init containers`, "what follows virtlet.cloud/ is missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			m.refused(t, c.words, "run", append(c.args, m.manifest(t, "bad", c.image, c.more))...)
			m.nothingLeft(t)
		})
	}
	m.refused(t, []string{"nosuch.yaml"}, "run", filepath.Join(m.Dir, "nosuch.yaml"))
}

// A slow download shows how far it is, and can be interrupted.
func TestRunSlowPull(t *testing.T) {
	m := newMachine(t)
	m.Web.Handle(t, "slow", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "4000000")
		_, _ = w.Write([]byte("QFI\xfb\x00\x00\x00\x03"))
		_, _ = w.Write(make([]byte, 1<<20))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	yaml := m.manifest(t, "slow", "slow", "")
	c := m.terminal(t, "run", yaml)
	c.Expect(`pulling virtlet.cloud/slow  \[=+ +\]  \d\d%  1.0 MiB of 3.8 MiB`, 10*time.Second)
	c.Send("\x03")
	c.Expect(`qemulet: pulling the image: interrupted\n`, 10*time.Second)
	ends(t, c, 130)
	m.nothingLeft(t)

	cmd := m.command(t, "run", yaml)
	said := start(t, m, cmd)
	said.wait(t, `(?m)^pulling virtlet.cloud/slow  .* of 3.8 MiB, .*/s\n`)
	check(t, cmd.Process.Signal(syscall.SIGINT))
	if code := exitCode(cmd); code != 130 {
		t.Errorf("exit code %d", code)
	}
	if text := said.text(t); strings.ContainsAny(text, "\r\x1b") {
		t.Errorf("meant for a terminal: %q", text)
	}
	m.nothingLeft(t)
}

// output is the file that a command prints into.
type output struct{ path string }

// start starts a command that prints into a file. It is killed at the end of the test.
func start(t *testing.T, m *machine, c *exec.Cmd) *output {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "out")
	check(t, err)
	defer f.Close()
	c.Stdout, c.Stderr = f, f
	check(t, c.Start())
	return &output{f.Name()}
}

func (o *output) text(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(o.path)
	check(t, err)
	return string(raw)
}

func (o *output) wait(t *testing.T, pattern string) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	node.Eventually(t, node.BootLimit, func() error {
		if raw := []byte(o.text(t)); !re.Match(raw) {
			return fmt.Errorf("no %q in %q", pattern, raw[max(0, bytes.LastIndexByte(raw, '\n')-500):])
		}
		return nil
	})
}

// exitCode waits for a command that was started.
func exitCode(c *exec.Cmd) int {
	_ = c.Wait()
	return c.ProcessState.ExitCode()
}
