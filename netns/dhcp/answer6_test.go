package dhcp

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

func dualLease() *Lease {
	l := testLease()
	l.Addresses6 = []netip.Prefix{netip.MustParsePrefix("fd00:1::5/64"), netip.MustParsePrefix("fd00:2::5/128")}
	l.Routes = append(slices.Clone(l.Routes), Route{netip.MustParsePrefix("::/0"), netip.MustParseAddr("fd00:1::1")},
		Route{netip.MustParsePrefix("fd00:9::/48"), netip.MustParseAddr("fd00:1::1")},
		Route{netip.MustParsePrefix("fd00:a::/48"), netip.MustParseAddr("fd00:1::2")},
		Route{Dst: netip.MustParsePrefix("fd00:b::/64")})
	l.DNS = []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00::53")}
	return &l
}

var clientID = dhcpv6.OptClientID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: []byte{1, 2, 3, 4, 5, 6}})

func message6(kind dhcpv6.MessageType, options ...dhcpv6.Option) *dhcpv6.Message {
	return &dhcpv6.Message{MessageType: kind, TransactionID: dhcpv6.TransactionID{7, 8, 9}, Options: dhcpv6.MessageOptions{Options: options}}
}

func ia(id byte, addresses ...string) *dhcpv6.OptIANA {
	a := &dhcpv6.OptIANA{IaId: [4]byte{3: id}}
	for _, s := range addresses {
		a.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: netip.MustParseAddr(s).AsSlice()})
	}
	return a
}

func TestAnswer6(t *testing.T) {
	other := dhcpv6.OptServerID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: []byte{9, 9, 9, 9, 9, 9}})
	rapid := &dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit}
	const none = dhcpv6.MessageTypeNone
	tests := []struct {
		name string
		req  *dhcpv6.Message
		want dhcpv6.MessageType
		ips  int
		code iana.StatusCode
	}{
		{"solicit", message6(dhcpv6.MessageTypeSolicit, clientID, ia(1)), dhcpv6.MessageTypeAdvertise, 2, 0},
		{"rapid commit", message6(dhcpv6.MessageTypeSolicit, clientID, rapid, ia(1)), dhcpv6.MessageTypeReply, 2, 0},
		{"solicit nothing", message6(dhcpv6.MessageTypeSolicit, clientID), dhcpv6.MessageTypeAdvertise, 0, 0},
		{"solicit without a client", message6(dhcpv6.MessageTypeSolicit, ia(1)), none, 0, 0},
		{"solicit with a server", message6(dhcpv6.MessageTypeSolicit, clientID, serverID6()), none, 0, 0},
		{"request", message6(dhcpv6.MessageTypeRequest, clientID, serverID6(), ia(1)), dhcpv6.MessageTypeReply, 2, 0},
		{"request to another", message6(dhcpv6.MessageTypeRequest, clientID, other, ia(1)), none, 0, 0},
		{"request to nobody", message6(dhcpv6.MessageTypeRequest, clientID, ia(1)), none, 0, 0},
		{"renew with a wrong address", message6(dhcpv6.MessageTypeRenew, clientID, serverID6(), ia(1, "fd00:1::5", "fd00:1::6")), dhcpv6.MessageTypeReply, 3, 0},
		{"rebind", message6(dhcpv6.MessageTypeRebind, clientID, ia(1)), dhcpv6.MessageTypeReply, 2, 0},
		{"rebind with a server", message6(dhcpv6.MessageTypeRebind, clientID, serverID6()), none, 0, 0},
		{"confirm", message6(dhcpv6.MessageTypeConfirm, clientID, ia(1, "fd00:1::5")), dhcpv6.MessageTypeReply, 0, iana.StatusSuccess},
		{"confirm a wrong address", message6(dhcpv6.MessageTypeConfirm, clientID, ia(1, "fd00:1::5"), ia(2, "fd00:1::6")), dhcpv6.MessageTypeReply, 0, iana.StatusNotOnLink},
		{"confirm nothing", message6(dhcpv6.MessageTypeConfirm, clientID, ia(1)), none, 0, 0},
		{"release", message6(dhcpv6.MessageTypeRelease, clientID, serverID6(), ia(1, "fd00:1::5")), dhcpv6.MessageTypeReply, 0, iana.StatusSuccess},
		{"decline", message6(dhcpv6.MessageTypeDecline, clientID, serverID6(), ia(1, "fd00:1::5")), dhcpv6.MessageTypeReply, 0, iana.StatusSuccess},
		{"information", message6(dhcpv6.MessageTypeInformationRequest), dhcpv6.MessageTypeReply, 0, 0},
		{"information of another", message6(dhcpv6.MessageTypeInformationRequest, other), none, 0, 0},
		{"information with an address", message6(dhcpv6.MessageTypeInformationRequest, ia(1)), none, 0, 0},
		{"advertise", message6(dhcpv6.MessageTypeAdvertise, clientID), none, 0, 0},
		{"reply", message6(dhcpv6.MessageTypeReply, clientID, serverID6()), none, 0, 0},
		{"reconfigure", message6(dhcpv6.MessageTypeReconfigure, clientID, serverID6()), none, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := dualLease().Answer6(tt.req)
			if got == nil {
				if tt.want != none {
					t.Fatal("no answer")
				}
				return
			}
			if got.MessageType != tt.want || got.TransactionID != tt.req.TransactionID || !isServer6(got.GetOneOption(dhcpv6.OptionServerID)) {
				t.Fatalf("answer %s", got.Summary())
			}
			if id := tt.req.GetOneOption(dhcpv6.OptionClientID); id != nil && !bytes.Equal(got.GetOneOption(dhcpv6.OptionClientID).ToBytes(), id.ToBytes()) {
				t.Error("the client's identifier was not echoed")
			}
			if first := got.Options.OneIANA(); first != nil && len(first.Options.Addresses()) != tt.ips {
				t.Errorf("addresses %v", first.Options.Addresses())
			}
			if status := got.Options.Status(); status != nil && status.StatusCode != tt.code {
				t.Errorf("status %v", status)
			}
		})
	}
}

func TestOneAssociationGetsTheAddresses(t *testing.T) {
	req := message6(dhcpv6.MessageTypeSolicit, clientID, ia(1), ia(2), &dhcpv6.OptIATA{IaId: [4]byte{3: 3}}, &dhcpv6.OptIAPD{IaId: [4]byte{3: 4}})
	got := dualLease().Answer6(req)
	all := got.Options.IANA()
	if len(all) != 2 || len(all[0].Options.Addresses()) != 2 || all[1].Options.Status().StatusCode != iana.StatusNoAddrsAvail {
		t.Errorf("associations %v", all)
	}
	if pd := got.Options.IAPD(); len(pd) != 1 || pd[0].Options.Status().StatusCode != iana.StatusNoPrefixAvail {
		t.Errorf("prefixes %v", pd)
	}
	if ta := got.Options.IATA(); len(ta) != 1 {
		t.Errorf("temporary addresses %v", ta)
	}
	if dns := got.Options.DNS(); len(dns) != 1 || dns[0].String() != "fd00::53" {
		t.Errorf("name servers %v", dns)
	}
	l := testLease()
	if l.Answer6(req) != nil {
		t.Error("an answer without IPv6 addresses")
	}
}
