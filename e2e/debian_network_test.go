package e2e

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/qemulet/qemulet/e2e/node"
)

const (
	routed4 = "10.99.0.5"
	routed6 = "fd00:99::5"
)

// routedAndSecond gives pods a first interface as Calico makes it and a second one of another network with large frames.
func routedAndSecond(t *testing.T, n *node.Node) {
	t.Helper()
	n.WritePlugin(t, "routed", node.Routed)
	n.WritePlugin(t, "second", node.Second)
	n.WriteCNI(t, fmt.Sprintf(`{"cniVersion":"1.0.0","name":"e2e","plugins":[
		{"type":"routed","v4":%q,"v6":%q},
		{"type":"second","net1":{"cniVersion":"1.0.0","name":"second","type":"bridge","bridge":"qbr0","isGateway":true,"mtu":9000,
			"ipam":{"type":"host-local","dataDir":"%s/ipam","subnet":"10.98.0.0/24","routes":[{"dst":"172.30.0.0/16","gw":"10.98.0.1"}]}}}]}`,
		routed4, routed6, n.Dir))
}

// debianNetwork: cloud-init's static configuration for the second interface; systemd-networkd's DHCP for the first, whose
// router on no subnet nothing else can tell; and ISC's client beside it.
func debianNetwork(t *testing.T, vm *node.VM, run func(string) string) {
	status := vm.PodStatus(t).GetNetwork()
	if status.Ip != routed4 || len(status.AdditionalIps) != 2 || status.AdditionalIps[0].Ip != routed6 {
		t.Errorf("network status %v", status)
	}
	t.Run("networkd", func(t *testing.T) { networkdWasTold(t, run) })
	t.Run("second interface", func(t *testing.T) {
		mentions(t, run("ip -4 addr show net1"), "10.98.0.2/24", "mtu 9000")
		mentions(t, run("ip route show dev net1"), "172.30.0.0/16 via 10.98.0.1")
	})
	t.Run("dhclient", func(t *testing.T) { dhclientIsTold(t, run) })
	t.Run("IPv6 reaches the guest", func(t *testing.T) {
		must := func(argv ...string) {
			t.Helper()
			check(t, vm.Node.Do(func() error {
				if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
					return fmt.Errorf("%v: %w: %s", argv, err, out)
				}
				return nil
			}))
		}
		must("ip", "addr", "add", "fd00:99::1/128", "dev", "lo")
		conn, err := vm.Node.Dial(seconds(t, 20), "tcp", net.JoinHostPort(routed6, "22"))
		check(t, err)
		conn.Close()
	})
}

func networkdWasTold(t *testing.T, run func(string) string) {
	addresses := run("ip addr show eth0")
	mentions(t, addresses, "inet "+routed4+"/32", "mtu 1440", "inet6 "+routed6+"/128")
	mentions(t, run("ip route show"), "default via 169.254.1.1 dev eth0", "169.254.1.1 dev eth0")
	mentions(t, run("ip -6 route show default"), "fe80::ecee:eeff:feee:eeee dev eth0")
	lease := run("cat /run/systemd/netif/leases/*")
	mentions(t, lease, "ADDRESS="+routed4, "NETMASK=255.255.255.255", "SERVER_ADDRESS=169.254.254.2", "T1=43200", "T2=64800",
		"LIFETIME=86400", "MTU=1440", "DNS=10.96.0.10", "HOSTNAME=bookworm", "DOMAINNAME=default.svc.cluster.local",
		"DOMAIN_SEARCH_LIST=default.svc.cluster.local svc.cluster.local", "169.254.1.1/32,0.0.0.0", "0.0.0.0/0,169.254.1.1")
	mentions(t, run("sudo journalctl -b -u systemd-networkd --no-pager"), "DHCPv4 address "+routed4+"/32")
}

// dhclientIsTold asks for leases without using them.
func dhclientIsTold(t *testing.T, run func(string) string) {
	const script = `printf '#!/bin/sh\nenv >/tmp/told.$reason\n' >/tmp/script && chmod +x /tmp/script && cd /tmp && `
	told := func(command string) map[string]string {
		t.Helper()
		all := map[string]string{}
		for _, line := range strings.Split(run(script+command), "\n") {
			name, value, _ := strings.Cut(line, "=")
			all[name] = value
		}
		return all
	}
	got := told("sudo dhclient -4 -1 -q -sf /tmp/script -lf /tmp/leases -pf /tmp/pid eth0 && cat /tmp/told.BOUND; sudo dhclient -4 -x -q -pf /tmp/pid")
	for name, want := range map[string]string{
		"new_ip_address": routed4, "new_subnet_mask": "255.255.255.255", "new_interface_mtu": "1440", "new_host_name": "bookworm",
		"new_domain_name": "default.svc.cluster.local", "new_domain_search": "default.svc.cluster.local. svc.cluster.local.",
		"new_domain_name_servers": "10.96.0.10", "new_dhcp_lease_time": "86400", "new_dhcp_renewal_time": "43200",
		"new_dhcp_rebinding_time": "64800", "new_dhcp_server_identifier": "169.254.254.2",
		"new_rfc3442_classless_static_routes": "32 169 254 1 1 0 0 0 0 0 169 254 1 1",
	} {
		if got[name] != want {
			t.Errorf("DHCPv4: %s is %q, want %q", name, got[name], want)
		}
	}
	got = told("sudo dhclient -6 -1 -q -sf /tmp/script -lf /tmp/leases6 -pf /tmp/pid6 eth0 && cat /tmp/told.BOUND6; sudo dhclient -6 -x -q -pf /tmp/pid6")
	for name, want := range map[string]string{
		"new_ip6_address": routed6, "new_dhcp6_name_servers": "fd00::53", "new_dhcp6_domain_search": "default.svc.cluster.local. svc.cluster.local.",
		"new_max_life": "86400",
	} {
		if got[name] != want {
			t.Errorf("DHCPv6: %s is %q, want %q", name, got[name], want)
		}
	}
}
