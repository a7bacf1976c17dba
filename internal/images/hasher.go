package images

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
)

const (
	hashBuffers = 4
	bufferSize  = 512 << 10 // bytes
	// smallRead is a read so short that the source has no more at hand.
	smallRead = 16 << 10
)

// hasher computes a SHA-256 in a goroutine of its own, which ends with sum.
type hasher struct {
	free chan []byte
	full chan []byte
	done chan struct{}
	h    hash.Hash
}

func newHasher() *hasher {
	h := &hasher{
		free: make(chan []byte, hashBuffers),
		full: make(chan []byte, hashBuffers),
		done: make(chan struct{}),
		h:    sha256.New(),
	}
	for range hashBuffers {
		h.free <- nil // made when needed: many images are small
	}
	go h.run(h.full)
	return h
}

func (h *hasher) run(full <-chan []byte) {
	defer close(h.done)
	for b := range full {
		h.h.Write(b)
		h.free <- b
	}
}

// buffer returns a buffer that must be given back with add.
func (h *hasher) buffer() []byte {
	b := <-h.free
	if b == nil {
		b = make([]byte, bufferSize)
	}
	return b[:bufferSize]
}

// add hashes the buffer and takes it back.
func (h *hasher) add(b []byte) { h.full <- b }

// sum waits for everything added, and returns the digest in hex. It may be
// called again.
func (h *hasher) sum() string {
	if h.full != nil {
		close(h.full)
		h.full = nil
	}
	<-h.done
	return hex.EncodeToString(h.h.Sum(nil))
}
