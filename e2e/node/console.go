package node

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// keepBytes is how much of what was shown is kept until it is asked for; more than a screen is not looked at.
const keepBytes = 64 << 10

// Console is a person at a terminal in which a program runs: a VM's console by crictl attach, for one.
type Console struct {
	tb     testing.TB
	cmd    *exec.Cmd
	cancel context.CancelFunc
	person *os.File

	mu   sync.Mutex
	text string        // what was shown and not yet expected
	more chan struct{} // signalled when text grew or the end was reached
	done chan struct{} // closed when the program has ended
	err  error         // how it ended, valid after done

	commands int
}

// Attach attaches to a container's console.
func (n *Node) Attach(tb testing.TB, container string) *Console {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	return inTerminal(tb, n.crictl(ctx, tb, "attach", "-i", "-t", container), cancel)
}

// InTerminal runs any program in a terminal. At the end of the test it is killed if it still runs.
func InTerminal(tb testing.TB, env []string, argv ...string) *Console {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	return inTerminal(tb, cmd, cancel)
}

func inTerminal(tb testing.TB, cmd *exec.Cmd, cancel context.CancelFunc) *Console {
	tb.Helper()
	person, tty, err := openPTY()
	must(tb, err)
	defer tty.Close()
	c := &Console{tb: tb, cmd: cmd, cancel: cancel, person: person, more: make(chan struct{}, 1), done: make(chan struct{})}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	// All of its session, or what it has started would keep the terminal open.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	must(tb, cmd.Start())
	go c.read()
	tb.Cleanup(c.Close)
	return c
}

func (c *Console) read() {
	defer close(c.done)
	buf := make([]byte, 32<<10)
	for {
		k, err := c.person.Read(buf)
		c.mu.Lock()
		c.text = lastBytes(c.text+string(buf[:k]), keepBytes)
		c.mu.Unlock()
		select {
		case c.more <- struct{}{}:
		default:
		}
		if err != nil { // EIO: the program has closed the terminal
			break
		}
	}
	c.err = c.cmd.Wait()
}

// Close ends the program, as closing the terminal's window would.
func (c *Console) Close() {
	c.cancel()
	<-c.done
	c.person.Close()
}

// Wait waits until the program has ended by itself, and returns how.
func (c *Console) Wait(limit time.Duration) error {
	c.tb.Helper()
	select {
	case <-c.done:
		return c.err
	case <-time.After(limit):
		c.tb.Fatalf("attach still runs after %v", limit)
		return nil
	}
}

// Send types text.
func (c *Console) Send(text string) {
	c.tb.Helper()
	if _, err := c.person.WriteString(text); err != nil {
		c.tb.Fatalf("typing into the console: %v", err)
	}
}

// escapes are what a terminal would act on instead of showing it.
var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]")

// Expect waits for text that matches the pattern, and returns the match and its groups. Everything up to the match is
// then past.
func (c *Console) Expect(pattern string, limit time.Duration) []string {
	c.tb.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(limit)
	for {
		c.mu.Lock()
		text := escapes.ReplaceAllString(strings.ReplaceAll(c.text, "\r", ""), "")
		m := re.FindStringSubmatchIndex(text)
		if m != nil {
			c.text = text[m[1]:]
		}
		c.mu.Unlock()
		if m != nil {
			return re.FindStringSubmatch(text)
		}
		select {
		case <-c.more:
		case <-c.done:
			c.tb.Fatalf("the console ended (%v) before %q; last was:\n%s", c.err, pattern, lastBytes(text, 2000))
		case <-deadline:
			c.tb.Fatalf("no %q on the console within %v; last was:\n%s", pattern, limit, lastBytes(text, 2000))
		}
	}
}

// Command runs a command in the tiny guest's shell and returns what it printed.
func (c *Console) Command(command string) string {
	c.tb.Helper()
	c.commands++
	// The shell repeats what is typed; the quotes keep that from looking like the answer.
	id := fmt.Sprintf("%d.%d", os.Getpid(), c.commands)
	separator := ";"
	if strings.HasSuffix(command, "&") {
		separator = ""
	}
	c.Send(fmt.Sprintf("echo be''gin %s; %s%s echo en''d %s\n", id, command, separator, id))
	m := c.Expect(fmt.Sprintf(`(?s)begin %[1]s\n(.*?)end %[1]s\n`, regexp.QuoteMeta(id)), time.Minute)
	return strings.TrimSpace(m[1])
}

func lastBytes(s string, n int) string { return s[max(0, len(s)-n):] }

// Freeze stops the program, so that it reads nothing any more, neither from the daemon nor from the terminal.
func (c *Console) Freeze() {
	c.tb.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		c.tb.Fatal(err)
	}
}
