package netns

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// TestRestart replaces the Manager under a guest: it renews its lease, and its connections work.
func TestRestart(t *testing.T) {
	n := newNode(t, bridgeNet())
	p := testPod(1)
	network := n.setup(p)
	guest := newGuest(t, n, network, 0)
	client := guest.startDHCP()
	client.wait("bound")
	stored := toJSON(t, network.Record())
	n.must(network.Close())
	n.must(network.Close())

	n.restart()
	var r Record
	n.must(json.Unmarshal([]byte(stored), &r))
	again, err := n.Open(t.Context(), r)
	n.must(err)
	client.renew()
	if told := client.wait("renew"); told["ip"] != network.IPs()[0].String() || told["hostname"] != "vm-1" {
		t.Errorf("renewed %v", told)
	}
	conn, err := again.DialFromNode(t.Context(), "tcp", guest.listen())
	n.must(err)
	_ = conn.Close()
	if same, err := n.Open(t.Context(), r); err != nil || same != again {
		t.Errorf("opened twice: %v", err)
	}
	n.must(n.Check(t.Context(), r))
	n.teardown(p)
	if _, err := n.Open(t.Context(), r); !errors.Is(err, ErrGone) {
		t.Errorf("Open after Teardown: %v", err)
	}
	if err := n.Check(t.Context(), r); !errors.Is(err, ErrGone) {
		t.Errorf("Check after Teardown: %v", err)
	}
	n.assertClean()
}

func TestOpenWithoutTap(t *testing.T) {
	n := newNode(t, bridgeNet())
	network := n.setup(testPod(1))
	n.must(network.Close())
	inPod(t, network.Record(), func(l *links) error {
		tap, err := l.LinkByName("tap0")
		if err != nil {
			return err
		}
		return l.LinkDel(tap)
	})
	if _, err := n.Open(t.Context(), network.Record()); !errors.Is(err, ErrGone) || !strings.Contains(err.Error(), "tap0") {
		t.Errorf("Open: %v", err)
	}
	if _, err := network.OpenTap(0, 1); !errors.Is(err, ErrGone) {
		t.Errorf("OpenTap: %v", err)
	}
	if err := n.Check(t.Context(), network.Record()); !errors.Is(err, ErrGone) || !strings.Contains(err.Error(), "tap0") {
		t.Errorf("Check: %v", err)
	}
}

func TestCheck(t *testing.T) {
	n := newNode(t, chainedFake)
	n.plugin("fake", `case $CNI_COMMAND in ADD) `+prevResult+` ;; CHECK) [ -e $0.bad ] && { echo "a rule is missing" >&2; exit 1; } ;; esac; :`)
	p := testPod(1)
	network := n.setup(p)
	n.must(n.Check(t.Context(), network.Record()))
	if calls := n.calls("fake"); calls != "ADD CHECK" {
		t.Errorf("calls %q", calls)
	}
	n.plugin("fake.bad", "")
	if err := n.Check(t.Context(), network.Record()); err == nil || !strings.Contains(err.Error(), "a rule is missing") {
		t.Errorf("Check of the chained plugin: %v", err)
	}

	n.removeLeases()
	err := n.Check(t.Context(), network.Record())
	var failure *PluginError
	if !errors.As(err, &failure) || failure.Plugin != "host-local" {
		t.Errorf("Check of the address management: %v", err)
	}
}
