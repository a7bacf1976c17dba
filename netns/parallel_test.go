package netns

import (
	"context"
	"net/netip"
	"sync"
	"testing"
)

func TestManyPodsAtOnce(t *testing.T) {
	const pods = 20
	n := newNode(t, bridgeNet())
	fds := openFDs(t)
	var mu sync.Mutex
	taken := make(map[netip.Addr]string)
	inParallel(pods, func(i int) {
		network, err := n.Setup(t.Context(), testPod(i))
		if err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		ip := network.IPs()[0]
		if other, twice := taken[ip]; twice {
			t.Errorf("%s is the address of %s and %s", ip, other, testPod(i).Name)
		}
		taken[ip] = testPod(i).Name
	})
	if len(taken) != pods || len(n.ports()) != pods {
		t.Errorf("%d addresses, %d links for %d pods", len(taken), len(n.ports()), pods)
	}
	inParallel(pods, func(i int) {
		if err := n.Teardown(t.Context(), testPod(i)); err != nil {
			t.Error(err)
		}
	})
	n.assertClean()
	assertFDs(t, fds)
}

// TestManyGuestsAtOnce: pods that come at the same time all get their address.
func TestManyGuestsAtOnce(t *testing.T) {
	const pods = 50
	n := newNode(t, bridgeNet())
	networks := make([]*Network, pods)
	inParallel(pods, func(i int) {
		network, err := n.Setup(t.Context(), testPod(i))
		if err != nil {
			t.Error(err)
			return
		}
		networks[i] = network
	})
	if t.Failed() {
		return
	}
	t.Cleanup(func() {
		inParallel(pods, func(i int) {
			if err := n.Teardown(context.Background(), testPod(i)); err != nil {
				t.Error(err)
			}
		})
	})
	var clients []*dhcpClient
	for _, network := range networks {
		clients = append(clients, newGuest(t, n, network, 0).startDHCP("-t", "60"))
	}
	for i, client := range clients {
		if told := client.wait("bound"); told["ip"] != networks[i].IPs()[0].String() {
			t.Errorf("guest %d was told %s, its address is %s", i, told["ip"], networks[i].IPs()[0])
		}
	}
}

func TestCallsForOnePodTakeTurns(t *testing.T) {
	n := newNode(t, bridgeNet())
	p := testPod(1)
	inParallel(6, func(i int) {
		if i%2 == 0 {
			_, _ = n.Setup(t.Context(), p) // fails while the pod is there
			return
		}
		if err := n.Teardown(t.Context(), p); err != nil {
			t.Error(err)
		}
	})
	n.teardown(p)
	n.assertClean()
	if len(n.locks.held) > 0 {
		t.Errorf("%d locks held", len(n.locks.held))
	}
}

func inParallel(count int, fn func(i int)) {
	var wg sync.WaitGroup
	for i := range count {
		wg.Go(func() { fn(i) })
	}
	wg.Wait()
}
