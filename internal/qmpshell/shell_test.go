package qmpshell

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qemulet/qemulet/qmp"
	"github.com/qemulet/qemulet/qmp/qmptest"
)

// said collects what is printed.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func newSaid() *said { return &said{more: make(chan struct{}, 1)} }

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// wait waits until this has been printed.
func (s *said) wait(t *testing.T, want string) {
	t.Helper()
	for end := time.After(qmptest.Patience); !strings.Contains(s.String(), want); {
		select {
		case <-s.more:
		case <-end:
			t.Fatalf("no %q in %q", want, s)
		}
	}
}

func connect(t *testing.T) (*qmp.Conn, *qmptest.Peer) {
	t.Helper()
	ours, peer := qmptest.New(t)
	go peer.Serve(qmptest.Script{
		"query-qmp-schema":      json.RawMessage(someSchema),
		"query-status":          map[string]any{"running": true},
		"human-monitor-command": "VM status: running\r\n",
	})
	conn, err := qmp.New(context.Background(), ours)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, peer
}

func TestScript(t *testing.T) {
	conn, _ := connect(t)
	var out, problems bytes.Buffer
	s, err := New(context.Background(), conn, &out)
	if err != nil {
		t.Fatal(err)
	}
	in := strings.NewReader("query-status\n\n# a remark\nnonesuch\ninfo status\nhelp set_link\nset_link up\nexit\nquery-status\n")
	if err := s.Script(context.Background(), in, &problems); !errors.Is(err, ErrFailed) {
		t.Errorf("got %v", err)
	}
	if want := "{\n  \"running\": true\n}\nVM status: running\nset_link name=string [up=boolean]\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	if got := problems.String(); !strings.HasPrefix(got, "line 4: qmp: nonesuch: ") || !strings.Contains(got, "\nline 7: argument \"up\"") {
		t.Errorf("problems: %q", got)
	}
}

// At a terminal Tab completes, and an event comes between what is typed.
func TestInteract(t *testing.T) {
	conn, peer := connect(t)
	keys, typed := io.Pipe()
	out := newSaid()
	done := make(chan error, 1)
	go func() { done <- Interact(context.Background(), conn, keys, out, "vm> ", 80, 24) }()
	out.wait(t, "vm> ")
	io.WriteString(typed, "q\t\t")
	out.wait(t, "query-block   query-status")
	peer.Event("STOP", `{"why":"test"}`, 5)
	out.wait(t, `STOP {"why":"test"}`)
	io.WriteString(typed, "s\t\r")
	out.wait(t, "\"running\": true")
	io.WriteString(typed, "nonesuch\r")
	out.wait(t, "qmp: nonesuch: ")
	io.WriteString(typed, "\x04")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// When QEMU ends, so does the shell, though the person does nothing.
func TestInteractEndsWithQEMU(t *testing.T) {
	conn, peer := connect(t)
	keys, typed := io.Pipe()
	defer typed.Close()
	out := newSaid()
	done := make(chan error, 1)
	go func() { done <- Interact(context.Background(), conn, keys, out, "vm> ", 0, 0) }()
	out.wait(t, "vm> ")
	peer.Die()
	if err := <-done; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}
