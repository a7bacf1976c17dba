package qmp

import (
	"bytes"
	"encoding/json"
	"sync/atomic"
	"time"

	goqemu "github.com/digitalocean/go-qemu/qmp"
)

// earlyEvents is how many events are kept for the first subscriber. QEMU may send
// one together with the end of the negotiation, when nobody can have subscribed.
const earlyEvents = 64

// Subscription is a stream of events. C has room for a fixed number; what does
// not fit is dropped, so that one who does not read holds up nobody.
type Subscription struct {
	// C delivers the events in QEMU's order. It is closed when the connection
	// ends or by Close.
	C <-chan goqemu.Event

	c      chan goqemu.Event
	match  func(goqemu.Event) bool
	conn   *Conn
	lagged atomic.Bool
}

// Subscribe delivers events for which match returns true, all if match is nil.
// buf is how many may wait in C, at least one. match is called by the reader:
// it must be quick and must not use the connection.
//
// The first subscriber also gets what came between the negotiation and its call.
// QEMU does not repeat events to a new connection: after an adoption ask for the
// state after subscribing. Numbers in Data are float64 as in go-qemu.
func (c *Conn) Subscribe(buf int, match func(goqemu.Event) bool) *Subscription {
	ch := make(chan goqemu.Event, max(buf, 1))
	s := &Subscription{C: ch, c: ch, match: match, conn: c}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, line := range c.early {
		s.deliverLine(line)
	}
	c.early = nil
	if c.err != nil {
		close(ch)
		return s
	}
	if c.subs == nil {
		c.subs = make(map[*Subscription]struct{})
	}
	c.subs[s] = struct{}{}
	return s
}

// Close ends the subscription and closes C. Events in C can still be read. It may
// be called any number of times.
func (s *Subscription) Close() {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, open := c.subs[s]; open {
		delete(c.subs, s)
		close(s.c)
	}
}

// Lagged tells whether events were dropped since it was last asked; then the
// state must be queried. Events are only dropped while C is full, so asking after
// each receive misses nothing.
func (s *Subscription) Lagged() bool { return s.lagged.Swap(false) }

// deliver never blocks. Caller holds the connection's lock.
func (s *Subscription) deliver(e goqemu.Event) {
	if s.match != nil && !s.match(e) {
		return
	}
	select {
	case s.c <- e:
	default:
		s.lagged.Store(true)
	}
}

func (s *Subscription) deliverLine(line []byte) {
	if e, err := decodeEvent(line); err == nil {
		s.deliver(e)
	}
}

func decodeEvent(line []byte) (e goqemu.Event, err error) {
	return e, json.Unmarshal(line, &e)
}

// publish hands an event to all who listen. Each gets a decoded event of its own:
// its Data is a map that a receiver may change.
func (c *Conn) publish(line []byte) {
	c.mu.Lock()
	for s := range c.subs {
		s.deliverLine(line)
	}
	if c.subs == nil && len(c.early) < earlyEvents {
		c.early = append(c.early, bytes.Clone(line))
	}
	taps := c.taps
	c.mu.Unlock()
	for _, t := range taps {
		t.event(line)
	}
}

// addTap registers t; an ended connection calls t.ended at once.
func (c *Conn) addTap(t tap) {
	c.mu.Lock()
	ended := c.err != nil
	if !ended {
		c.taps = append(c.taps[:len(c.taps):len(c.taps)], t) // publish reads the old one
	}
	c.mu.Unlock()
	if ended {
		t.ended()
	}
}

func (c *Conn) removeTap(t tap) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var rest []tap
	for _, other := range c.taps {
		if other != t {
			rest = append(rest, other)
		}
	}
	c.taps = rest
}

// EventTime returns when QEMU sent the event, by the host's clock; zero if QEMU
// could not tell.
func EventTime(e goqemu.Event) time.Time {
	if e.Timestamp.Seconds < 0 {
		return time.Time{}
	}
	return time.Unix(e.Timestamp.Seconds, e.Timestamp.Microseconds*int64(time.Microsecond))
}
