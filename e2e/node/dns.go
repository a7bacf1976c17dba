package node

import (
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// DNS is a small DNS server on all addresses of the node: it knows IPv4 addresses of names, and nothing else.
type DNS struct {
	hosts map[string][4]byte
	conn  net.PacketConn
	wg    sync.WaitGroup

	mu    sync.Mutex
	asked []string
}

// StartDNS serves until the test ends. hosts are addresses by whole names, without a dot at the end.
func (n *Node) StartDNS(tb testing.TB, hosts map[string]string) *DNS {
	tb.Helper()
	d := &DNS{hosts: map[string][4]byte{}}
	for name, ip := range hosts {
		d.hosts[name+"."] = [4]byte(net.ParseIP(ip).To4())
	}
	must(tb, n.ns.do(func() (err error) {
		d.conn, err = net.ListenPacket("udp4", ":53")
		return err
	}))
	d.wg.Go(d.serve)
	tb.Cleanup(func() {
		d.conn.Close()
		d.wg.Wait()
	})
	return d
}

func (d *DNS) serve() {
	buf := make([]byte, 1500)
	for {
		n, from, err := d.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var query dnsmessage.Message
		if query.Unpack(buf[:n]) != nil || query.Response || len(query.Questions) != 1 {
			continue
		}
		if answer, err := d.answer(query).Pack(); err == nil {
			d.conn.WriteTo(answer, from)
		}
	}
}

func (d *DNS) answer(query dnsmessage.Message) *dnsmessage.Message {
	q := query.Questions[0]
	d.mu.Lock()
	d.asked = append(d.asked, strings.TrimSuffix(q.Name.String(), "."))
	d.mu.Unlock()
	m := &dnsmessage.Message{Questions: query.Questions[:1]}
	m.ID, m.Response, m.Authoritative, m.RecursionDesired = query.ID, true, true, query.RecursionDesired
	ip, known := d.hosts[q.Name.String()]
	switch {
	case !known:
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 5}, Body: &dnsmessage.AResource{A: ip},
		}}
	}
	return m
}

// Asked reports whether anybody has asked for a name.
func (d *DNS) Asked(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Contains(d.asked, name)
}
