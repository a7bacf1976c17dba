package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/qemulet/qemulet/e2e/node"
)

// One client that stops reading freezes neither the guest nor anyone else, and costs the daemon no memory.
func TestStalledClient(t *testing.T) {
	n := node.Start(t, node.Options{})
	n.SmallSockets(t)
	n.PullTiny(t)
	vm, other := n.NewVM(t, "flooding", nil), n.NewVM(t, "quiet", nil)
	vm.Run(t)
	vm.WaitReady(t)
	other.Run(t)
	other.WaitReady(t)
	vm.WaitNetwork(t)

	stalled := vm.Attach(t)
	stalled.Command("true")
	stalled.Freeze()
	watcher := vm.Attach(t)
	watcher.Command("true")
	rss := n.DaemonRSS(t)

	// Far more than the terminal, crictl and the sockets on the way can take in, once the latter are kept small.
	const bytes = 512 << 10
	watcher.Send(fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x | fold -w 120 && echo flood''ed\n", bytes))
	begin := time.Now()
	watcher.Expect(`flooded`, 4*time.Minute)
	t.Logf("%d KiB over the console in %v", bytes>>10, time.Since(begin).Round(time.Millisecond))
	if grown := n.DaemonRSS(t) - rss; grown > 4<<20 {
		t.Errorf("the daemon grew by %d KiB during the flood", grown>>10)
	}
	if got := watcher.Command("echo al''ive"); got != "alive" {
		t.Errorf("the console beside the stalled one answers %q", got)
	}
	if got := other.Attach(t).Command("hostname"); got != "quiet" {
		t.Errorf("the other machine's console answers %q", got)
	}
	if _, err := n.Info(vm.IP(t)); err != nil {
		t.Errorf("the flooding guest: %v", err)
	}
	// The log has it all or says what it left out, and its format holds.
	if _, err := node.ReadLog(vm.LogPath); err != nil {
		t.Error(err)
	}
	stalled.Close()
	vm.Remove(t)
	other.Remove(t)
	n.NoLeaks(t)
}

// With nobody attached a flood costs nothing but its log.
func TestFloodWithoutClient(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "torrent", nil)
	vm.Run(t)
	vm.WaitReady(t)
	c := vm.Attach(t)
	const lines, width = 5000, 100
	c.Command(fmt.Sprintf("(sleep 1; head -c %d /dev/zero | tr '\\0' y | fold -w 100; echo; echo torrent is over) >/dev/console &", lines*width))
	c.Close()
	rss := n.DaemonRSS(t)
	vm.WaitLog(t, `^torrent is over$`, 4*time.Minute)
	if grown := n.DaemonRSS(t) - rss; grown > 4<<20 {
		t.Errorf("the daemon grew by %d KiB during the flood", grown>>10)
	}
	logged, err := node.ReadLog(vm.LogPath)
	check(t, err)
	whole := 0
	for _, l := range logged {
		// The first one may stand behind the shell's prompt.
		if strings.HasSuffix(l.Text, strings.Repeat("y", width)) && strings.Count(l.Text, "y") == strings.Count(l.Text, "tiny# ")+width {
			whole++
		} else if strings.Contains(l.Text, "yyyy") {
			t.Logf("another line: %q", l.Text)
		}
	}
	if whole != lines {
		t.Errorf("%d of %d lines are in the log", whole, lines)
	}
	vm.Remove(t)
	n.NoLeaks(t)
}

// Several people at one console: all see the same, and each may type.
func TestTwoAtOneConsole(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "shared", nil)
	vm.Run(t)
	vm.WaitReady(t)
	a, b := vm.Attach(t), vm.Attach(t)
	a.Command("true")
	b.Command("true")
	a.Send("echo from''-a\n")
	b.Expect(`from-a\n`, 10*time.Second)
	b.Send("echo from''-b\n")
	a.Expect(`from-b\n`, 10*time.Second)
	a.Close()
	if got := b.Command("echo st''ays"); got != "stays" {
		t.Errorf("after the other has left: %q", got)
	}
	vm.Stop(t, 0)
	b.Wait(5 * time.Second)
	vm.Remove(t)
	n.NoLeaks(t)
}

// A prompt has no newline, and must be in the log all the same, soon.
func TestPromptIsLogged(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "prompt", nil)
	vm.Run(t)
	vm.WaitReady(t)
	node.Eventually(t, 10*time.Second, func() error {
		lines, err := node.ReadLog(vm.LogPath)
		if err != nil {
			return err
		}
		if last := lines[len(lines)-1]; last.Full || !strings.HasPrefix(last.Text, "tiny# ") {
			return fmt.Errorf("the last line is %q", last.Text)
		}
		return nil
	})
	vm.Remove(t)
	n.NoLeaks(t)
}
