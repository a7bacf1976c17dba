package netns

import (
	"errors"
	"io"
	"net"
	"testing"
)

func TestStats(t *testing.T) {
	for _, plumbing := range []Plumbing{PlumbingRedirect, PlumbingBridge} {
		t.Run(string(plumbing), func(t *testing.T) {
			n := newNode(t, bridgeNet())
			n.o.Plumbing = plumbing
			network := n.setup(testPod(1))
			guest := newGuest(t, n, network, 0)
			guest.startDHCP().wait("bound")
			before, err := network.Stats(t.Context())
			n.must(err)
			conn, err := network.DialFromNode(t.Context(), "tcp", guest.listen())
			n.must(err)
			_, err = io.Copy(io.Discard, conn)
			n.must(errors.Join(err, conn.Close()))
			after, err := network.Stats(t.Context())
			n.must(err)
			nic := network.Interfaces()[0]
			if len(after) != 1 || after[0].Name != "eth0" || after[0].MAC != nic.MAC.String() {
				t.Fatalf("statistics %+v", after)
			}
			// SYN, two ACKs and a FIN at least come to the guest; it sends its greeting.
			if rx, tx := after[0].RxPackets-before[0].RxPackets, after[0].TxBytes-before[0].TxBytes; rx < 3 || tx < 20+3*54 {
				t.Errorf("before %+v, after %+v", before, after)
			}
			n.must(network.Close())
			n.restart()
			network, err = n.Open(t.Context(), network.Record())
			n.must(err)
			assertDirections(t, n, network, guest)
			n.teardown(testPod(1))
			if _, err := network.Stats(t.Context()); !errors.Is(err, ErrGone) {
				t.Errorf("after the end: %v", err)
			}
		})
	}
}

// assertDirections sends datagrams that the guest hardly answers: all of them came to it.
func assertDirections(t *testing.T, n *testNode, network *Network, guest *testGuest) {
	t.Helper()
	const count, size = 100, 1000
	before, err := network.Stats(t.Context())
	n.must(err)
	datagrams, err := network.DialFromNode(t.Context(), "udp", 9)
	n.must(err)
	for range count {
		if _, err := datagrams.Write(make([]byte, size)); errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
	}
	_ = datagrams.Close()
	conn, err := network.DialFromNode(t.Context(), "tcp", guest.listen()) // behind the datagrams
	n.must(err)
	_ = conn.Close()
	after, err := network.Stats(t.Context())
	n.must(err)
	came, went := after[0].RxBytes-before[0].RxBytes, after[0].TxBytes-before[0].TxBytes
	if came < count*size/2 || went > count*size/2 { // a guest answers some, and a write that was refused is not sent
		t.Errorf("%d bytes came and %d went, of %d that came", came, went, count*size)
	}
}
