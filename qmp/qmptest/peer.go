// Package qmptest plays QEMU's side of a QMP connection in tests: step by step
// with a [Peer], which can also misbehave on the wire, or by a table with [Serve].
package qmptest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// Patience is how long a Peer waits for the other side before the test fails.
const Patience = 20 * time.Second

// Version is what a Peer claims to be.
const Version = `{"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "qmptest"}`

// Command is what a Peer read.
type Command struct {
	Execute   string          `json:"execute"`
	Arguments json.RawMessage `json:"arguments"`
	ID        json.RawMessage `json:"id"`
	Files     []*os.File      `json:"-"` // that came along; closed at the end of the test
}

// Peer is QEMU's side of one connection. Its methods report failures to the test
// without ending the goroutine, so they can be used in any.
type Peer struct {
	Wire // what it writes to

	t     testing.TB
	uc    *net.UnixConn
	lines *bufio.Reader
	files []*os.File
}

// New returns the two ends of a unix socket pair: a connection for the client under
// test, which takes it over, and the peer at the other end, which is closed at the
// end of the test.
func New(t testing.TB) (net.Conn, *Peer) {
	t.Helper()
	client, server := Pair(t)
	p := &Peer{t: t, uc: server, Wire: Wire{conn: server}}
	p.lines = bufio.NewReader(withFiles{p})
	t.Cleanup(p.end)
	return client, p
}

// Pair returns a connected pair of unix sockets, not closed by anyone.
func Pair(t testing.TB) (*net.UnixConn, *net.UnixConn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("socket pair: %v", err)
	}
	return unixConn(t, fds[0]), unixConn(t, fds[1])
}

func unixConn(t testing.TB, fd int) *net.UnixConn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "socketpair")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatalf("socket pair: %v", err)
	}
	return c.(*net.UnixConn)
}

func (p *Peer) end() {
	p.uc.Close()
	for _, f := range p.files {
		f.Close()
	}
}

// withFiles reads from a peer's socket and keeps the descriptors that come.
type withFiles struct{ peer *Peer }

func (r withFiles) Read(b []byte) (int, error) {
	oob := make([]byte, 256)
	n, oobn, _, _, err := r.peer.uc.ReadMsgUnix(b, oob)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, io.EOF
	}
	messages, _ := syscall.ParseSocketControlMessage(oob[:oobn])
	for i := range messages {
		fds, _ := syscall.ParseUnixRights(&messages[i])
		for _, fd := range fds {
			r.peer.files = append(r.peer.files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return n, nil
}

// Greet sends the greeting.
func (p *Peer) Greet() { p.Line(`{"QMP": {"version": ` + Version + `, "capabilities": ["oob"]}}`) }

// Negotiate sends the greeting and accepts the client's qmp_capabilities.
func (p *Peer) Negotiate() {
	p.Greet()
	p.Return(p.Expect("qmp_capabilities"), struct{}{})
}

// Expect reads the next command and reports an error if it is another one.
func (p *Peer) Expect(name string) Command {
	p.t.Helper()
	c, err := p.Read()
	if err != nil {
		p.t.Errorf("peer waits for %s: %v", name, err)
	} else if c.Execute != name {
		p.t.Errorf("peer got the command %q, want %q", c.Execute, name)
	}
	return c
}

// Read reads the next command.
func (p *Peer) Read() (Command, error) {
	var c Command
	p.uc.SetReadDeadline(time.Now().Add(Patience))
	before := len(p.files)
	line, err := p.lines.ReadBytes('\n')
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(line, &c); err != nil {
		return c, fmt.Errorf("command %q: %w", line, err)
	}
	c.Files = p.files[before:]
	return c, nil
}

// Return answers a command.
func (p *Peer) Return(c Command, value any) {
	p.t.Helper()
	ret, err := json.Marshal(value)
	if err != nil {
		p.t.Errorf("peer's answer: %v", err)
	}
	p.Line(fmt.Sprintf(`{"return": %s%s}`, ret, echo(c, `, "id": %s`)))
}

// Refuse answers a command with an error.
func (p *Peer) Refuse(c Command, class, desc string) {
	p.Line(fmt.Sprintf(`{%s"error": {"class": %q, "desc": %q}}`, echo(c, `"id": %s, `), class, desc))
}

// Event sends an event that happened at the given microsecond since 1970.
func (p *Peer) Event(name, data string, at int64) { p.Line(EventLine(name, data, at)) }

// EventLine is an event as QEMU writes it. data is a JSON object or empty.
func EventLine(name, data string, at int64) string {
	if data != "" {
		data = `, "data": ` + data
	}
	return fmt.Sprintf(`{"timestamp": {"seconds": %d, "microseconds": %d}, "event": %q%s}`, at/1e6, at%1e6, name, data)
}

func echo(c Command, format string) string {
	if c.ID == nil {
		return ""
	}
	return fmt.Sprintf(format, c.ID)
}
