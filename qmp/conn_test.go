package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	goqemu "github.com/digitalocean/go-qemu/qmp"
	"github.com/qemulet/qemulet/qmp/qmptest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// negotiated returns a connection and the peer that it has negotiated with.
func negotiated(t testing.TB) (*Conn, *qmptest.Peer) {
	t.Helper()
	nc, peer := qmptest.New(t)
	ready := make(chan struct{})
	go func() { defer close(ready); peer.Negotiate() }()
	c, err := New(t.Context(), nc)
	<-ready
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, peer
}

// served returns a connection to a peer that answers by the script.
func served(t testing.TB, s qmptest.Script) *Conn {
	t.Helper()
	nc, peer := qmptest.New(t)
	var serving sync.WaitGroup
	serving.Go(func() { peer.Serve(s) })
	c, err := New(t.Context(), nc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); serving.Wait() })
	return c
}

// Defect 1 of go-qemu's SocketMonitor: a reply above 64 KiB killed the connection.
func TestLongReplies(t *testing.T) {
	c := served(t, qmptest.Script{"size": func(cmd qmptest.Command) (any, error) {
		var n int
		err := json.Unmarshal(cmd.Arguments, &struct{ N *int }{&n})
		return strings.Repeat("x", n), err
	}})
	for _, n := range []int{0, 4000, 4096, 64<<10 - 20, 64 << 10, 64<<10 + 1, 1 << 20, 15 << 20} {
		var got string
		if err := c.Do(t.Context(), "size", map[string]int{"N": n}, &got); err != nil || len(got) != n {
			t.Fatalf("reply of %d bytes: got %d, %v", n, len(got), err)
		}
	}
	err := c.Do(t.Context(), "size", map[string]int{"N": 16 << 20}, nil)
	if !errors.Is(err, ErrTooLong) {
		t.Errorf("reply above the limit: got %v, want ErrTooLong", err)
	}
}

// Defect 2: what came in one piece with the handshake was lost.
func TestEventsGluedToHandshake(t *testing.T) {
	nc, peer := qmptest.New(t)
	ready := make(chan struct{})
	go func() {
		defer close(ready)
		peer.Hold()
		peer.Event("BEFORE_GREETING", "", 1)
		peer.Greet()
		peer.Release()
		caps := peer.Expect("qmp_capabilities")
		peer.Hold()
		peer.Event("BEFORE_REPLY", "", 2)
		peer.Return(caps, struct{}{})
		peer.Event("AFTER_REPLY", "", 3)
		peer.Release()
	}()
	c, err := New(t.Context(), nc)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-ready
	// The last event may still be on its way: the subscription gets it either way.
	sub := c.Subscribe(8, nil)
	for _, want := range []string{"BEFORE_GREETING", "BEFORE_REPLY", "AFTER_REPLY"} {
		if e := <-sub.C; e.Event != want {
			t.Errorf("got the event %s, want %s", e.Event, want)
		}
	}
}

// Defect 3: a subscriber that did not read held up commands and the end.
func TestUndrainedSubscriberBlocksNobody(t *testing.T) {
	c, peer := negotiated(t)
	sub := c.Subscribe(1, nil)
	monitorEvents, err := c.Monitor().Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for i := range int64(1000) {
			peer.Event("E", "", i)
		}
		peer.Return(peer.Expect("query-status"), Status{Running: true, Status: RunStateRunning})
	}()
	if _, err := c.QueryStatus(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if e, ok := <-sub.C; !ok || EventTime(e) != time.UnixMicro(0) {
		t.Errorf("first event: %v %v", e, ok)
	}
	if !sub.Lagged() {
		t.Error("a subscription that lost events does not say so")
	}
	if sub.Lagged() {
		t.Error("it says so twice for the same loss")
	}
	if _, ok := <-sub.C; ok {
		t.Error("subscription open after Close")
	}
	n := 0
	for range monitorEvents {
		n++
	}
	if n == 0 || n > 1000 {
		t.Errorf("monitor delivered %d events", n)
	}
}

// Defect 4: no deadline on the greeting.
func TestGreetingHasDeadline(t *testing.T) {
	nc, _ := qmptest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := New(ctx, nc); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silent peer: got %v, want DeadlineExceeded", err)
	}
	if _, err := nc.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("socket not closed after failure: %v", err)
	}
}

func TestGreetingHasDeadlineByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nc, silent := net.Pipe()
		defer silent.Close()
		start := time.Now()
		_, err := New(context.Background(), nc)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != greetingTimeout {
			t.Errorf("silent peer: got %v after %v", err, time.Since(start))
		}
	})
}

// Defect 5: the end of the stream surfaced as a JSON error. Here the peer dies at
// each byte of a conversation.
func TestDeathAtEachByte(t *testing.T) {
	for n := 0; ; n++ {
		died, err := converseUntilDeath(t, n)
		if !died {
			if err != nil {
				t.Fatalf("complete conversation: %v", err)
			}
			return
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("death after %d bytes: %v, want one that wraps ErrUnexpectedEOF", n, err)
		}
		named := []string{"greeting", "qmp_capabilities", "query-status"}
		if !containsAny(err.Error(), named) {
			t.Fatalf("death after %d bytes: %q names none of %q", n, err, named)
		}
	}
}

func containsAny(s string, words []string) bool {
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

func converseUntilDeath(t *testing.T, n int) (died bool, err error) {
	nc, peer := qmptest.New(t)
	peer.DieAfter(n)
	finished := make(chan bool)
	go func() {
		peer.Greet()
		for _, answer := range []any{struct{}{}, Status{Running: true}} {
			cmd, err := peer.Read()
			if err != nil {
				finished <- false
				return
			}
			peer.Event("E", "", 1)
			peer.Return(cmd, answer)
		}
		_, err := peer.Read() // waits for the client's end, unless dead
		finished <- errors.Is(err, net.ErrClosed) || err == io.EOF
	}()
	c, err := New(t.Context(), nc)
	if err == nil {
		_, err = c.QueryStatus(t.Context())
		c.Close()
	}
	<-finished
	return err != nil, err
}

func TestConnectionEndIsNamed(t *testing.T) {
	c, peer := negotiated(t)
	peer.Die()
	<-c.Done()
	if err := c.Err(); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrClosed) {
		t.Errorf("after QEMU's end: %v", err)
	}
	err := c.Cont(t.Context())
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "cont") {
		t.Errorf("command after QEMU's end: %v", err)
	}
	if _, ok := <-c.Subscribe(1, nil).C; ok {
		t.Error("subscription after the end is open")
	}
}

func TestCloseFailsCommandsUnderWay(t *testing.T) {
	c, peer := negotiated(t)
	errs := make(chan error)
	go func() { errs <- c.Stop(context.Background()) }()
	peer.Expect("stop")
	c.Close()
	c.Close()
	if err := <-errs; !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), "stop") {
		t.Errorf("command under way: %v", err)
	}
	if err := c.Err(); !errors.Is(err, ErrClosed) {
		t.Errorf("Err after Close: %v", err)
	}
	if err := c.Stop(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("command after Close: %v", err)
	}
}

// Defect 6: an id that was not a string broke the connection.
func TestIDsOfAnyType(t *testing.T) {
	c := served(t, qmptest.Script{"query-name": map[string]string{"name": "vm"}})
	m := c.Monitor()
	for _, id := range []string{`7`, `-1.5`, `"seven"`, `null`, `true`, `[1,{"a":2}]`, `{"b":[]}`} {
		got, err := m.Run([]byte(`{"execute":"query-name","id":` + id + `}`))
		if want := `{"return": {"name":"vm"}, "id": ` + id + `}`; err != nil || string(got) != want {
			t.Errorf("id %s: got %s, %v, want %s", id, got, err, want)
		}
	}
	got, err := m.Run([]byte("{\"execute\":\"query-name\"}\n"))
	if want := `{"return": {"name":"vm"}}`; err != nil || string(got) != want {
		t.Errorf("no id: got %s, %v, want %s", got, err, want)
	}
}

func TestForeignIDsAreIgnored(t *testing.T) {
	c, peer := negotiated(t)
	go func() {
		cmd := peer.Expect("query-status")
		for _, id := range []string{`"x"`, `-1`, `99`, `{}`, `null`} {
			peer.Line(`{"return": {"status": "paused"}, "id": ` + id + `}`)
		}
		peer.Line(`{"unheard-of": 1}`)
		peer.Line(``)
		peer.Return(cmd, Status{Status: RunStateShutdown})
	}()
	s, err := c.QueryStatus(t.Context())
	if err != nil || s.Status != RunStateShutdown {
		t.Errorf("got %v, %v", s, err)
	}
}

// Defect 7: replies were handed out in a buffer that the next read overwrote.
func TestRepliesDoNotAlias(t *testing.T) {
	c, peer := negotiated(t)
	const rounds = 200
	go func() {
		for i := range rounds {
			cmd := peer.Expect("echo")
			peer.Hold()
			peer.Return(cmd, strings.Repeat(fmt.Sprintf("%04d", i), 50))
			peer.Event("NOISE", fmt.Sprintf(`{"pad": %q}`, strings.Repeat("z", 300)), 1)
			peer.Release()
		}
	}()
	sub := c.Subscribe(rounds, nil)
	var got [rounds]json.RawMessage
	for i := range rounds {
		if err := c.Do(t.Context(), "echo", nil, &got[i]); err != nil {
			t.Fatal(err)
		}
	}
	for i := range rounds {
		<-sub.C
		if want := `"` + strings.Repeat(fmt.Sprintf("%04d", i), 50) + `"`; string(got[i]) != want {
			t.Fatalf("reply %d became %s", i, got[i])
		}
	}
}

func TestFragmentsAndManyCallers(t *testing.T) {
	nc, peer := qmptest.New(t)
	peer.Fragment = 1
	var serving sync.WaitGroup
	serving.Go(func() {
		peer.Serve(qmptest.Script{"double": func(cmd qmptest.Command) (any, error) {
			var a struct{ N int }
			err := json.Unmarshal(cmd.Arguments, &a)
			peer.Event("BETWEEN", `{}`, 1)
			return 2 * a.N, err
		}})
	})
	c, err := New(t.Context(), nc)
	if err != nil {
		t.Fatal(err)
	}
	var callers sync.WaitGroup
	for i := range 20 {
		callers.Go(func() {
			var got int
			if err := c.Do(t.Context(), "double", map[string]int{"N": i}, &got); err != nil || got != 2*i {
				t.Errorf("double %d: %d, %v", i, got, err)
			}
		})
	}
	callers.Wait()
	c.Close()
	serving.Wait()
}

func TestGarbageEndsConnection(t *testing.T) {
	c, peer := negotiated(t)
	peer.Line("HTTP/1.1 400 Bad Request")
	<-c.Done()
	if err := c.Err(); !errors.Is(err, ErrProtocol) {
		t.Errorf("got %v, want ErrProtocol", err)
	}
}

func TestControlCharactersInReply(t *testing.T) {
	c, peer := negotiated(t)
	go func() {
		cmd := peer.Expect("human-monitor-command")
		peer.Raw("\x01\x01" + `{"return": "a` + "\x1b[1m" + `\"b\\` + "\x00" + `", "id": ` + string(cmd.ID) + "}\r\n")
	}()
	got, err := c.HumanMonitorCommand(t.Context(), "info")
	if want := "a\x1b[1m\"b\\\x00"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestErrorsCarryTheirClass(t *testing.T) {
	c := served(t, qmptest.Script{"balloon": func(qmptest.Command) (any, error) {
		return nil, qmptest.Refusal{Class: ClassDeviceNotActive, Desc: "No balloon device has been activated"}
	}})
	err := c.Balloon(t.Context(), 1)
	var e *Error
	if !errors.As(err, &e) || *e != (Error{ClassDeviceNotActive, "No balloon device has been activated", "balloon"}) {
		t.Errorf("got %#v", err)
	}
	if !IsClass(fmt.Errorf("around: %w", err), ClassDeviceNotActive) || IsClass(err, ClassGenericError) {
		t.Error("IsClass")
	}
}

func TestVersion(t *testing.T) {
	c, _ := negotiated(t)
	if v := c.Version(); v.String() != "7.2.22" || v.Package != "qmptest" {
		t.Errorf("got %v %q", v, v.Package)
	}
}

func TestEventsAreDecodedWithTime(t *testing.T) {
	c, peer := negotiated(t)
	sub := c.Subscribe(4, func(e goqemu.Event) bool { return e.Event == "SHUTDOWN" })
	other := c.Subscribe(4, nil)
	peer.Event("RESET", "", 1)
	peer.Event("SHUTDOWN", `{"guest": true, "reason": "guest-shutdown"}`, 1_700_000_000_123_456)
	e := <-sub.C
	if e.Data["reason"] != "guest-shutdown" || !EventTime(e).Equal(time.UnixMicro(1_700_000_000_123_456)) {
		t.Errorf("got %v at %v", e, EventTime(e))
	}
	e.Data["reason"] = "changed"
	<-other.C
	if e := <-other.C; e.Data["reason"] != "guest-shutdown" {
		t.Error("subscribers share an event's data")
	}
	sub.Close()
	sub.Close()
	if _, ok := <-sub.C; ok {
		t.Error("closed subscription is open")
	}
	unknown := goqemu.Event{}
	unknown.Timestamp.Seconds = -1
	if !EventTime(unknown).IsZero() {
		t.Error("time that QEMU could not tell is not zero")
	}
}
