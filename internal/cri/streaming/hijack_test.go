package streaming

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// pipe returns a pump and the client's side of its connection.
func pipe(t *testing.T) (p *pump, client net.Conn, left chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	left = make(chan struct{})
	p = newPump(server, server, func() { close(left) })
	t.Cleanup(func() { client.Close(); p.Close(); <-p.done })
	return p, client, left
}

func TestPumpPassesEverything(t *testing.T) {
	p, client, _ := pipe(t)
	sent := bytes.Repeat([]byte("0123456789"), 100_000)
	go func() { client.Write(sent); client.Close() }()
	got, err := io.ReadAll(p)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("got %d of %d bytes, %v", len(got), len(sent), err)
	}
	if n, err := p.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("behind the end: %d, %v", n, err)
	}
}

// Nobody reads, and still the leaving is noticed.
func TestPumpNoticesLeaving(t *testing.T) {
	_, client, left := pipe(t)
	client.Write([]byte("unread"))
	client.Close()
	select {
	case <-left:
	case <-time.After(10 * time.Second):
		t.Error("the leaving was not noticed")
	}
}

// A client that sends without end to nobody cannot fill the memory, nor hold
// up the end.
func TestPumpIsBounded(t *testing.T) {
	p, client, _ := pipe(t)
	client.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	for {
		if _, err := client.Write(make([]byte, 1<<20)); err != nil {
			break
		}
	}
	if len(p.chunks) > pumpChunks {
		t.Errorf("%d chunks are held", len(p.chunks))
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	<-p.done
	if err := p.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
}
