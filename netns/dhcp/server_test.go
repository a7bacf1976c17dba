package dhcp

import (
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pipe is a Conn in memory.
type pipe struct {
	in, out chan []byte
	errs    chan error
	closed  chan struct{}
	once    sync.Once
}

func newPipe() *pipe {
	return &pipe{in: make(chan []byte), out: make(chan []byte, 1024), errs: make(chan error), closed: make(chan struct{})}
}

func (p *pipe) ReadFrame(buf []byte) (int, error) {
	select {
	case frame := <-p.in:
		return copy(buf, frame), nil
	case err := <-p.errs:
		return 0, err
	case <-p.closed:
		return 0, os.ErrClosed
	}
}

func (p *pipe) WriteFrame(frame []byte) error {
	p.out <- frame
	return syscall.ENOBUFS // as a full queue does; it must not matter
}

func (p *pipe) SetReadDeadline(time.Time) error { return nil }

func (p *pipe) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func TestServerAnswers(t *testing.T) {
	p := newPipe()
	s := Serve(Link{Guest: p}, testLease())
	p.in <- []byte("noise")
	p.errs <- syscall.ENETDOWN
	p.in <- arpFrame()
	if arp := <-p.out; arp[21] != 2 {
		t.Errorf("ARP answer %x", arp)
	}
	p.in <- discoverFrame(t)
	offer := <-p.out
	reply, err := dhcpv4.FromBytes(offer[etherLen+ipLen+udpLen:])
	if err != nil || reply.MessageType() != dhcpv4.MessageTypeOffer {
		t.Errorf("answer %v, %v", reply, err)
	}
	if string(offer[:6]) != string(testLease().MAC) {
		t.Errorf("sent to %x", offer[:6])
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	<-s.Done()
}

func TestServerEndsWithItsConn(t *testing.T) {
	p := newPipe()
	s := Serve(Link{Guest: p}, testLease())
	p.errs <- syscall.ENXIO
	<-s.Done()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestDestinations(t *testing.T) {
	l := testLease()
	tests := []struct {
		name, mac, ip string
		req           *dhcpv4.DHCPv4
	}{
		{"new client", l.MAC.String(), "10.244.0.5", request(t, dhcpv4.MessageTypeDiscover)},
		{"client that needs broadcast", "ff:ff:ff:ff:ff:ff", "255.255.255.255", request(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithBroadcast(true))},
		{"renewing", l.MAC.String(), "10.244.0.5", request(t, dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(ours))},
		{"refused", "ff:ff:ff:ff:ff:ff", "255.255.255.255", request(t, dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(others))},
		{"informed", l.MAC.String(), "10.244.0.6", request(t, dhcpv4.MessageTypeInform, dhcpv4.WithClientIP(others))},
	}
	for _, tt := range tests {
		if mac, ip := destination(l.Answer(tt.req)); mac.String() != tt.mac || ip.String() != tt.ip {
			t.Errorf("%s: to %s, %s", tt.name, mac, ip)
		}
	}
}

func TestFloodIsHeldBack(t *testing.T) {
	p := newPipe()
	s := Serve(Link{Guest: p}, testLease())
	frame := discoverFrame(t)
	for range requestBurst {
		p.in <- frame
	}
	p.in <- frame // one more than the bucket holds: taken, but not answered at once
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n := len(p.out); n < requestBurst-1 || n > requestBurst+4 {
		t.Errorf("%d answers", n)
	}
}

func TestBucket(t *testing.T) {
	now := time.Unix(1000, 0)
	b := newBucket(now)
	for i := range requestBurst {
		if d := b.take(now); d != 0 {
			t.Fatalf("token %d: wait %s", i, d)
		}
	}
	if d := b.take(now); d != requestPeriod {
		t.Errorf("first token too many: wait %s", d)
	}
	if d := b.take(now.Add(2 * requestPeriod)); d != 0 {
		t.Errorf("after a while: wait %s", d)
	}
	if d := b.take(now.Add(time.Hour)); d != 0 || b.tokens != requestBurst-1 {
		t.Errorf("after an hour: wait %s, %d tokens", d, b.tokens)
	}
}

// FuzzAnswerFrame feeds what a hostile guest may send: the server must neither fail nor send what a client cannot read.
func FuzzAnswerFrame(f *testing.F) {
	f.Add(discoverFrame(f))
	f.Add(requestFrame(request(f, dhcpv4.MessageTypeRequest, option(50, ours...), option(61, 1, 2), option(57, 2, 64), option(55, 1, 3, 121)).ToBytes()))
	f.Add(requestFrame(request(f, dhcpv4.MessageTypeInform, dhcpv4.WithClientIP(ours)).ToBytes()))
	f.Add(arpFrame())
	f.Add([]byte{})
	lease := testLease()
	f.Fuzz(func(t *testing.T, frame []byte) {
		reply := lease.answerFrame(frame)
		if reply == nil || reply[12] == 8 && reply[13] == 6 {
			return
		}
		if len(reply) > etherLen+1500 {
			t.Fatalf("an answer of %d bytes", len(reply))
		}
		if _, err := dhcpv4.FromBytes(reply[etherLen+ipLen+udpLen:]); err != nil {
			t.Fatalf("an answer that does not parse: %v", err)
		}
	})
}

// FuzzMessage does the same behind an intact frame.
func FuzzMessage(f *testing.F) {
	f.Add(request(f, dhcpv4.MessageTypeDiscover).ToBytes())
	f.Add(request(f, dhcpv4.MessageTypeRequest, option(50, ours...), option(82, 1, 2, 3), option(57, 0)).ToBytes())
	lease := testLease()
	f.Fuzz(func(t *testing.T, message []byte) {
		if len(message) > 1400 {
			return
		}
		if reply := lease.answerFrame(requestFrame(message)); len(reply) > etherLen+1500 {
			t.Fatalf("an answer of %d bytes", len(reply))
		}
	})
}
