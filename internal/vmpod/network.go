package vmpod

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Network is what is asked of the pod's CNI plugins.
type Network struct {
	// IngressRate and EgressRate bound what comes to and from the pod, in bits
	// per second; 0 means no bound.
	IngressRate, EgressRate uint64
	// IPs are the addresses to have, each an address or an address with its
	// prefix. MAC is that of the first interface, in lower case, or empty.
	IPs []string
	MAC string
}

// Bounds of a bandwidth, which are kubelet's: outside of them it is a mistake.
const (
	minBandwidth = "1k"
	maxBandwidth = "1P"
)

func setIngress(s *Settings, value string) (err error) {
	s.Network.IngressRate, err = bandwidth(value)
	return err
}

func setEgress(s *Settings, value string) (err error) {
	s.Network.EgressRate, err = bandwidth(value)
	return err
}

func bandwidth(value string) (uint64, error) {
	if !quantityForm.MatchString(value) {
		return 0, errors.New("is not a quantity")
	}
	q, err := resource.ParseQuantity(value)
	if err != nil {
		return 0, errors.New("is not a quantity")
	}
	if q.Cmp(resource.MustParse(minBandwidth)) < 0 {
		return 0, errors.New("is unreasonably small")
	}
	if q.Cmp(resource.MustParse(maxBandwidth)) > 0 {
		return 0, errors.New("is unreasonably large")
	}
	return uint64(q.Value()), nil
}

// maxIPs is one of each family for each of more interfaces than a VM can have.
const maxIPs = 16

func setIPs(s *Settings, value string) error {
	var all []string
	for item := range strings.SplitSeq(value, ",") {
		item = strings.TrimSpace(item)
		_, err := netip.ParsePrefix(item)
		if err != nil {
			_, err = netip.ParseAddr(item)
		}
		if err != nil {
			return fmt.Errorf("%s is neither an address nor one with its prefix", shorten(item))
		}
		all = append(all, item)
	}
	if len(all) > maxIPs {
		return fmt.Errorf("are %d addresses", len(all))
	}
	s.Network.IPs = all
	return nil
}

func setMAC(s *Settings, value string) error {
	mac, err := net.ParseMAC(value)
	if err != nil || len(mac) != 6 {
		return errors.New("is not a MAC address")
	}
	if mac[0]&1 != 0 || mac.String() == "00:00:00:00:00:00" {
		return errors.New("is not the address of one interface")
	}
	s.Network.MAC = mac.String()
	return nil
}
