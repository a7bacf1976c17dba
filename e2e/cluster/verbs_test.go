package cluster

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/qemulet/qemulet/e2e/node"
)

// background is a kubectl that runs beside the test, which reads along what it prints.
type background struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // valid after done

	mu  sync.Mutex
	out bytes.Buffer
}

func (b *background) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.Write(p)
}

func (b *background) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.String()
}

// background starts kubectl, and ends it with the test.
func (c *Cluster) background(t *testing.T, args ...string) *background {
	t.Helper()
	return c.backgroundFed(t, nil, args...)
}

func (c *Cluster) backgroundFed(t *testing.T, stdin io.Reader, args ...string) *background {
	t.Helper()
	return c.backgroundWith(t, nil, stdin, args...)
}

// backgroundWith adds to kubectl's environment.
func (c *Cluster) backgroundWith(t *testing.T, env []string, stdin io.Reader, args ...string) *background {
	t.Helper()
	b := &background{cmd: c.KubectlCommand(t, args...), done: make(chan struct{})}
	b.cmd.Env = append(b.cmd.Env, env...)
	b.cmd.Stdin, b.cmd.Stdout, b.cmd.Stderr = stdin, b, b
	// nsenter waits for kubectl, and dies with it only as a group.
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, b.cmd.Start())
	go func() { b.err = b.cmd.Wait(); close(b.done) }()
	t.Cleanup(func() {
		syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL)
		<-b.done
	})
	return b
}

// expect waits until it has printed what matches a pattern.
func (b *background) expect(t *testing.T, pattern string, limit time.Duration) (match []string) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	eventually(t, limit, fmt.Sprintf("%v prints %q", b.cmd.Args, pattern), func() error {
		if match = re.FindStringSubmatch(b.text()); match == nil {
			return fmt.Errorf("it printed:\n%s", lastLines(b.text(), 20))
		}
		return nil
	})
	return match
}

// ends waits until it ends by itself, without an error.
func (b *background) ends(t *testing.T, limit time.Duration) {
	t.Helper()
	select {
	case <-b.done:
		if b.err != nil {
			t.Errorf("%v: %v\n%s", b.cmd.Args, b.err, b.text())
		}
	case <-time.After(limit):
		t.Errorf("%v still runs after %v; it printed:\n%s", b.cmd.Args, limit, lastLines(b.text(), 20))
	}
}

// terminal is a person at a terminal in which kubectl runs.
func (c *Cluster) terminal(t *testing.T, args ...string) *node.Console {
	t.Helper()
	return c.terminalWith(t, nil, args...)
}

// terminalWith adds to kubectl's environment.
func (c *Cluster) terminalWith(t *testing.T, env []string, args ...string) *node.Console {
	t.Helper()
	return node.InTerminal(t, append(env, "TERM=xterm"), c.first.enter(c.kubectl(t, args...)...)...)
}

// kubectlFails returns what kubectl says when it fails.
func (c *Cluster) kubectlFails(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.TryKubectl(t, args...)
	if err == nil {
		t.Errorf("kubectl %v succeeded: %s", args, out)
		return ""
	}
	return out + err.Error()
}

// What a person does with one pod, and how it ends.
func TestVerbs(t *testing.T) {
	c := theCluster(t)
	c.Apply(t, scripted("verbs", "echo @@MA''RK is here", "")+"\n---\n"+scripted("stubborn", "touch /run/ignore-power", ""))
	follow := c.logsFromTheStart(t, "verbs")
	c.WaitReady(t, "app=verbs", 1, bootTime)
	follow.expect(t, `@@MARK is here`, bootTime)

	c.logs(t)
	first, second, watcher := c.attach(t)
	c.portForward(t)
	c.describe(t)
	if out := c.kubectlFails(t, "exec", "verbs", "--", "true"); !strings.Contains(out, "install and start qemu-guest-agent") {
		t.Errorf("kubectl exec without an agent: %s", out)
	}
	if out := c.kubectlFails(t, "exec", "-it", "verbs", "--", "sh"); !strings.Contains(out, "use attach for the console") {
		t.Errorf("kubectl exec -it: %s", out)
	}
	c.usage(t, "verbs")

	begin := time.Now()
	c.Kubectl(t, "delete", "pod", "verbs")
	if took := time.Since(begin); took > grace-2*time.Second {
		t.Errorf("the guest obeys the power button, and was deleted after %v", took)
	}
	follow.ends(t, bootTime)
	watcher.ends(t, bootTime)
	for i, attached := range []*node.Console{first, second} {
		if err := attached.Wait(bootTime); err != nil {
			t.Errorf("attach %d ended with %v", i, err)
		}
	}
	for _, printed := range []*background{follow, watcher} {
		mentions(t, "what was followed", printed.text(), "@@GUEST powerbutton ignored=no")
	}

	c.WaitReady(t, "app=stubborn", 1, bootTime)
	begin = time.Now()
	c.Kubectl(t, "delete", "pod", "stubborn", "--force", "--grace-period=0")
	if took := time.Since(begin); took > grace/2 {
		t.Errorf("kubectl delete --force took %v", took)
	}
	c.nothingRuns(t, "stubborn")
}

// logsFromTheStart follows the log of a pod that is only just starting.
func (c *Cluster) logsFromTheStart(t *testing.T, pod string) *background {
	t.Helper()
	eventually(t, bootTime, pod+" has a log", func() error {
		_, err := c.TryKubectl(t, "logs", pod)
		return err
	})
	return c.background(t, "logs", "-f", pod)
}

func (c *Cluster) logs(t *testing.T) {
	t.Helper()
	all := c.Kubectl(t, "logs", "verbs", "-c", "vm")
	mentions(t, "the log", all, "@@GUEST boot", "@@MARK is here")
	if strings.Contains(all, "\r") {
		t.Error("the log has carriage returns")
	}
	if out := c.Kubectl(t, "logs", "verbs", "--tail=2"); strings.Count(out, "\n") > 2 || !strings.HasSuffix(strings.TrimSpace(all), strings.TrimSpace(out)) {
		t.Errorf("--tail=2: %q", out)
	}
	if out := c.Kubectl(t, "logs", "verbs", "--since=1h"); out != all {
		t.Errorf("--since=1h has %d bytes of %d", len(out), len(all))
	}
	time.Sleep(2 * time.Second)
	if out := c.Kubectl(t, "logs", "verbs", "--since=1s"); strings.Contains(out, "@@GUEST boot") {
		t.Errorf("--since=1s: %q", out)
	}
	stamps := c.Kubectl(t, "logs", "verbs", "--timestamps", "--limit-bytes=1000")
	if stamp, _, _ := strings.Cut(stamps, " "); !time.Time.IsZero(parseTime(stamp)) && time.Since(parseTime(stamp)) > time.Hour || parseTime(stamp).IsZero() {
		t.Errorf("--timestamps: %q", stamps)
	}
	mentions(t, "another container", c.kubectlFails(t, "logs", "verbs", "-c", "nosuch"), "container nosuch is not valid for pod verbs")
	mentions(t, "--previous", c.kubectlFails(t, "logs", "verbs", "--previous"), `previous terminated container "vm" in pod "verbs" not found`)
}

func parseTime(text string) time.Time {
	at, _ := time.Parse(time.RFC3339Nano, text)
	return at
}

// attach attaches two people, one of whom types, and one that only watches.
func (c *Cluster) attach(t *testing.T) (first, second *node.Console, watcher *background) {
	t.Helper()
	first, second = c.terminal(t, "attach", "-it", "verbs"), c.terminal(t, "attach", "-it", "verbs", "-c", "vm")
	watcher = c.background(t, "attach", "verbs")
	for _, person := range []*node.Console{first, second} {
		person.Expect("try pressing enter", bootTime)
	}
	// Both are there once what they type is answered.
	second.Send("\n")
	second.Expect("tiny# ", bootTime)
	if out := first.Command("hostname"); out != "verbs" {
		t.Errorf("hostname: %q", out)
	}
	second.Expect("end .*\n", bootTime)
	if out := second.Command("echo $((6*7))"); out != "42" {
		t.Errorf("a sum: %q", out)
	}
	first.Expect("42\n", bootTime)
	eventually(t, bootTime, "who only watches sees it", func() error {
		first.Send("echo wat''ched\n")
		time.Sleep(300 * time.Millisecond)
		if !strings.Contains(watcher.text(), "watched") {
			return fmt.Errorf("it saw %q", watcher.text())
		}
		return nil
	})
	c.backgroundFed(t, strings.NewReader("echo from a pi''pe\n"), "attach", "-i", "verbs")
	first.Expect("from a pipe\n", bootTime)
	return first, second, watcher
}

func (c *Cluster) portForward(t *testing.T) {
	t.Helper()
	forward := c.background(t, "port-forward", "pod/verbs", ":80", ":81")
	port := forward.expect(t, `Forwarding from 127\.0\.0\.1:(\d+) -> 80\n`, bootTime)[1]
	closed := forward.expect(t, `Forwarding from 127\.0\.0\.1:(\d+) -> 81\n`, bootTime)[1]
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if out, err := c.httpGet("http://127.0.0.1:" + port + "/cgi-bin/info"); err != nil || !strings.Contains(out, "hostname=verbs") {
				t.Errorf("through port-forward: %v: %q", err, out)
			}
		})
	}
	wg.Wait()
	if out, err := c.httpGet("http://127.0.0.1:" + closed + "/"); err == nil {
		t.Errorf("from a closed port: %q", out)
	}
	forward.expect(t, "(?i)connection refused", bootTime)
	t.Logf("port-forward says:\n%s", forward.text())
}

// describe holds what a person reads about a VM that is well.
func (c *Cluster) describe(t *testing.T) {
	t.Helper()
	out := c.Kubectl(t, "describe", "pod", "verbs")
	mentions(t, "describe", out, "Image:          virtlet.cloud/tiny", "State:          Running", "Restart Count:  0",
		"Created", "Container created", "Started", "Container started")
	for _, odd := range []string{"Failed", "BackOff", "rpc error"} {
		if strings.Contains(out, odd) {
			t.Errorf("describe mentions %q", odd)
		}
	}
	t.Logf("%s", out)
}

const floodLines = 12000

// What a guest prints is in the log, all of it and in order, however often kubelet rotates.
func TestLogRotation(t *testing.T) {
	c := theCluster(t)
	c.Apply(t, scripted("flood", fmt.Sprintf(`text=$(printf '%%110s' | tr ' ' x)
awk -v text=$text 'BEGIN { for (i = 1; i <= %d; i++) print "line " i " " text; print "the flood " "is over" }'`, floodLines), ""))
	follow := c.logsFromTheStart(t, "flood")
	follow.expect(t, `the flood is over`, 3*bootTime)
	pod := c.Pods(t, "app=flood")[0]
	files, err := filepath.Glob(c.Path("podlogs", "default_flood_"+pod.Metadata.UID, "vm", "0.log*"))
	must(t, err)
	slices.Sort(files)
	files = append(files[1:], files[0]) // rotated ones have the time at the end
	if len(files) < 3 {
		t.Errorf("the log was not rotated twice: %v", files)
	}
	var all strings.Builder
	for _, file := range files {
		all.Write(readLog(t, file))
	}
	if missing := missingLines(t, all.String()); len(missing) != 0 {
		t.Errorf("%d lines are missing in %v: %v", len(missing), files, missing[:min(10, len(missing))])
	}
	missing := missingLines(t, follow.text())
	t.Logf("%d log files; kubectl logs -f missed %d of %d lines", len(files), len(missing), floodLines)
}

func readLog(t *testing.T, file string) []byte {
	t.Helper()
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(file, ".gz") {
		r, err = gzip.NewReader(f)
		must(t, err)
	}
	data, err := io.ReadAll(r)
	must(t, err)
	return data
}

var (
	numberedLine = regexp.MustCompile(`(?m)line (\d+) x{110}$`)
	// The guest's shell may begin at any moment.
	prompt = regexp.MustCompile(`tiny# (\x1b\[6n)?`)
)

// missingLines fails when lines are out of order or there twice.
func missingLines(t *testing.T, log string) (missing []int) {
	t.Helper()
	next := 1
	for _, m := range numberedLine.FindAllStringSubmatch(prompt.ReplaceAllString(log, ""), -1) {
		n, _ := strconv.Atoi(m[1])
		if n < next {
			t.Errorf("line %d comes after line %d", n, next-1)
			return nil
		}
		for ; next < n; next++ {
			missing = append(missing, next)
		}
		next = n + 1
	}
	for ; next <= floodLines; next++ {
		missing = append(missing, next)
	}
	return missing
}

// A guest with a guest agent is as good as a container for exec, in probes too.
func TestExec(t *testing.T) {
	c := theCluster(t)
	manifest := strings.NewReplacer("virtlet.cloud/tiny", "virtlet.cloud/debian", "memory: 96Mi", "memory: 384Mi",
		"tcpSocket: {port: 80}, periodSeconds: 1", "exec: {command: [sh, -c, 'echo asked >>/run/asked; test -e /run/well']}, periodSeconds: 2, timeoutSeconds: 5").Replace(vmPod("agent", `    livenessProbe: {exec: {command: [test, '!', -e, /run/ill]}, periodSeconds: 2, timeoutSeconds: 5, failureThreshold: 1}
    lifecycle:
      postStart: {exec: {command: [touch, /run/hooked]}}
      preStop: {exec: {command: [sh, -c, 'echo @@STOP by the hook >/dev/console']}}`))
	c.Apply(t, manifest)
	eventually(t, debianBoot, "the agent answers", func() error {
		_, err := c.TryKubectl(t, "exec", "agent", "--", "true")
		return err
	})
	follow := c.logsFromTheStart(t, "agent")
	// kubelet ran the hook as soon as there was an agent, and did not kill the VM for that it had to wait.
	eventually(t, bootTime, "the hook after the start has run", func() error {
		_, err := c.TryKubectl(t, "exec", "agent", "--", "test", "-e", "/run/hooked")
		return err
	})
	if out := c.Kubectl(t, "exec", "agent", "--", "cat", "/etc/hostname"); out != "agent\n" {
		t.Errorf("hostname: %q", out)
	}
	// It booted for long, and no probe that could not be made was held against it.
	if s := c.Pods(t, "app=agent")[0].Status.ContainerStatuses[0]; s.RestartCount != 0 || s.Ready {
		t.Errorf("after the boot: %+v", s)
	}
	mentions(t, "an exit code", c.kubectlFails(t, "exec", "agent", "--", "sh", "-c", "echo printed; echo told >&2; exit 7"), "printed", "told", "exit code 7")
	stdin := c.KubectlCommand(t, "exec", "-i", "agent", "--", "sha256sum")
	stdin.Stdin = strings.NewReader(strings.Repeat("a line of input\n", 20000))
	want := hexDigest([]byte(strings.Repeat("a line of input\n", 20000)))
	if out, err := stdin.Output(); err != nil || !strings.Contains(string(out), want) {
		t.Errorf("exec -i: %v: %s, want %s", err, out, want)
	}
	c.Kubectl(t, "exec", "agent", "--", "touch", "/run/well")
	c.WaitReady(t, "app=agent", 1, bootTime)
	c.Kubectl(t, "exec", "agent", "--", "rm", "/run/well")
	eventually(t, bootTime, "a probe that fails makes the pod unready", func() error {
		if c.Pods(t, "app=agent")[0].Ready() {
			return errors.New("it is Ready")
		}
		return nil
	})
	c.Kubectl(t, "delete", "pod", "agent")
	follow.ends(t, bootTime)
	mentions(t, "the log", follow.text(), "@@STOP by the hook")
}
