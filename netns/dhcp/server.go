package dhcp

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Server answers one client's requests until it is closed.
type Server struct {
	conn  Conn
	lease Lease
	stop  chan struct{}
	done  chan struct{}
}

// Serve starts answering on conn, which the server owns from then on.
func Serve(conn Conn, lease Lease) *Server {
	s := &Server{conn: conn, lease: lease, stop: make(chan struct{}), done: make(chan struct{})}
	go s.run()
	return s
}

// Close ends the server and its goroutine and closes the Conn. It must be called once.
func (s *Server) Close() error {
	close(s.stop)
	err := s.conn.Close()
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
		n, err := s.conn.ReadFrame(buf)
		switch {
		case errors.Is(err, syscall.ENETDOWN): // said once when the link goes down; it may come up again
			continue
		case err != nil:
			return
		}
		if !s.wait(limit.take(time.Now())) {
			return
		}
		if reply := s.lease.answerFrame(buf[:n]); reply != nil {
			_ = s.conn.WriteFrame(reply) // a lost answer is asked for again
		}
	}
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

// answerFrame returns the frame that answers a frame, or nil.
func (l *Lease) answerFrame(frame []byte) []byte {
	if reply := arpReply(frame); reply != nil {
		return reply
	}
	payload := requestPayload(frame)
	if payload == nil {
		return nil
	}
	req, err := dhcpv4.FromBytes(payload)
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
