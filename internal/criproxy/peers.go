package criproxy

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/peer"
)

// peersMethod is the one method that the proxy answers itself. Its answer is
// JSON: a list of Peer.
const peersMethod = "/qemulet.criproxy.v1.Proxy/Peers"

// Peer is a process that talks through the proxy.
type Peer struct {
	PID     int       `json:"pid"`
	Command string    `json:"command"`
	Calls   uint64    `json:"calls"`
	Last    time.Time `json:"last"` // call
}

// peers counts calls by process. The zero value is ready.
type peers struct {
	mu sync.Mutex
	by map[string]*Peer // by address
}

// maxPeers bounds how many are remembered; the oldest goes.
const maxPeers = 64

func (p *peers) count(ctx context.Context) {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := from.Addr.String()
	who := p.by[key]
	if who == nil {
		who = p.meet(key, from.Addr)
	}
	who.Calls++
	who.Last = time.Now()
}

// meet adds a process. The caller holds mu.
func (p *peers) meet(key string, addr net.Addr) *Peer {
	if p.by == nil {
		p.by = map[string]*Peer{}
	}
	if len(p.by) == maxPeers {
		oldest := key
		for other, who := range p.by {
			if oldest == key || who.Last.Before(p.by[oldest].Last) {
				oldest = other
			}
		}
		delete(p.by, oldest)
	}
	who := &Peer{}
	if process, ok := addr.(process); ok {
		who.PID, who.Command = process.pid, process.command
	}
	p.by[key] = who
	return who
}

func (p *peers) report() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := []*Peer{}
	for _, who := range p.by {
		all = append(all, who)
	}
	raw, _ := json.Marshal(all) // of plain values
	return raw
}

// identified tells which process is at the other end of a connection.
type identified struct{ net.Listener }

func (l identified) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return conn{c, processOf(c)}, nil
}

type conn struct {
	net.Conn
	peer net.Addr
}

func (c conn) RemoteAddr() net.Addr { return c.peer }

// process is the address of a peer: SO_PEERCRED of unix(7).
type process struct {
	pid     int
	command string
}

func (process) Network() string { return "unix" }

func (p process) String() string { return fmt.Sprintf("%s[%d]", p.command, p.pid) }

func processOf(c net.Conn) net.Addr {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return c.RemoteAddr()
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return c.RemoteAddr()
	}
	var p process
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			p.pid = int(cred.Pid)
		}
	})
	if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.pid)); err == nil {
		p.command = strings.TrimSpace(string(comm))
	}
	return p
}

// Peers asks the proxy at a socket who talks through it.
func Peers(ctx context.Context, socket string) ([]Peer, error) {
	b, err := newBackend(socket)
	if err != nil {
		return nil, err
	}
	defer b.conn.Close()
	out, err := b.invoke(ctx, peersMethod, newFrame(nil))
	if err != nil {
		return nil, err
	}
	var all []Peer
	return all, json.Unmarshal(out.bytes(), &all)
}
