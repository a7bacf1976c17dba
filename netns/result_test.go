package netns

import (
	"fmt"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
)

func TestCheckResult(t *testing.T) {
	for text, want := range map[string]string{
		`{}`: "", `{"ips":null,"interfaces":null,"dns":null}`: "", `{"ips":[{"address":"10.1.0.5/24","interface":null}]}`: "",
		`{"ip4":{"ip":"10.1.0.5/24","routes":null},"ip6":null}`: "",
		`[]`: `no result but "[]"`, ``: `no result but ""`, `{"ips":{}}`: "malformed", `{"ips":[ null ]}`: "ips[0] is null",
		`{"Interfaces":[{"name":"eth0"},null]}`: "interfaces[1] is null", `{"ip4":{"routes":[null]}}`: "ip4.routes[0] is null",
		`{"ip6":{"routes":[null]}}`: "ip6.routes[0] is null", `{"routes":[null]}`: "routes[0] is null",
	} {
		err := checkResult([]byte(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestResultThatLies: what the kernel says counts, and nothing of what the result says of interfaces is needed.
func TestResultThatLies(t *testing.T) {
	n := newNode(t, chainedFake)
	n.plugin("fake", `[ $CNI_COMMAND = DEL ] || echo '{"cniVersion":"1.0.0","interfaces":[
		{"name":"ghost0","mac":"06:00:00:00:00:01","sandbox":"/run/netns/of-nobody"},
		{"name":"eth0","mac":"not a MAC address","sandbox":"/run/netns/of-somebody-else"},
		{"name":"eth0","mac":"06:00:00:00:00:02"}, {}],
		"ips":[{"interface":9,"address":"'$(nsenter --net=$CNI_NETNS ip -o -4 addr show eth0 | sed 's/.*inet \([^ ]*\).*/\1/')'","gateway":"192.0.2.1"}],
		"routes":[{"dst":"198.51.100.0/24"}]}'`)
	network := n.setup(testPod(1))
	nics := network.Interfaces()
	if len(nics) != 1 || nics[0].Name != "eth0" || nics[0].MTU != 1460 || fmt.Sprint(nics[0].Gateways) != fmt.Sprintf("[%s]", n.gateway()) {
		t.Errorf("interfaces %+v", nics)
	}
	guest := newGuest(t, n, network, 0)
	if told := guest.startDHCP().wait("bound"); told["router"] != n.gateway().String() || told["staticroutes"] != "" {
		t.Errorf("DHCP: %v", told)
	}
	conn, err := network.DialFromNode(t.Context(), "tcp", guest.listen())
	n.must(err)
	_ = conn.Close()
	assertNeighbour(t, network.IPs()[0], nics[0].MAC)
	n.teardown(testPod(1))
	n.assertClean()
}

// FuzzResult: whatever plugins of any version print, it is refused or understood.
func FuzzResult(f *testing.F) {
	for _, version := range []string{"0.2.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		f.Add([]byte(fmt.Sprintf(`{"cniVersion":%q,"interfaces":[{"name":"eth0","sandbox":"/x","mac":"02:00:00:00:00:01","pciID":"0000:01:00.1"}],
			"ips":[{"version":"4","interface":0,"address":"10.1.0.5/24","gateway":"10.1.0.1"}],"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1"}],
			"ip4":{"ip":"10.1.0.5/24","gateway":"10.1.0.1","routes":[{"dst":"0.0.0.0/0"}]},"dns":{"nameservers":["10.0.0.1"],"domain":"x"}}`, version)))
	}
	f.Add([]byte(`{"ips":[null],"interfaces":[null],"routes":[null],"dns":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if checkResult(raw) != nil {
			return
		}
		result, err := create.CreateFromBytes(raw)
		if err != nil {
			return
		}
		converted, err := types100.NewResultFromResult(result)
		if err != nil {
			return
		}
		o := veth(2, "eth0", "02:00:00:00:00:01")
		o.addresses, o.connected = prefixes("10.1.0.5/24"), prefixes("10.1.0.0/24")
		nics, err := plan(converted, []*observedLink{o}, 1)
		if err != nil {
			return
		}
		p := testPod(1)
		p.IPs = []string{"10.1.0.5"}
		_, _ = podIPs(converted), resultDNS(converted)
		for _, nic := range nics {
			_ = pciOf(converted, nic.observed)
		}
	})
}
