package netns

import (
	"errors"
	"io"
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
			n.teardown(testPod(1))
			if _, err := network.Stats(t.Context()); !errors.Is(err, ErrGone) {
				t.Errorf("after the end: %v", err)
			}
		})
	}
}
