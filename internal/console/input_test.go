package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func reads(t *testing.T, guest net.Conn, n int) string {
	t.Helper()
	must(t, guest.SetReadDeadline(time.Now().Add(10*time.Second)))
	b := make([]byte, n)
	if got, err := io.ReadFull(guest, b); err != nil {
		t.Fatalf("guest read %q: %v", b[:got], err)
	}
	return string(b)
}

func TestTyping(t *testing.T) {
	guest, h := newHub(t, HubOptions{})
	var s screen
	a := attach(h, strings.NewReader("root\n"), &s)
	equal(t, reads(t, guest, 5), "root\n")
	send(t, guest, "Password: ") // the end of in is not the end of out
	shows(t, &s, "Password: ")
	a.cancel()
	a.ends(t, context.Canceled)
}

func TestTypingWithoutOutputEndsWithInput(t *testing.T) {
	guest, h := newHub(t, HubOptions{})
	text := strings.Repeat("paste\n", 5000)
	a := attach(h, strings.NewReader(text), nil)
	equal(t, reads(t, guest, len(text)) == text, true)
	a.ends(t, nil)
}

func TestEveryClientTypesInOrder(t *testing.T) {
	guest, h := newHub(t, HubOptions{})
	const words = 2000
	var typing []*attachment
	for i := range 3 {
		var text strings.Builder
		for n := range words {
			fmt.Fprintf(&text, "%c%04d", 'a'+i, n)
		}
		// Whole words at a time, so that they stay whole.
		typing = append(typing, attach(h, wordReader{strings.NewReader(text.String())}, nil))
	}
	next := map[byte]int{}
	got := reads(t, guest, 3*words*5)
	for i := 0; i < len(got); i += 5 {
		who := got[i]
		equal(t, got[i:i+5], fmt.Sprintf("%c%04d", who, next[who]))
		next[who]++
	}
	for _, a := range typing {
		a.ends(t, nil)
	}
}

type wordReader struct{ r io.Reader }

func (w wordReader) Read(p []byte) (int, error) { return w.r.Read(p[:5]) }

// A guest that does not read what is typed must not wedge anything.
func TestGuestThatDoesNotRead(t *testing.T) {
	guest, h := newHub(t, HubOptions{})
	var s screen
	endless := readerFunc(func(p []byte) (int, error) { return len(p), nil })
	first, second := attach(h, endless, nil), attach(h, endless, nil)
	watching := attach(h, nil, &s)
	send(t, guest, "still here")
	shows(t, &s, "still here")

	begun := time.Now()
	first.cancel()
	first.ends(t, context.Canceled)
	if took := time.Since(begun); took > time.Second {
		t.Errorf("Attach took %s to return", took)
	}
	begun = time.Now()
	must(t, h.Close())
	if took := time.Since(begun); took > time.Second {
		t.Errorf("Close took %s", took)
	}
	second.ends(t, nil)
	watching.ends(t, nil)
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A terminal returns from Read when a key is pressed, not when Attach ends.
func TestStuckInput(t *testing.T) {
	guest, h := newHub(t, HubOptions{})
	var s screen
	pr, pw := io.Pipe()
	defer pw.Close()
	reading := make(chan struct{}, 1)
	a := attach(h, readerFunc(func(p []byte) (int, error) {
		reading <- struct{}{}
		return pr.Read(p)
	}), &s)
	<-reading
	a.cancel()
	a.ends(t, context.Canceled)
	send(t, pw, "x") // is read, and dropped

	attach(h, strings.NewReader("y"), nil).ends(t, nil)
	equal(t, reads(t, guest, 1), "y")
}

func TestFailingInput(t *testing.T) {
	_, h := newHub(t, HubOptions{})
	broken := errors.New("broken")
	var s screen
	attach(h, readerFunc(func([]byte) (int, error) { return 0, broken }), &s).ends(t, broken)
}

func TestNeitherInputNorOutput(t *testing.T) {
	guest, h := newHub(t, HubOptions{})
	a := attach(h, nil, nil)
	must(t, guest.Close())
	a.ends(t, nil)
}
