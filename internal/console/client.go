package console

import (
	"io"
	"sync"
)

// client is the queue between the Hub, which never waits, and the writer of
// one attached client, which may.
type client struct {
	limit int
	wake  chan struct{} // capacity 1: the queue or a flag has changed
	slow  chan struct{} // closed when the client is cut off

	mu      sync.Mutex
	queue   []byte
	pending int  // bytes queued or being written
	ended   bool // nothing will be added any more
	stopped bool // nothing may be written any more
}

func newClient(limit int) *client {
	return &client{limit: limit, wake: make(chan struct{}, 1), slow: make(chan struct{})}
}

// put queues a copy of p. It is false when the client has to be cut off.
// The Hub calls it, and never again after it was false.
func (c *client) put(p []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return true // it is leaving
	}
	if c.pending+len(p) > c.limit {
		c.stopped, c.queue = true, nil
		close(c.slow)
		c.poke()
		return false
	}
	c.queue = append(c.queue, p...)
	c.pending += len(p)
	c.poke()
	return true
}

// finish says that the console has ended.
func (c *client) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.poke()
}

// stop forbids further writes: a running one may still end, none begins.
func (c *client) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped, c.queue = true, nil
	c.poke()
}

func (c *client) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// writeTo moves the queue to out until the console has ended and all is
// written (nil), a write fails, or the client is stopped (nil).
func (c *client) writeTo(out io.Writer) error {
	for range c.wake {
		for {
			p := c.take()
			if len(p) == 0 {
				break
			}
			if _, err := out.Write(p); err != nil {
				return err
			}
			c.written(len(p))
		}
		if c.over() {
			return nil
		}
	}
	return nil
}

// take removes everything from the queue. The memory goes with it: a client
// to whom nothing is said holds none.
func (c *client) take() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return nil
	}
	p := c.queue
	c.queue = nil
	return p
}

func (c *client) written(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending -= n
}

func (c *client) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopped || c.ended && len(c.queue) == 0
}
