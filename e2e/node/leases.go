package node

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"
)

// LeaseClients are DHCP clients in a tiny guest, a new one every tenth of a second: each asks once, and reports how that went.
type LeaseClients struct {
	begin          chan struct{} // closed when the clients are to begin
	told, silenced chan struct{} // one at least has been told, has waited in vain
}

const leasesPort = 8067

const (
	// leaseScript is a client's: it reports to the server of the test.
	leaseScript = `printf '#!/bin/sh\nwget -qO /dev/null http://%[1]s/$1\n' >/run/leases; chmod +x /run/leases`
	leaseLoop   = `(wget -qO /dev/null http://%s/begin; while [ ! -e /run/enough ]; do ` +
		`udhcpc -f -n -q -t 1 -T 1 -i eth0 -s /run/leases & usleep 100000; done) >/dev/null 2>&1 &`
)

// PrepareLeaseClients has the guest of a pod on the node's bridge wait for Begin, with nobody attached to its console.
func (vm *VM) PrepareLeaseClients(tb testing.TB) *LeaseClients {
	tb.Helper()
	l := &LeaseClients{begin: make(chan struct{}), told: make(chan struct{}, 1), silenced: make(chan struct{}, 1)}
	var listener net.Listener
	address := fmt.Sprintf("%s1:%d", vm.Node.Subnet, leasesPort)
	must(tb, vm.Node.ns.do(func() (err error) {
		listener, err = net.Listen("tcp", address)
		return err
	}))
	server := &http.Server{Handler: l}
	go server.Serve(listener)
	tb.Cleanup(func() { server.Close() })

	c := vm.Attach(tb)
	defer c.Close()
	c.Command(fmt.Sprintf(leaseScript, address))
	c.Command(fmt.Sprintf(leaseLoop, address))
	return l
}

// ServeHTTP hears from the clients.
func (l *LeaseClients) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	heard := func(c chan struct{}) {
		select {
		case c <- struct{}{}:
		default:
		}
	}
	switch r.URL.Path {
	case "/begin":
		<-l.begin
	case "/bound":
		heard(l.told)
	case "/leasefail":
		heard(l.silenced)
	}
}

// Begin starts the clients. It returns when one of them has waited in vain, which is when there is no daemon.
func (l *LeaseClients) Begin(tb testing.TB) {
	tb.Helper()
	close(l.begin)
	wait(tb, l.silenced, "a DHCP client that nobody answers")
}

// Wait waits for the next client that is told its address.
func (l *LeaseClients) Wait(tb testing.TB) {
	tb.Helper()
	wait(tb, l.told, "a DHCP client that is told its address")
}

func wait(tb testing.TB, c chan struct{}, what string) {
	tb.Helper()
	select {
	case <-c:
	case <-time.After(time.Minute):
		tb.Fatalf("waited a minute for %s", what)
	}
}
