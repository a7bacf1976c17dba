package dhcp

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
)

// Link is where a guest's NIC is.
type Link struct {
	// Guest carries frames to and from the guest: see [Listen].
	Guest Conn
	// Network is on the link on the other side: see [ListenNeighbours]. It is nil unless the IPv6 router has to be found
	// there.
	Network Conn
}

// Close closes the Conns.
func (l Link) Close() error {
	var errs []error
	for _, c := range []Conn{l.Guest, l.Network} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// Server answers one client's requests until it is closed.
type Server struct {
	link  Link
	lease Lease
	stop  chan struct{}
	done  chan struct{}

	router netip.Addr // that was found last
	due    time.Time  // when routers are advertised unasked; zero: never
	retry  time.Duration
}

// Serve starts answering on a link, which the server owns from then on.
func Serve(link Link, lease Lease) *Server {
	s := &Server{link: link, lease: lease, stop: make(chan struct{}), done: make(chan struct{}), retry: firstRetry}
	if len(lease.Addresses6) > 0 {
		s.due = time.Now()
	}
	go s.run()
	return s
}

// Close ends the server and its goroutine and closes the Conns. It must be called once.
func (s *Server) Close() error {
	close(s.stop)
	err := s.link.Close()
	<-s.done
	return err
}

// Done is closed when the server has ended: by Close, or because its link is gone.
func (s *Server) Done() <-chan struct{} { return s.done }

func (s *Server) run() {
	defer close(s.done)
	buf := make([]byte, maxFrame)
	limit := newBucket(time.Now())
	for {
		_ = s.link.Guest.SetReadDeadline(s.due)
		n, err := s.link.Guest.ReadFrame(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.remind(time.Now())
			continue
		case errors.Is(err, syscall.ENETDOWN): // said once when the link goes down; it may come up again
			continue
		case err != nil:
			return
		}
		if !s.wait(limit.take(time.Now())) {
			return
		}
		if reply := s.answerFrame(buf[:n]); reply != nil {
			_ = s.link.Guest.WriteFrame(reply) // a lost answer is asked for again
		}
	}
}

// firstRetry is when a router that was not found is looked for again; each time it takes twice as long.
const firstRetry = 5 * time.Second

// remind advertises to all, and plans the next time: soon while there is a router to be found.
func (s *Server) remind(now time.Time) {
	_ = s.link.Guest.WriteFrame(s.advertise(linkLocal(s.lease.MAC), allNodes()))
	s.due = now.Add(routerPeriod)
	if !s.router.IsValid() && s.lease.gateway6().IsValid() {
		s.due = now.Add(s.retry)
		s.retry = min(2*s.retry, routerPeriod)
	}
}

// advertise returns the advertisement for a host that asks from an address. A router that does not answer is still
// believed to be where it was.
func (s *Server) advertise(asker, to netip.Addr) []byte {
	if router, ok := findRouter(s.link.Network, s.lease.MAC, asker, s.lease.gateway6()); ok {
		s.router = router
	}
	return s.lease.advertisementFrame(s.router, to)
}

// answerFrame returns the frame that answers a frame, or nil.
func (s *Server) answerFrame(frame []byte) []byte {
	if p := icmp6(frame, routerSolicit, 8); p != nil && len(s.lease.Addresses6) > 0 {
		if p.src.IsLinkLocalUnicast() {
			return s.advertise(p.src, p.src)
		}
		return s.advertise(linkLocal(s.lease.MAC), allNodes())
	}
	if p := request6(frame); p != nil {
		return s.lease.answerFrame6(frame, p)
	}
	return s.lease.answerFrame(frame)
}

// wait holds back a guest that floods the server. What it sends meanwhile is dropped by the socket's buffer limit.
func (s *Server) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.stop:
		return false
	}
}

// answerFrame6 returns the frame that answers a DHCPv6 request, or nil.
func (l *Lease) answerFrame6(frame []byte, p *packet6) []byte {
	req, err := dhcpv6.MessageFromBytes(p.payload)
	if err != nil || !bytes.Equal(frame[6:12], l.MAC) {
		return nil
	}
	reply := l.Answer6(req)
	if reply == nil {
		return nil
	}
	return reply6Frame(l.MAC, p.src, reply.ToBytes())
}

// answerFrame returns the frame that answers an ARP or DHCPv4 request, or nil.
func (l *Lease) answerFrame(frame []byte) []byte {
	if reply := arpReply(frame); reply != nil {
		return reply
	}
	payload := requestPayload(frame)
	if payload == nil {
		return nil
	}
	req, err := parseRequest(payload)
	if err != nil {
		return nil
	}
	reply := l.Answer(req)
	if reply == nil {
		return nil
	}
	mac, ip := destination(reply)
	return replyFrame(mac, ip, reply.ToBytes())
}

// destination says where an answer goes (RFC 2131, section 4.1).
func destination(reply *dhcpv4.DHCPv4) (net.HardwareAddr, netip.Addr) {
	broadcast := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	if reply.MessageType() != dhcpv4.MessageTypeNak {
		if ip, ok := netip.AddrFromSlice(to4(reply.ClientIPAddr)); ok && is4(ip) {
			return reply.ClientHWAddr, ip
		}
		if ip, ok := netip.AddrFromSlice(to4(reply.YourIPAddr)); ok && is4(ip) && !reply.IsBroadcast() {
			return reply.ClientHWAddr, ip
		}
	}
	return broadcast, netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// A client sends a handful of requests per lease, and a few more when it boots often.
const (
	requestBurst  = 64
	requestPeriod = 20 * time.Millisecond // one more every so often
)

// bucket is a token bucket.
type bucket struct {
	tokens int
	filled time.Time
}

func newBucket(now time.Time) *bucket { return &bucket{tokens: requestBurst, filled: now} }

// take takes one token and returns how long to wait for it.
func (b *bucket) take(now time.Time) time.Duration {
	if earned := int(now.Sub(b.filled) / requestPeriod); earned > 0 {
		b.tokens = min(b.tokens+earned, requestBurst)
		b.filled = b.filled.Add(time.Duration(earned) * requestPeriod)
	}
	b.tokens--
	if b.tokens >= 0 {
		return 0
	}
	return b.filled.Add(time.Duration(-b.tokens) * requestPeriod).Sub(now)
}
