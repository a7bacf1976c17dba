package node

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// QuickReconnect keeps gRPC from adding its usual second to every start of the daemon.
var QuickReconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1.2, MaxDelay: 50 * time.Millisecond},
	MinConnectTimeout: time.Second,
}

// daemon is one run of "qemulet serve".
type daemon struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has been waited for
}

func (d *daemon) pid() int { return d.cmd.Process.Pid }

func (d *daemon) kill() {
	d.cmd.Process.Kill()
	<-d.done
}

func (d *daemon) ended() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// serveArgs are the daemon's settings; this is the place to adjust when their names change.
func (n *Node) serveArgs() []string {
	return append([]string{
		"serve",
		"--run-dir", n.path("run"),
		"--state-dir", n.path("state"),
		"--cni-conf-dir", n.path("cni"),
		"--cni-bin-dir", n.path("plugins") + ",/usr/lib/cni",
		"--netns-dir", n.path("netns"),
		"--kubelet-root-dir", n.path("kubelet"),
		"--image-translation-dir", n.path("images.d"),
		"--download-protocol", "http",
		"--accel", "tcg",
		"--log-level", "debug",
	}, n.options.Args...)
}

// spawn starts the daemon without waiting for it to answer.
func (n *Node) spawn(tb testing.TB) *daemon {
	tb.Helper()
	binary := n.options.Binary
	if binary == "" {
		binary = Binary(tb, "qemulet")
	}
	log, err := os.OpenFile(n.path("serve.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(tb, err)
	defer log.Close()
	argv := n.ns.enter(append([]string{binary}, n.serveArgs()...)...)
	d := &daemon{cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	d.cmd.Env = append(daemonEnviron(), n.options.Env...)
	d.cmd.Dir = "/"
	d.cmd.Stdout, d.cmd.Stderr = log, log
	// A session of its own, as under systemd: what the terminal sends to the tests is not for the daemon.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	must(tb, d.cmd.Start())
	go func() {
		d.cmd.Wait()
		close(d.done)
	}()
	return d
}

// daemonEnviron is this process' environment without what would be settings of the daemon.
func daemonEnviron() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "QEMULET_") })
}

// StartDaemon starts the daemon and waits until it answers over CRI.
func (n *Node) StartDaemon(tb testing.TB) {
	tb.Helper()
	n.daemon = n.spawn(tb)
	n.connect(tb)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	go func() {
		select {
		case <-n.daemon.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	// WaitForReady: until the daemon listens, calls wait instead of failing.
	_, err := n.Runtime.Version(ctx, &runtimeapi.VersionRequest{}, grpc.WaitForReady(true))
	if err != nil {
		tb.Fatalf("the daemon does not answer: %v\n%s", err, tail(n.path("serve.log"), 30))
	}
}

// FailToStart starts the daemon, which is expected to end by itself with an error, and returns what it said.
func (n *Node) FailToStart(tb testing.TB) string {
	tb.Helper()
	d := n.spawn(tb)
	select {
	case <-d.done:
	case <-time.After(20 * time.Second):
		d.kill()
		tb.Fatal("the daemon runs, but was expected to refuse")
	}
	if d.cmd.ProcessState.Success() {
		tb.Fatal("the daemon ended with status 0, but was expected to refuse")
	}
	return tail(n.path("serve.log"), 30)
}

func (n *Node) connect(tb testing.TB) {
	tb.Helper()
	n.disconnect()
	conn, err := grpc.NewClient("unix://"+n.Socket(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(QuickReconnect), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	must(tb, err)
	n.conn = conn
	n.Runtime = runtimeapi.NewRuntimeServiceClient(conn)
	n.Images = runtimeapi.NewImageServiceClient(conn)
}

func (n *Node) disconnect() {
	if n.conn != nil {
		n.conn.Close()
		n.conn = nil
	}
}

// Kill9 ends the daemon with SIGKILL and returns when it is gone. Virtual machines go on.
func (n *Node) Kill9(tb testing.TB) {
	tb.Helper()
	n.daemon.kill()
}

// Stop ends the daemon with SIGTERM, and fails if it needs more than ten seconds. Virtual machines go on.
func (n *Node) Stop(tb testing.TB) {
	tb.Helper()
	must(tb, n.daemon.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-n.daemon.done:
	case <-time.After(10 * time.Second):
		n.daemon.kill()
		tb.Fatal("the daemon did not end within 10 s of SIGTERM")
	}
}

// Restart starts the daemon again after Kill9 or Stop; env is added to its environment.
func (n *Node) Restart(tb testing.TB, env ...string) {
	tb.Helper()
	if !n.daemon.ended() {
		tb.Fatal("the daemon still runs")
	}
	kept := n.options.Env
	n.options.Env = append(append([]string(nil), kept...), env...)
	defer func() { n.options.Env = kept }()
	n.StartDaemon(tb)
}

// DaemonPID is the daemon's process.
func (n *Node) DaemonPID() int { return n.daemon.pid() }

// DaemonRSS is the daemon's resident memory in bytes, without what it shares with its program file.
func (n *Node) DaemonRSS(tb testing.TB) int64 {
	tb.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.daemon.pid()))
	must(tb, err)
	for _, line := range strings.Split(string(data), "\n") {
		var kb int64
		if _, err := fmt.Sscanf(line, "RssAnon: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	tb.Fatal("no RssAnon in the daemon's status")
	return 0
}

// DaemonLog returns what the daemon has logged so far.
func (n *Node) DaemonLog() string {
	data, _ := os.ReadFile(n.path("serve.log"))
	return string(data)
}
