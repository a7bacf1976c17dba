package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	clientWriteTime  = 30 * time.Second // a client that takes nothing for that long is cut off
	clientWriteChunk = 64 << 10         // bytes that it must take in that time
	repliesAhead     = 64 << 10         // unread bytes of replies beyond which no command is read
)

// muxClient is one client of a Mux. A goroutine reads and relays its commands,
// another writes what is queued for it.
type muxClient struct {
	mux      *Mux
	id       uint64
	nc       net.Conn
	allow    MuxRule
	pid, uid int
	left     chan struct{} // closed when it has been let go of

	mu         sync.Mutex
	changed    sync.Cond
	queue      []muxLine
	events     int // bytes of events in queue or being written
	replies    int // bytes of replies likewise
	negotiated bool
	finishing  bool // nothing is added any more; the queue is still written
	gone       bool
}

type muxLine struct {
	bytes []byte
	event bool
}

func newMuxClient(m *Mux, id uint64, nc net.Conn, allow MuxRule) *muxClient {
	c := &muxClient{mux: m, id: id, nc: nc, allow: allow, left: make(chan struct{})}
	c.changed.L = &c.mu
	c.pid, c.uid = peer(nc)
	return c
}

// peer returns the process at the other end, -1 if unknown.
func peer(nc net.Conn) (pid, uid int) {
	pid, uid = -1, -1
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return pid, uid
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return pid, uid
	}
	rc.Control(func(fd uintptr) {
		if cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			pid, uid = int(cred.Pid), int(cred.Uid)
		}
	})
	return pid, uid
}

// serve reads commands and answers them until the client leaves.
func (c *muxClient) serve(ctx context.Context) {
	defer c.finish()
	c.postLine(c.mux.greetingLine())
	scanner := newCommandScanner(c.nc)
	for c.roomForReply() {
		value, err := scanner.next()
		var bad syntaxError
		switch {
		case errors.As(err, &bad):
			c.postLine(errorLine(ClassGenericError, string(bad), nil))
		case err != nil:
			return
		default:
			c.answer(ctx, value)
		}
	}
}

// answer executes one command and queues its reply.
func (c *muxClient) answer(ctx context.Context, value []byte) {
	cmd, err := parseCommand(value)
	if err != nil {
		c.postLine(errorLine(ClassGenericError, err.Error(), cmd.id))
		return
	}
	if cmd.name == "qmp_capabilities" || !c.isNegotiated() {
		c.negotiate(cmd)
		return
	}
	start := time.Now()
	ret, refused, err := c.relay(ctx, cmd)
	rec := MuxRecord{Command: cmd.name, Start: start, Duration: time.Since(start), Refused: refused, Err: err}
	if cmd.name == HumanMonitor {
		rec.Verb = HumanVerb(cmd.args)
	}
	c.audit(rec)
	if err != nil {
		class, desc := refusal(err)
		c.postLine(errorLine(class, desc, cmd.id))
		return
	}
	c.postLine(returnLine(ret, cmd.id))
}

func (c *muxClient) relay(ctx context.Context, cmd command) (ret json.RawMessage, refused bool, err error) {
	if c.allow != nil {
		if err := c.allow(cmd.name, cmd.args); err != nil {
			return nil, true, err
		}
	}
	ret, err = c.mux.conn.relay(ctx, cmd.name, cmd.args)
	return ret, false, err
}

// refusal is what a client is told: QEMU's own words if they are QEMU's.
func refusal(err error) (class, desc string) {
	var e *Error
	if errors.As(err, &e) {
		return e.Class, e.Desc
	}
	return ClassGenericError, err.Error()
}

func (c *muxClient) audit(r MuxRecord) {
	if c.mux.opts.Audit != nil {
		r.Client, r.PID, r.UID = c.id, c.pid, c.uid
		c.mux.opts.Audit(r)
	}
}

// negotiate answers qmp_capabilities, and anything else that comes before it.
// Events flow from the moment that the reply is queued.
func (c *muxClient) negotiate(cmd command) {
	class, desc := c.negotiationError(cmd)
	if desc != "" {
		c.postLine(errorLine(class, desc, cmd.id))
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.negotiated = true
	c.add(muxLine{bytes: append(returnLine(json.RawMessage("{}"), cmd.id), "\r\n"...)})
}

func (c *muxClient) negotiationError(cmd command) (class, desc string) {
	if cmd.name != "qmp_capabilities" {
		return ClassCommandNotFound, "Expecting capabilities negotiation with 'qmp_capabilities'"
	}
	if c.isNegotiated() {
		return ClassCommandNotFound, "Capabilities negotiation is already complete, command ignored"
	}
	return ClassGenericError, badCapabilities(cmd.args)
}

// badCapabilities refuses what is not on offer, which is everything.
func badCapabilities(args json.RawMessage) string {
	if args == nil {
		return ""
	}
	members, err := objectMembers(args)
	if err != nil {
		return err.Error()
	}
	for name := range members {
		if name != "enable" {
			return "Parameter '" + name + "' is unexpected"
		}
	}
	var enable []string
	if list, ok := members["enable"]; ok && (json.Unmarshal(list, &enable) != nil || list[0] != '[') {
		return "Invalid parameter type for 'enable', expected: array"
	}
	if len(enable) > 0 {
		return "Capability " + enable[0] + " not available"
	}
	return ""
}

func (c *muxClient) isNegotiated() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.negotiated
}

// roomForReply waits until the client has read its earlier replies. False means
// that the client is gone.
func (c *muxClient) roomForReply() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.replies > repliesAhead && !c.gone {
		c.changed.Wait()
	}
	return !c.gone && !c.finishing
}

func (c *muxClient) postLine(line []byte) { c.post(append(line, "\r\n"...), false) }

// post queues bytes for the client and never blocks. A client that leaves too
// many events unread is cut off.
func (c *muxClient) post(b []byte, event bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if event && !c.negotiated {
		return
	}
	if event && c.events+len(b) > c.mux.opts.EventBytes {
		c.drop()
		return
	}
	c.add(muxLine{b, event})
}

// add queues a line. Caller holds c.mu.
func (c *muxClient) add(l muxLine) {
	if c.gone || c.finishing {
		return
	}
	c.queue = append(c.queue, l)
	c.count(l, len(l.bytes))
	c.changed.Broadcast()
}

func (c *muxClient) count(l muxLine, bytes int) {
	if l.event {
		c.events += bytes
	} else {
		c.replies += bytes
	}
}

// finish ends the client when its queue is written.
func (c *muxClient) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finishing = true
	c.changed.Broadcast()
}

// cut ends the client at once.
func (c *muxClient) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop()
}

// drop is cut for one who holds c.mu.
func (c *muxClient) drop() {
	c.gone = true
	c.queue = nil
	c.nc.Close()
	c.changed.Broadcast()
}

// write sends what is queued until the client is gone. It is the last to let go of
// the client.
func (c *muxClient) write() {
	defer close(c.left)
	defer c.mux.leave(c)
	defer c.cut()
	for {
		l, ok := c.next()
		if !ok || !c.send(l.bytes) {
			return
		}
		c.mu.Lock()
		c.count(l, -len(l.bytes))
		c.changed.Broadcast()
		c.mu.Unlock()
	}
}

// next waits for a line to write.
func (c *muxClient) next() (muxLine, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) == 0 {
		if c.finishing || c.gone {
			return muxLine{}, false
		}
		c.changed.Wait()
	}
	l := c.queue[0]
	c.queue = c.queue[1:]
	if len(c.queue) == 0 {
		c.queue = nil
	}
	return l, true
}

// send writes in pieces, each of which the client has a time to take.
func (c *muxClient) send(b []byte) bool {
	for len(b) > 0 {
		c.nc.SetWriteDeadline(time.Now().Add(clientWriteTime))
		n, err := c.nc.Write(b[:min(len(b), clientWriteChunk)])
		if err != nil {
			return false
		}
		b = b[n:]
	}
	return true
}
