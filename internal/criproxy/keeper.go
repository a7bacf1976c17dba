package criproxy

import (
	"bytes"
	"os"
	"slices"
	"sync"
)

// keeper writes what is known to files. It has locks of its own.
type keeper struct {
	known *known
	wake  chan struct{} // something is to be written
	quit  chan struct{}
	done  chan struct{}

	mu      sync.Mutex // held while a file is written
	written map[kind][]byte

	dueMu sync.Mutex
	due   []kind
}

// start begins to write. Whatever is known at this moment has come from the
// files.
func (w *keeper) start(k *known) {
	w.known, w.written = k, map[kind][]byte{}
	for of, list := range k.lists {
		w.written[of] = list
	}
	w.wake, w.quit, w.done = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	go w.run()
}

// stop returns when all that is due is written.
func (w *keeper) stop() {
	if w.done == nil {
		return // nothing is kept
	}
	close(w.quit)
	<-w.done
}

func (w *keeper) run() {
	defer close(w.done)
	for {
		select {
		case <-w.wake:
			w.writeDue()
		case <-w.quit:
			w.writeDue()
			return
		}
	}
}

// later asks for a list to be written soon.
func (w *keeper) later(of kind) {
	if w.done == nil {
		return
	}
	w.dueMu.Lock()
	defer w.dueMu.Unlock()
	if !slices.Contains(w.due, of) {
		w.due = append(w.due, of)
	}
	select {
	case w.wake <- struct{}{}:
	default: // it is awake
	}
}

func (w *keeper) writeDue() {
	w.dueMu.Lock()
	due := w.due
	w.due = nil
	w.dueMu.Unlock()
	for _, of := range due {
		w.write(of)
	}
}

// write writes a list as it is now, unless the file has it already.
func (w *keeper) write(of kind) {
	if w.done == nil || !slices.Contains(lasting, of) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.known.list(of)
	if before, ok := w.written[of]; ok && bytes.Equal(before, list) {
		return
	}
	if err := replace(w.known.path(of), list); err != nil {
		w.known.log.Error("what the VM runtime has is not kept for the next start of this proxy", "kind", of, "error", err)
		return
	}
	w.written[of] = list
}

// replace writes a file that is whole whenever it is there.
func replace(path string, content []byte) error {
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
