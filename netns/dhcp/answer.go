package dhcp

import (
	"bytes"
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// Answer returns the reply to a request, or nil when the client must not be answered: another client, a relayed request,
// a request to another server, a message that has no answer (RELEASE, DECLINE), plain BOOTP (RFC 2131, section 4.3).
func (l *Lease) Answer(req *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	if !l.Address.IsValid() || !l.isClient(req) {
		return nil
	}
	switch req.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		return l.grant(req, dhcpv4.MessageTypeOffer)
	case dhcpv4.MessageTypeRequest:
		return l.request(req)
	case dhcpv4.MessageTypeInform:
		return l.inform(req)
	default:
		return nil
	}
}

func (l *Lease) isClient(req *dhcpv4.DHCPv4) bool {
	return req.OpCode == dhcpv4.OpcodeBootRequest &&
		req.HWType == iana.HWTypeEthernet &&
		bytes.Equal(req.ClientHWAddr, l.MAC) &&
		isUnset(req.GatewayIPAddr)
}

// request answers all four kinds of DHCPREQUEST (RFC 2131, section 4.3.2): the choice of an offer and a rebooted client
// name the address in option 50, renewing and rebinding ones in ciaddr.
func (l *Lease) request(req *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	if id := req.ServerIdentifier(); !isUnset(id) && !id.Equal(ServerIP().AsSlice()) {
		return nil // the client has chosen another server
	}
	wanted := req.RequestedIPAddress()
	if isUnset(wanted) {
		wanted = req.ClientIPAddr
	}
	switch {
	case isUnset(wanted):
		return nil
	case wanted.Equal(l.Address.Addr().AsSlice()):
		return l.grant(req, dhcpv4.MessageTypeAck)
	default:
		return l.refuse(req)
	}
}

func (l *Lease) grant(req *dhcpv4.DHCPv4, t dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	reply := l.reply(req, t)
	if t == dhcpv4.MessageTypeOffer {
		reply.ClientIPAddr = net.IPv4zero.To4() // it is none of the client's yet
	}
	reply.YourIPAddr = l.Address.Addr().AsSlice()
	reply.UpdateOption(dhcpv4.OptIPAddressLeaseTime(LeaseTime))
	reply.UpdateOption(dhcpv4.OptRenewTimeValue(RenewalTime))
	reply.UpdateOption(dhcpv4.OptRebindingTimeValue(RebindingTime))
	l.configure(reply, req)
	return reply
}

// inform configures a client that has an address already: no address, no lease times (RFC 2131, section 4.3.5).
func (l *Lease) inform(req *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	if isUnset(req.ClientIPAddr) {
		return nil // there would be nowhere to send the answer
	}
	reply := l.reply(req, dhcpv4.MessageTypeAck)
	l.configure(reply, req)
	return reply
}

func (l *Lease) refuse(req *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	reply := l.reply(req, dhcpv4.MessageTypeNak)
	reply.Options.Del(dhcpv4.OptionClientMachineIdentifier) // table 3 allows a few options only
	reply.UpdateOption(dhcpv4.OptMessage("the address is not this client's"))
	reply.ClientIPAddr = net.IPv4zero.To4()
	reply.ServerIPAddr = net.IPv4zero.To4()
	reply.SetBroadcast() // the client's address is wrong, it may not hear unicast
	return reply
}

// reply has what every answer has: the request's identity, the server's, and the identifiers that must be echoed.
func (l *Lease) reply(req *dhcpv4.DHCPv4, t dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	reply := &dhcpv4.DHCPv4{
		OpCode:        dhcpv4.OpcodeBootReply,
		HWType:        req.HWType,
		ClientHWAddr:  req.ClientHWAddr,
		TransactionID: req.TransactionID,
		Flags:         req.Flags & broadcastFlag,
		ClientIPAddr:  to4(req.ClientIPAddr),
		YourIPAddr:    net.IPv4zero.To4(),
		ServerIPAddr:  ServerIP().AsSlice(),
		GatewayIPAddr: net.IPv4zero.To4(),
		Options:       make(dhcpv4.Options),
	}
	reply.UpdateOption(dhcpv4.OptMessageType(t))
	reply.UpdateOption(dhcpv4.OptServerIdentifier(ServerIP().AsSlice()))
	for _, code := range []dhcpv4.OptionCode{dhcpv4.OptionClientIdentifier, dhcpv4.OptionClientMachineIdentifier} {
		if id := req.Options.Get(code); len(id) > 0 && len(id) <= maxEcho {
			reply.UpdateOption(dhcpv4.OptGeneric(code, id))
		}
	}
	return reply
}

const (
	broadcastFlag = 0x8000
	// maxEcho bounds an identifier that is sent back: one option's length, so that a client cannot blow up the answer.
	maxEcho = 255
)

func isUnset(ip net.IP) bool { return len(ip) == 0 || ip.IsUnspecified() }

func to4(ip net.IP) net.IP {
	if v4 := ip.To4(); v4 != nil {
		return v4
	}
	return net.IPv4zero.To4()
}

func is4(a netip.Addr) bool { return a.Is4() && !a.IsUnspecified() }
