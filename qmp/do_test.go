package qmp

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qemulet/qemulet/qmp/qmptest"
)

func TestLateReplyIsDropped(t *testing.T) {
	c, peer := negotiated(t)
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	go func() { errs <- c.Stop(ctx) }()
	late := peer.Expect("stop")
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "stop") {
		t.Errorf("cancelled command: %v", err)
	}
	go func() {
		next := peer.Expect("query-status")
		peer.Return(late, Status{Status: "late"})
		peer.Return(next, Status{Status: RunStateRunning})
	}()
	if s, err := c.QueryStatus(t.Context()); err != nil || s.Status != RunStateRunning {
		t.Errorf("next command got %v, %v", s, err)
	}
	if len(c.pending) != 0 {
		t.Errorf("%d commands left over", len(c.pending))
	}
}

func TestReplyWithoutIDGoesToOldest(t *testing.T) {
	c, peer := negotiated(t)
	seen := c.Subscribe(1, nil)
	peer.Line(`{"error": {"class": "GenericError", "desc": "for nobody"}}`)
	peer.Event("AFTER", "", 1)
	<-seen.C // so the line before it is through
	go func() {
		peer.Expect("first")
		peer.Line(`{"error": {"class": "GenericError", "desc": "JSON parse error"}}`)
		cmd := peer.Expect("second")
		peer.Return(cmd, 2)
	}()
	var e *Error
	if err := c.Do(t.Context(), "first", nil, nil); !errors.As(err, &e) || e.Desc != "JSON parse error" {
		t.Errorf("first: %v", err)
	}
	var n int
	if err := c.Do(t.Context(), "second", nil, &n); err != nil || n != 2 {
		t.Errorf("second: %d, %v", n, err)
	}
}

// A peer that does not read blocks nobody beyond his context, and giving up in the
// middle of a command does not garble the connection.
func TestPeerThatDoesNotRead(t *testing.T) {
	c, peer := negotiated(t)
	big := map[string]string{"pad": strings.Repeat("x", 1<<20)}
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		err := c.Do(ctx, "big", big, nil)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want DeadlineExceeded", err)
		}
	}
	go func() {
		peer.Return(peer.Expect("big"), 0) // the first was begun, the others were not
		peer.Return(peer.Expect("query-status"), Status{Status: RunStateRunning})
	}()
	if s, err := c.QueryStatus(t.Context()); err != nil || s.Status != RunStateRunning {
		t.Errorf("after the peer woke up: %v, %v", s, err)
	}
}

func TestCloseWhileWriting(t *testing.T) {
	c, _ := negotiated(t)
	errs := make(chan error)
	go func() {
		errs <- c.Do(context.Background(), "big", map[string]string{"pad": strings.Repeat("x", 1<<20)}, nil)
	}()
	c.Close()
	if err := <-errs; !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

func TestDefaultTimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nc, silent := net.Pipe()
		go func() {
			silent.Write([]byte(`{"QMP": {"version": ` + qmptest.Version + `}}` + "\n"))
			buf := make([]byte, 4096)
			silent.Read(buf)
			silent.Write([]byte(`{"return": {}, "id": 1}` + "\n"))
			io.Copy(io.Discard, silent)
			silent.Close()
		}()
		c, err := New(t.Context(), nc)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		start := time.Now()
		err = c.Cont(context.Background())
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != patienceQuery {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		if want := "qmp: cont: no reply within 30s: context deadline exceeded"; err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
		if c.Err() != nil {
			t.Error("a slow command ended the connection")
		}
	})
}

func TestPatience(t *testing.T) {
	for command, want := range map[string]time.Duration{
		"query-status": patienceQuery, "cont": patienceQuery, "query-block": patienceQuery,
		"device_add": patienceHotplug, "quit": patienceHotplug, "blockdev-add": patienceHotplug,
		"block_resize": patienceBlockJob, "blockdev-mirror": patienceBlockJob, "drive-backup": patienceBlockJob,
		"migrate": patienceMigration, "migrate_cancel": patienceMigration,
	} {
		if got := patience(command); got != want {
			t.Errorf("%s: got %v, want %v", command, got, want)
		}
	}
}

func TestContextEndedBefore(t *testing.T) {
	c, _ := negotiated(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("pod is gone")
	cancel(why)
	if err := c.Cont(ctx); !errors.Is(err, context.Canceled) || !errors.Is(err, why) {
		t.Errorf("got %v, want Canceled and its cause", err)
	}
}

func TestArgumentsThatDoNotEncode(t *testing.T) {
	c, peer := negotiated(t)
	if err := c.Do(t.Context(), "x", make(chan int), nil); err == nil || !strings.Contains(err.Error(), "qmp: x: encode arguments") {
		t.Errorf("got %v", err)
	}
	go func() {
		cmd := peer.Expect("nil-map")
		if cmd.Arguments != nil {
			t.Errorf("nil map sent as %s", cmd.Arguments)
		}
		peer.Return(cmd, "text")
	}()
	var n int
	err := c.Do(t.Context(), "nil-map", map[string]int(nil), &n)
	if err == nil || !strings.Contains(err.Error(), "decode reply") {
		t.Errorf("reply of another type: %v", err)
	}
}

func TestFilesGoWithTheirCommand(t *testing.T) {
	c, peer := negotiated(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	go func() {
		cmd := peer.Expect("query-status")
		if len(cmd.Files) != 0 {
			t.Error("files with the wrong command")
		}
		peer.Return(cmd, Status{})
		cmd = peer.Expect("two-files")
		if len(cmd.Files) != 2 {
			t.Errorf("got %d files, want 2", len(cmd.Files))
			return
		}
		cmd.Files[1].WriteString("hello")
		peer.Return(cmd, struct{}{})
	}()
	if _, err := c.QueryStatus(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Do(t.Context(), "two-files", nil, nil, r, w); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(r, buf); err != nil || string(buf) != "hello" {
		t.Errorf("through the passed pipe: %q, %v", buf, err)
	}
}

func TestFilesThatCannotBePassed(t *testing.T) {
	c, _ := negotiated(t)
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := c.GetFD(t.Context(), "x", f); err == nil || !strings.Contains(err.Error(), os.DevNull) {
		t.Errorf("closed file: %v", err)
	}
	c.nc = struct{ net.Conn }{c.nc}
	if err := c.GetFD(t.Context(), "x", os.Stdin); err == nil || !strings.Contains(err.Error(), "unix socket") {
		t.Errorf("not a unix socket: %v", err)
	}
	if len(c.pending) != 0 {
		t.Errorf("%d commands left over", len(c.pending))
	}
}

func TestQuitTakesTheEndForSuccess(t *testing.T) {
	c, peer := negotiated(t)
	go func() {
		peer.Expect("quit")
		peer.Die()
	}()
	if err := c.Quit(t.Context()); err != nil {
		t.Errorf("QEMU ended without an answer: %v", err)
	}
	closed, _ := negotiated(t)
	closed.Close()
	if err := closed.Quit(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("quit on a connection that we closed: %v", err)
	}
}

func TestWaitDeviceDeleted(t *testing.T) {
	c, peer := negotiated(t)
	go func() {
		cmd := peer.Expect("qom-list")
		peer.Event("DEVICE_DELETED", `{"device": "other", "path": "/machine/peripheral/other"}`, 1)
		peer.Return(cmd, []QOMProperty{})
		peer.Event("DEVICE_DELETED", `{"path": "/machine/peripheral/d0/x"}`, 1)
		peer.Event("DEVICE_DELETED", `{"device": "d0", "path": "/machine/peripheral/d0"}`, 1)
		peer.Refuse(peer.Expect("qom-list"), ClassDeviceNotFound, "not found")
		peer.Return(peer.Expect("qom-list"), []QOMProperty{})
		peer.Event("DEVICE_UNPLUG_GUEST_ERROR", `{"device": "d0"}`, 1)
	}()
	for _, want := range []error{nil, nil, ErrUnplugRefused} {
		if err := c.WaitDeviceDeleted(t.Context(), "d0"); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
}
