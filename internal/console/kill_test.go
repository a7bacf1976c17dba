package console

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	childSource = "QEMULET_TEST_CONSOLE_SOURCE"
	childPath   = "QEMULET_TEST_CONSOLE_PATH"

	noCap = 1 << 40
)

// child is a daemon that does nothing but log, for being killed. SIGHUP makes
// it reopen.
func child() int {
	err := func() error {
		w, err := NewWatcher()
		if err != nil {
			return err
		}
		l, err := OpenLog(LogOptions{Source: os.Getenv(childSource), Path: os.Getenv(childPath), Watcher: w, MaxBacklog: noCap})
		if err != nil {
			return err
		}
		hup := make(chan os.Signal, 1)
		signal.Notify(hup, syscall.SIGHUP)
		go func() {
			for range hup {
				if err := l.Reopen(); err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
			}
		}()
		fmt.Println("ready")
		return l.Run(context.Background())
	}()
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func (f *fixture) startChild() *exec.Cmd {
	f.t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childSource+"="+f.options.Source, childPath+"="+f.options.Path)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	must(f.t, err)
	must(f.t, c.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		_ = c.Process.Kill()
		f.t.Fatalf("child says %q: %v, %v", line, err, c.Wait())
	}
	return c
}

// The daemon is killed with -9 at random moments while the guest writes and
// kubelet rotates. The log has every byte, once, in order.
func TestKilledAtAnyMoment(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	f := newFixture(t)
	f.options.MaxBacklog = noCap
	var guest strings.Builder
	lineNo := 0
	say := func() {
		var b strings.Builder
		for range 1 + rand.IntN(400) {
			fmt.Fprintf(&b, "%d %s", lineNo, strings.Repeat("x", rand.IntN(100)))
			if rand.IntN(10) > 0 {
				b.WriteString("\r\n")
			}
			lineNo++
		}
		if rand.IntN(20) == 0 {
			b.WriteString(strings.Repeat("long", 3*maxPiece/4))
		}
		f.says(b.String())
		guest.WriteString(b.String())
	}
	for round := range 40 {
		c := f.startChild()
		death := time.Now().Add(time.Duration(rand.IntN(20_000)) * time.Microsecond)
		for time.Now().Before(death) {
			say()
			if rand.IntN(30) == 0 {
				f.rotateChild(c, round)
			}
		}
		must(t, c.Process.Kill())
		_ = c.Wait()
	}
	say()
	must(t, f.open().Finish(context.Background()))
	want := asRead(guest.String())
	if !strings.HasSuffix(want, "\n") {
		want += "\n"
	}
	got := joined(f.logged())
	if got != want {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		t.Fatalf("%d bytes logged of %d, different from %d on:\n%.200q\nwant\n%.200q", len(got), len(want), at, got[at:], want[at:])
	}
	t.Logf("%d bytes of output", len(want))
}

func (f *fixture) rotateChild(c *exec.Cmd, round int) {
	f.t.Helper()
	to := fmt.Sprintf("%s.%04d-%019d", f.options.Path, round, time.Now().UnixNano())
	if err := os.Rename(f.options.Path, to); err != nil && !os.IsNotExist(err) {
		f.t.Fatal(err)
	}
	must(f.t, c.Process.Signal(syscall.SIGHUP))
}
