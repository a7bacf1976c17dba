package qmp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qemulet/qemulet/qmp"
)

// guest is the other side of an agent's socket: answer gets each command and
// returns what is sent back, byte for byte.
func guest(t *testing.T, answer func(execute string, args map[string]any) string) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "a.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveAgent(c, answer)
		}
	}()
	return socket
}

func serveAgent(c net.Conn, answer func(string, map[string]any) string) {
	defer c.Close()
	for lines := bufio.NewReader(c); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		var command struct {
			Execute   string
			Arguments map[string]any
		}
		if json.Unmarshal([]byte(strings.TrimPrefix(line, "\xff")), &command) != nil {
			return
		}
		if command.Execute == "guest-sync-delimited" {
			// What an earlier client was told comes first, and an old synchronisation.
			fmt.Fprintf(c, `{"return": {"pid": 7}}`+"\n\xff"+`{"return": 1}`+"\n\xff"+`{"return": %.0f}`+"\n", command.Arguments["id"])
			continue
		}
		for _, b := range []byte(answer(command.Execute, command.Arguments)) {
			c.Write([]byte{b}) // in the smallest pieces
		}
	}
}

func dialAgent(t *testing.T, socket string) *qmp.Agent {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	a, err := qmp.DialAgent(ctx, socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func TestAgentExec(t *testing.T) {
	var asked atomic.Int32
	a := dialAgent(t, guest(t, func(execute string, args map[string]any) string {
		switch {
		case execute == "guest-exec" && args["path"] == "nosuch":
			return `{"error": {"class": "GenericError", "desc": "Failed to execute child process (No such file or directory)"}}` + "\n"
		case execute == "guest-exec":
			return `{"return": {"pid": 42}}` + "\n"
		case asked.Add(1) < 3:
			return `{"return": {"exited": false}}` + "\n"
		}
		return `{"return": {"exited": true, "exitcode": 3, "out-data": "b25l", "err-data": "dHdv"}}` + "\n"
	}))
	got, err := a.Exec(t.Context(), qmp.AgentCommand{Path: "x", Args: []string{`"quoted"`}, Input: []byte{0, 255}})
	if err != nil || got.ExitCode != 3 || string(got.Stdout) != "one" || string(got.Stderr) != "two" || asked.Load() != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = a.Exec(t.Context(), qmp.AgentCommand{Path: "nosuch"})
	var refused *qmp.AgentError
	if !errors.As(err, &refused) || refused.Command != "guest-exec" || a.Lost() {
		t.Errorf("%v, lost %v", err, a.Lost())
	}
}

// A program that takes too long is killed, and the agent can be used again.
func TestAgentExecTimeout(t *testing.T) {
	killed := make(chan any, 1)
	a := dialAgent(t, guest(t, func(execute string, args map[string]any) string {
		if execute == "guest-exec-status" {
			return `{"return": {"exited": false}}` + "\n"
		}
		if args["path"] == "kill" {
			killed <- args["arg"]
		}
		return `{"return": {"pid": 42}}` + "\n"
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := a.Exec(ctx, qmp.AgentCommand{Path: "sleep"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if args := fmt.Sprint(<-killed); args != "[-KILL 42]" || a.Lost() {
		t.Errorf("killed by %s, lost %v", args, a.Lost())
	}
}

func TestAgentThatDoesNotAnswer(t *testing.T) {
	socket := guest(t, func(string, map[string]any) string { return "" })
	a := dialAgent(t, socket)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := a.Do(ctx, "guest-ping", nil, nil); !errors.Is(err, context.DeadlineExceeded) || !a.Lost() {
		t.Errorf("%v, lost %v", err, a.Lost())
	}
	if err := a.Do(t.Context(), "guest-ping", nil, nil); !errors.Is(err, qmp.ErrAgentLost) {
		t.Errorf("%v", err)
	}
	silent := filepath.Join(t.TempDir(), "b.sock")
	l, err := net.Listen("unix", silent)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := qmp.DialAgent(ctx, silent); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestAgentThatTalksNonsense(t *testing.T) {
	for name, answer := range map[string]string{"no JSON": "garbage\n", "another's": `{"return": "text"}` + "\n"} {
		a := dialAgent(t, guest(t, func(string, map[string]any) string { return answer }))
		if _, err := a.Exec(t.Context(), qmp.AgentCommand{Path: "x"}); err == nil {
			t.Errorf("%s: was believed", name)
		}
	}
}

// A long answer may take longer than an agent may be silent.
func TestAgentThatIsSlow(t *testing.T) {
	silent := make(chan struct{})
	defer close(silent)
	a := dialAgent(t, slowGuest(t, func(execute string, say func(string)) {
		if execute == "guest-exec" {
			say(`{"return": {"pid": 42}}` + "\n")
			return
		}
		say(`{"return": {"exited": true, "out-data": "`)
		for range 20 {
			time.Sleep(20 * time.Millisecond)
			say("b25l")
		}
		say(`", "out-truncated": true}}` + "\n")
	}))
	a.SetPatience(200 * time.Millisecond)
	got, err := a.Exec(t.Context(), qmp.AgentCommand{Path: "x"})
	if err != nil || string(got.Stdout) != strings.Repeat("one", 20) || !got.Truncated {
		t.Errorf("%+v, %v", got, err)
	}

	a = dialAgent(t, slowGuest(t, func(string, func(string)) { <-silent }))
	a.SetPatience(50 * time.Millisecond)
	if _, err := a.Exec(t.Context(), qmp.AgentCommand{Path: "x"}); !errors.Is(err, context.DeadlineExceeded) || !a.Lost() {
		t.Errorf("of an agent that says nothing: %v, lost %v", err, a.Lost())
	}
}

// slowGuest is a guest whose answers are said bit by bit.
func slowGuest(t *testing.T, answer func(execute string, say func(string))) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "a.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		serveSlowly(c, answer)
	}()
	return socket
}

func serveSlowly(c net.Conn, answer func(string, func(string))) {
	serveAgent(c, func(execute string, _ map[string]any) string {
		answer(execute, func(text string) { c.Write([]byte(text)) })
		return ""
	})
}

// Who has no time to wait until others are answered has not run anything.
func TestAgentThatIsBusy(t *testing.T) {
	asked, goOn := make(chan struct{}), make(chan struct{})
	a := dialAgent(t, guest(t, func(execute string, _ map[string]any) string {
		if execute == "guest-exec" {
			return `{"return": {"pid": 42}}` + "\n"
		}
		close(asked)
		<-goOn
		return `{"return": {"exited": true}}` + "\n"
	}))
	first := make(chan error, 1)
	go func() {
		_, err := a.Exec(context.WithoutCancel(t.Context()), qmp.AgentCommand{Path: "long"})
		first <- err
	}()
	<-asked
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := a.Exec(ctx, qmp.AgentCommand{Path: "short"}); !errors.Is(err, qmp.ErrAgentBusy) || a.Lost() {
		t.Errorf("%v, lost %v", err, a.Lost())
	}
	close(goOn)
	if err := <-first; err != nil {
		t.Error(err)
	}
}
