package node

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"
)

// LeaseClients are DHCP clients in a tiny guest, a new one every tenth of a second: each asks once, and reports how that went.
type LeaseClients struct {
	begin func()        // has the first client begin
	begun chan struct{} // closed by it

	mu     sync.Mutex
	latest map[string]int // by what clients have reported, the number of the latest one
	more   chan struct{}  // signalled when there was a report

	silenced int // the number of a client that nobody answered
}

const (
	leasesPort = 8067
	// leaseScript is a client's: it reports to the server of the test.
	leaseScript = `printf '#!/bin/sh\nwget -qO /dev/null http://%[1]s/$1/$number\n' >/run/leases; chmod +x /run/leases`
	leaseLoop   = `(wget -qO /dev/null http://%s/begin; n=0; while [ ! -e /run/enough ]; do n=$((n+1)); ` +
		`number=$n udhcpc -f -n -q -t 1 -T 1 -i eth0 -s /run/leases & usleep 100000; done) >/dev/null 2>&1 &`
)

// PrepareLeaseClients has the guest of a pod on the node's bridge wait for Begin, with nobody attached to its console. The
// clients end with the guest, or when it has a file /run/enough.
func (vm *VM) PrepareLeaseClients(tb testing.TB) *LeaseClients {
	tb.Helper()
	l := &LeaseClients{begun: make(chan struct{}), latest: map[string]int{}, more: make(chan struct{}, 1)}
	l.begin = sync.OnceFunc(func() { close(l.begun) })
	var listener net.Listener
	address := fmt.Sprintf("%s1:%d", vm.Node.Subnet, leasesPort)
	must(tb, vm.Node.ns.do(func() (err error) {
		listener, err = net.Listen("tcp", address)
		return err
	}))
	mux := http.NewServeMux()
	mux.HandleFunc("/begin", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-l.begun:
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/{event}/{number}", l.report)
	server := &http.Server{Handler: mux}
	go server.Serve(listener)
	tb.Cleanup(func() { server.Close() })

	c := vm.Attach(tb)
	defer c.Close()
	c.Command(fmt.Sprintf(leaseScript, address))
	c.Command(fmt.Sprintf(leaseLoop, address))
	return l
}

func (l *LeaseClients) report(_ http.ResponseWriter, r *http.Request) {
	number, _ := strconv.Atoi(r.PathValue("number"))
	event := r.PathValue("event")
	l.mu.Lock()
	l.latest[event] = max(l.latest[event], number)
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// Begin starts the clients unless they run already. It returns when one that came after all that were told an address has waited
// in vain, which is when there is no daemon.
func (l *LeaseClients) Begin(tb testing.TB) {
	tb.Helper()
	l.begin()
	l.silenced = l.await(tb, "leasefail", l.number("bound"))
}

// Wait waits for a client that has come since, and is told its address.
func (l *LeaseClients) Wait(tb testing.TB) {
	tb.Helper()
	l.await(tb, "bound", l.silenced)
}

func (l *LeaseClients) number(event string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.latest[event]
}

// await waits for a report by a client with a higher number, and returns that.
func (l *LeaseClients) await(tb testing.TB, event string, after int) int {
	tb.Helper()
	deadline := time.After(time.Minute)
	for {
		if number := l.number(event); number > after {
			return number
		}
		select {
		case <-l.more:
		case <-deadline:
			tb.Fatalf("waited a minute for %q of a DHCP client after number %d", event, after)
		}
	}
}
