package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// Component is one daemon of the cluster.
type Component struct {
	Name string
	argv []string
	env  []string

	cluster *Cluster
	cmd     *exec.Cmd // nsenter, which waits for the daemon
	done    chan struct{}
	PID     int // of the daemon, as seen from outside
	start   string
}

func (c *Cluster) component(name string, env []string, argv ...string) *Component {
	component := &Component{Name: name, argv: argv, env: env, cluster: c}
	c.components[name] = component
	return component
}

// Start starts the daemon; it returns when the process exists.
func (k *Component) Start(tb testing.TB) {
	tb.Helper()
	log, err := os.OpenFile(k.cluster.Path("log", k.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(tb, err)
	defer log.Close()
	argv := k.cluster.first.enter(k.argv...)
	k.cmd = exec.Command(argv[0], argv[1:]...)
	k.cmd.Env = append(plainEnviron(), k.env...)
	k.cmd.Dir = "/"
	k.cmd.Stdout, k.cmd.Stderr = log, log
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	must(tb, k.cmd.Start())
	cmd, done := k.cmd, make(chan struct{})
	k.done = done
	go func() { cmd.Wait(); close(done) }()
	eventually(tb, 10*time.Second, k.Name+" starts", func() error {
		if k.PID = onlyChild(cmd.Process.Pid); k.PID == 0 {
			return fmt.Errorf("no process yet; %s", tail(k.cluster.Path("log", k.Name+".log"), 5))
		}
		k.start = startTime(k.PID)
		return nil
	})
}

// Kill9 ends the daemon with SIGKILL, and returns when it is gone.
func (k *Component) Kill9() {
	kill(k.PID, k.start)
	<-k.done
}

// Stop ends the daemon with SIGTERM, or else after some seconds with SIGKILL.
func (k *Component) Stop() {
	syscall.Kill(k.PID, syscall.SIGTERM)
	select {
	case <-k.done:
	case <-time.After(20 * time.Second):
		k.Kill9()
	}
}

// Restart ends the daemon with SIGKILL and starts it again.
func (k *Component) Restart(tb testing.TB) {
	tb.Helper()
	k.Kill9()
	k.Start(tb)
}
