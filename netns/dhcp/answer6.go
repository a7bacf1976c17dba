package dhcp

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/insomniacslk/dhcp/rfc1035label"
)

// Answer6 returns the reply to a DHCPv6 request, or nil when it must not be answered: one to another server, one that
// lacks an identifier or has one too many (RFC 8415, section 16), one whose kind only servers send.
func (l *Lease) Answer6(req *dhcpv6.Message) *dhcpv6.Message {
	if len(l.Addresses6) == 0 || !wellFormed6(req) {
		return nil
	}
	reply := reply6(req)
	switch req.MessageType {
	case dhcpv6.MessageTypeSolicit:
		if req.GetOneOption(dhcpv6.OptionRapidCommit) != nil {
			reply.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
		} else {
			reply.MessageType = dhcpv6.MessageTypeAdvertise
		}
		l.assign6(reply, req)
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind:
		l.assign6(reply, req)
	case dhcpv6.MessageTypeConfirm:
		return l.confirm6(reply, req)
	case dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		// There is one address for one client, which gets it again whatever it says.
		reply.AddOption(&dhcpv6.OptStatusCode{StatusCode: iana.StatusSuccess})
		return reply
	}
	l.configure6(reply)
	return reply
}

// wellFormed6 says whether a request has the identifiers that its kind needs, and none that it must not have.
func wellFormed6(req *dhcpv6.Message) bool {
	server := req.GetOneOption(dhcpv6.OptionServerID)
	switch req.MessageType {
	case dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeConfirm, dhcpv6.MessageTypeRebind:
		return server == nil && hasClientID(req)
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		return server != nil && isServer6(server) && hasClientID(req)
	case dhcpv6.MessageTypeInformationRequest:
		return (server == nil || isServer6(server)) && len(req.Options.IANA()) == 0
	}
	return false
}

func hasClientID(req *dhcpv6.Message) bool {
	id := req.GetOneOption(dhcpv6.OptionClientID)
	return id != nil && len(id.ToBytes()) <= maxDUID
}

// maxDUID is the longest identifier in bytes (RFC 8415, section 11.1).
const maxDUID = 130

func serverID6() dhcpv6.Option {
	return dhcpv6.OptServerID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: ServerMAC()})
}

func isServer6(id dhcpv6.Option) bool { return bytes.Equal(id.ToBytes(), serverID6().ToBytes()) }

// reply6 has what every answer has: the request's identity and the server's.
func reply6(req *dhcpv6.Message) *dhcpv6.Message {
	reply := &dhcpv6.Message{MessageType: dhcpv6.MessageTypeReply, TransactionID: req.TransactionID}
	reply.AddOption(serverID6())
	if id := req.GetOneOption(dhcpv6.OptionClientID); id != nil {
		reply.AddOption(id)
	}
	return reply
}

// assign6 gives all addresses to the client's first identity association. Addresses that it asks for and that are
// others' get no time to live; further associations, temporary addresses and prefixes get nothing.
func (l *Lease) assign6(reply, req *dhcpv6.Message) {
	for i, ia := range req.Options.IANA() {
		given := &dhcpv6.OptIANA{IaId: ia.IaId, T1: RenewalTime, T2: RebindingTime}
		if i > 0 {
			given.T1, given.T2 = 0, 0
			given.Options.Add(&dhcpv6.OptStatusCode{StatusCode: iana.StatusNoAddrsAvail})
		} else {
			l.addresses6(given, ia)
		}
		reply.AddOption(given)
		if i == maxAssociations {
			break
		}
	}
	for _, ia := range req.Options.IATA()[:min(len(req.Options.IATA()), maxAssociations)] {
		none := &dhcpv6.OptIATA{IaId: ia.IaId}
		none.Options.Add(&dhcpv6.OptStatusCode{StatusCode: iana.StatusNoAddrsAvail})
		reply.AddOption(none)
	}
	for _, ia := range req.Options.IAPD()[:min(len(req.Options.IAPD()), maxAssociations)] {
		none := &dhcpv6.OptIAPD{IaId: ia.IaId}
		none.Options.Add(&dhcpv6.OptStatusCode{StatusCode: iana.StatusNoPrefixAvail})
		reply.AddOption(none)
	}
}

// maxAssociations bounds what a client can make an answer grow to.
const maxAssociations = 8

func (l *Lease) addresses6(given, asked *dhcpv6.OptIANA) {
	for _, p := range l.Addresses6 {
		given.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: p.Addr().AsSlice(), PreferredLifetime: LeaseTime, ValidLifetime: LeaseTime})
	}
	for _, a := range asked.Options.Addresses()[:min(len(asked.Options.Addresses()), maxAssociations)] {
		if !l.has6(a) {
			given.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: a.IPv6Addr})
		}
	}
}

func (l *Lease) has6(a *dhcpv6.OptIAAddress) bool {
	addr, _ := netip.AddrFromSlice(a.IPv6Addr)
	return slices.ContainsFunc(l.Addresses6, func(p netip.Prefix) bool { return p.Addr() == addr })
}

// confirm6 says whether the addresses of a client that has moved, or slept, are still right (RFC 8415, section 18.3.3).
func (l *Lease) confirm6(reply, req *dhcpv6.Message) *dhcpv6.Message {
	status, any := iana.StatusSuccess, false
	for _, ia := range req.Options.IANA() {
		for _, a := range ia.Options.Addresses() {
			any = true
			if !l.has6(a) {
				status = iana.StatusNotOnLink
			}
		}
	}
	if !any {
		return nil
	}
	reply.AddOption(&dhcpv6.OptStatusCode{StatusCode: status})
	return reply
}

// configure6 adds name servers and the search list.
func (l *Lease) configure6(reply *dhcpv6.Message) {
	if servers := v6Only(l.DNS); len(servers) > 0 {
		reply.AddOption(dhcpv6.OptDNS(servers...))
	}
	if names := l.domains(); len(names) > 0 {
		reply.AddOption(dhcpv6.OptDomainSearchList(&rfc1035label.Labels{Labels: names}))
	}
}

// domains are the search list's names that are domain names, as many as are sent.
func (l *Lease) domains() []string {
	var names []string
	for _, s := range l.Searches {
		if s = strings.TrimSuffix(s, "."); isDomain(s) && len(names) < maxSearches {
			names = append(names, s)
		}
	}
	return names
}
