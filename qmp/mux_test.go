package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qemulet/qemulet/qmp/qmptest"
)

// rawClient speaks QMP by hand, independent of Conn.
type rawClient struct {
	t testing.TB
	net.Conn
	lines *bufio.Reader
}

func newRawClient(t testing.TB, path string) *rawClient {
	t.Helper()
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return &rawClient{t, nc, bufio.NewReader(nc)}
}

func (c *rawClient) line() string {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(qmptest.Patience))
	line, err := c.lines.ReadString('\n')
	if err != nil {
		c.t.Fatalf("raw client: %v after %q", err, line)
	}
	return strings.TrimSuffix(line, "\r\n")
}

// ask sends text and expects one line.
func (c *rawClient) ask(send, want string) {
	c.t.Helper()
	if _, err := io.WriteString(c, send); err != nil {
		c.t.Fatal(err)
	}
	if got := c.line(); got != want {
		c.t.Errorf("sent %q:\n got %s\nwant %s", send, got, want)
	}
}

func (c *rawClient) negotiate() {
	c.t.Helper()
	c.line()
	c.ask(`{"execute":"qmp_capabilities"}`, `{"return": {}}`)
}

// ended expects the end of the stream after whatever is left in it.
func (c *rawClient) ended() {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(qmptest.Patience))
	var timeout net.Error
	if _, err := io.Copy(io.Discard, c.lines); errors.As(err, &timeout) && timeout.Timeout() {
		c.t.Error("raw client: not cut off")
	}
}

// muxOver serves clients of c and returns where.
func muxOver(t testing.TB, c *Conn, opts MuxOptions) (*Mux, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "debug.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	m := NewMux(c, opts)
	served := make(chan error, 1)
	go func() { served <- m.Serve(l) }()
	t.Cleanup(func() {
		m.Close()
		<-served
	})
	return m, path
}

const expecting = `"error": {"class":"CommandNotFound","desc":"Expecting capabilities negotiation with 'qmp_capabilities'"}}`

func TestMuxNegotiation(t *testing.T) {
	c := served(t, qmptest.Script{"query-name": struct{}{}})
	_, path := muxOver(t, c, MuxOptions{})
	r := newRawClient(t, path)
	var g message
	if err := json.Unmarshal([]byte(r.line()), &g); err != nil || g.Greeting.Version != c.Version() {
		t.Errorf("greeting: %+v, %v", g.Greeting, err)
	}
	r.ask(`{"execute":"query-name","id":[1]}`, `{"id": [1], `+expecting)
	r.ask(`{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}`,
		`{"error": {"class":"GenericError","desc":"Capability oob not available"}}`)
	r.ask(`{"execute":"qmp_capabilities","arguments":{"bla":1},"id":1}`,
		`{"id": 1, "error": {"class":"GenericError","desc":"Parameter 'bla' is unexpected"}}`)
	r.ask(`{"execute":"qmp_capabilities","arguments":{"enable":7}}`,
		`{"error": {"class":"GenericError","desc":"Invalid parameter type for 'enable', expected: array"}}`)
	r.ask(`{"execute":"qmp_capabilities","arguments":{"enable":[]},"id":"x"}`, `{"return": {}, "id": "x"}`)
	r.ask(`{"execute":"qmp_capabilities","id":2}`,
		`{"id": 2, "error": {"class":"CommandNotFound","desc":"Capabilities negotiation is already complete, command ignored"}}`)
	r.ask(`{"execute":"query-name","id":3}`, `{"return": {}, "id": 3}`)
}

// What a client of the real QEMU 7.2 is told for the same input, but for the words
// after "JSON parse error".
func TestMuxBadInput(t *testing.T) {
	c := served(t, qmptest.Script{"query-name": struct{}{}})
	_, path := muxOver(t, c, MuxOptions{})
	r := newRawClient(t, path)
	r.negotiate()
	generic := func(id, desc string) string {
		return `{` + id + `"error": {"class":"GenericError","desc":"` + desc + `"}}`
	}
	for _, test := range []struct{ send, want string }{
		{`[1,2]`, generic("", "QMP input must be a JSON object")},
		{"5\n", generic("", "QMP input must be a JSON object")},
		{`"string"`, generic("", "QMP input must be a JSON object")},
		{`{}`, generic("", "QMP input lacks member 'execute'")},
		{`{"id":1}`, generic(`"id": 1, `, "QMP input lacks member 'execute'")},
		{`{"EXECUTE":"query-name"}`, generic("", "QMP input member 'EXECUTE' is unexpected")},
		{`{"execute":5}`, generic("", "QMP input member 'execute' must be a string")},
		{`{"execute":null}`, generic("", "QMP input member 'execute' must be a string")},
		{`{"execute":"x","arguments":5,"id":{"a":[]}}`, generic(`"id": {"a":[]}, `, "QMP input member 'arguments' must be an object")},
		{`{"execute":"x","foo":1,"id":7}`, generic(`"id": 7, `, "QMP input member 'foo' is unexpected")},
		{`{"exec-oob":"x","id":7}`, generic(`"id": 7, `, "QMP input member 'exec-oob' is unexpected")},
		{`{"execute":"x","execute":"y"}`, generic("", "JSON parse error, duplicate key")},
		{"\xff", generic("", "JSON parse error, stray '\uFFFD'")},
		{"{\"execute\": \"que\x01", generic("", `JSON parse error, stray '\u0001'`)},
		{"{\"execute\":\"\xc3\x28\"}", generic("", "JSON parse error, invalid UTF-8 sequence in string")},
		{strings.Repeat("[", 1100) + strings.Repeat("]", 1100) + "\n", generic("", "JSON nesting depth limit exceeded")},
		{`{"execute":"` + strings.Repeat("x", maxCommand) + "\"}\n", generic("", "JSON token size limit exceeded")},
		{"{'execute':'query-name','id':'it\\'s \"q\"'}", `{"return": {}, "id": "it's \"q\""}`},
		{"{\"execute\":\n\"query-name\"\t}", `{"return": {}}`},
	} {
		r.ask(test.send, test.want)
	}
	io.WriteString(r, "{bad json\n}")
	if got := r.line(); !strings.Contains(got, `"class":"GenericError","desc":"JSON parse error, `) {
		t.Errorf("bad JSON: %s", got)
	}
	io.WriteString(r, `{"execute":"query-name","id":1}{"execute":"query-name","id":2}`)
	for _, want := range []string{`{"return": {}, "id": 1}`, `{"return": {}, "id": 2}`} {
		if got := r.line(); got != want {
			t.Errorf("two in one write: got %s, want %s", got, want)
		}
	}
	r.ask(`{"execute":"nonesuch","id":null}`,
		`{"id": null, "error": {"class":"CommandNotFound","desc":"The command nonesuch has not been found"}}`)
}

func TestMuxAllowAndAudit(t *testing.T) {
	c := served(t, qmptest.Script{"query-name": struct{}{}, HumanMonitor: struct{}{}})
	records := make(chan MuxRecord, 8)
	forbidden := errors.New("quit is not relayed: stop the pod instead")
	_, path := muxOver(t, c, MuxOptions{
		Allow: func(command string, args json.RawMessage) error {
			if command == "quit" && string(args) == `{"a":1}` {
				return forbidden
			}
			return nil
		},
		Audit: func(r MuxRecord) { records <- r },
	})
	r := newRawClient(t, path)
	r.negotiate()
	r.ask(`{"execute":"quit","arguments":{"a": 1},"id":1}`, `{"id": 1, "error": {"class":"GenericError","desc":"`+forbidden.Error()+`"}}`)
	r.ask(`{"execute":"query-name","id":1}`, `{"return": {}, "id": 1}`)
	r.ask(`{"execute":"human-monitor-command","arguments":{"command-line":"info status"}}`, `{"return": {}}`)
	for _, want := range []MuxRecord{{Command: "quit", Refused: true, Err: forbidden}, {Command: "query-name"}, {Command: HumanMonitor, Verb: "info"}} {
		got := <-records
		if got.Command != want.Command || got.Verb != want.Verb || got.Err != want.Err || got.Refused != want.Refused || got.Client != 1 || got.PID <= 0 || got.Start.IsZero() {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestMuxEventsAfterNegotiationOnly(t *testing.T) {
	c, peer := negotiated(t)
	_, path := muxOver(t, c, MuxOptions{})
	silent, r := newRawClient(t, path), newRawClient(t, path)
	r.negotiate()
	event := qmptest.EventLine("STOP", `{"big": 9007199254740993}`, 5)
	peer.Line(event)
	if got := r.line(); got != event {
		t.Errorf("got %s, want it as QEMU sent it, %s", got, event)
	}
	silent.negotiate()
	silent.ask(`{"execute":"qmp_capabilities"}`,
		`{"error": {"class":"CommandNotFound","desc":"Capabilities negotiation is already complete, command ignored"}}`)
}

func TestMuxLongReplyAndOrder(t *testing.T) {
	long := strings.Repeat("x", 3<<20)
	c := served(t, qmptest.Script{"long": long, "short": 1})
	_, path := muxOver(t, c, MuxOptions{})
	r := newRawClient(t, path)
	r.negotiate()
	for i := range 5 {
		fmt.Fprintf(r, `{"execute":"long","id":%d}{"execute":"short","id":"s%d"}`, i, i)
	}
	for i := range 5 {
		if got := r.line(); len(got) < len(long) || !strings.HasSuffix(got, fmt.Sprintf(`", "id": %d}`, i)) {
			t.Fatalf("reply %d: %d bytes", i, len(got))
		}
		if got, want := r.line(), fmt.Sprintf(`{"return": 1, "id": "s%d"}`, i); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
}

// A client that reads nothing is cut off when events pile up; until then and after
// it, others and the connection go on.
func TestMuxSlowClientIsCutOff(t *testing.T) {
	c, peer := negotiated(t)
	go func() {
		for {
			cmd, err := peer.Read()
			if err != nil {
				return
			}
			peer.Return(cmd, strings.Repeat("x", 1<<20))
		}
	}()
	m, path := muxOver(t, c, MuxOptions{EventBytes: 64 << 10})
	slow, good := newRawClient(t, path), newRawClient(t, path)
	slow.negotiate()
	good.negotiate()
	for range 20 { // more than the sockets hold: no more than a few are executed
		fmt.Fprint(slow, `{"execute":"query-block"}`)
	}
	pad := strings.Repeat("p", 4000)
	for i := range int64(100) {
		peer.Event("FLOOD", fmt.Sprintf(`{"pad": %q}`, pad), i)
		if got := good.line(); !strings.Contains(got, "FLOOD") {
			t.Fatalf("good client got %.80s", got)
		}
	}
	slow.ended()
	var reply string
	if err := c.Do(t.Context(), "query-block", nil, &reply); err != nil || len(reply) != 1<<20 {
		t.Errorf("daemon's own command: %v", err)
	}
	if m.Close(); len(m.clients) != 0 {
		t.Errorf("%d clients left", len(m.clients))
	}
}

func TestMuxClientLeavesMidCommand(t *testing.T) {
	c, peer := negotiated(t)
	_, path := muxOver(t, c, MuxOptions{})
	leaver := newRawClient(t, path)
	leaver.negotiate()
	fmt.Fprint(leaver, `{"execute":"slow"}`)
	cmd := peer.Expect("slow")
	leaver.Close()
	stay := newRawClient(t, path)
	stay.negotiate()
	go func() {
		peer.Return(cmd, 1)
		peer.Return(peer.Expect("quick"), 2)
	}()
	stay.ask(`{"execute":"quick"}`, `{"return": 2}`)
}

// One who says all at once and leaves, as in `echo ... | socat`, gets his answers.
func TestMuxHalfClosedClient(t *testing.T) {
	c := served(t, qmptest.Script{"query-name": struct{}{}})
	_, path := muxOver(t, c, MuxOptions{})
	r := newRawClient(t, path)
	fmt.Fprint(r, `{"execute":"qmp_capabilities"}{"execute":"query-name"}`)
	r.Conn.(*net.UnixConn).CloseWrite()
	all, err := io.ReadAll(r.lines)
	if err != nil || strings.Count(string(all), `{"return": {}}`) != 2 {
		t.Errorf("got %q, %v", all, err)
	}
}

func TestMuxEndsWithConnection(t *testing.T) {
	c, peer := negotiated(t)
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	m := NewMux(c, MuxOptions{})
	served := make(chan error)
	go func() { served <- m.Serve(l) }()
	r := newRawClient(t, l.Addr().String())
	r.negotiate()
	peer.Event("SHUTDOWN", "", 1)
	peer.Die()
	if got := r.line(); !strings.Contains(got, "SHUTDOWN") {
		t.Errorf("last event: %s", got)
	}
	r.ended()
	if err := <-served; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Serve: %v", err)
	}
	late, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	if err := NewMux(c, MuxOptions{}).Serve(late); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Serve on an ended connection: %v", err)
	}
	m.Close()
	m.Close()
}

func TestMuxCloseCancelsCommands(t *testing.T) {
	c, peer := negotiated(t)
	m, path := muxOver(t, c, MuxOptions{})
	var clients sync.WaitGroup
	for range 3 {
		r := newRawClient(t, path)
		r.negotiate()
		fmt.Fprint(r, `{"execute":"slow"}`)
		clients.Go(r.ended)
	}
	for range 3 {
		peer.Expect("slow")
	}
	m.Close()
	clients.Wait()
	if c.Err() != nil {
		t.Errorf("the shared connection ended too: %v", c.Err())
	}
}

// A connection that the caller brings has a rule of its own, and ends with its
// context.
func TestMuxServeConn(t *testing.T) {
	c := served(t, qmptest.Script{"query-name": struct{}{}})
	refuseAll := func(string, json.RawMessage) error { return errors.New("no") }
	m, path := muxOver(t, c, MuxOptions{Allow: refuseAll})
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.ServeConn(ctx, theirs, nil)
	}()
	r := &rawClient{t, ours, bufio.NewReader(ours)}
	r.negotiate()
	r.ask(`{"execute":"query-name","id":1}`, `{"return": {}, "id": 1}`)
	other := newRawClient(t, path)
	other.negotiate()
	other.ask(`{"execute":"query-name"}`, `{"error": {"class":"GenericError","desc":"no"}}`)
	cancel()
	<-done
	r.ended()
	m.Close()
	m.ServeConn(context.Background(), theirs, nil) // returns at once
}
