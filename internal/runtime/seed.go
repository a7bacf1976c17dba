package runtime

import (
	"net"
	"strings"

	"github.com/qemulet/qemulet/cloudinit"
	"github.com/qemulet/qemulet/internal/vmpod"
	"github.com/qemulet/qemulet/netns"
)

// seedOf is what the guest is told at its first boot.
func seedOf(p *pod, spec *vmpod.VM, vols *volumes, files []cloudinit.WriteFile) cloudinit.Seed {
	seed := cloudinit.Seed{
		Type:           cloudinit.ImageType(spec.CloudInit.ImageType),
		InstanceID:     spec.Name + "." + spec.Namespace,
		Hostname:       spec.Hostname,
		SSHKeys:        spec.CloudInit.SSHKeys,
		MetaData:       spec.CloudInit.MetaData,
		UserData:       cloudinit.Merge(spec.CloudInit.SourceUserData, spec.CloudInit.UserData),
		UserDataScript: spec.CloudInit.UserDataScript,
		FQDN:           fqdn(spec, files),
		Files:          files,
	}
	for _, e := range spec.Env {
		seed.Env = append(seed.Env, cloudinit.EnvVar(e))
	}
	// What a persistent root disk remembers of the network of an earlier pod it
	// is to forget: it asks by DHCP.
	if n := p.network(); n != nil && !spec.CloudInit.ForceDHCP && !vols.persistent {
		seed.Network = seedNetwork(n.Record())
	}
	vols.seed.AddTo(&seed)
	return seed
}

// fqdn is the guest's full name, "" if it has none: the host name itself by
// setHostnameAsFQDN, or what kubelet writes into /etc/hosts for a subdomain.
func fqdn(spec *vmpod.VM, files []cloudinit.WriteFile) string {
	if strings.Contains(spec.Hostname, ".") {
		return spec.Hostname
	}
	for _, f := range files {
		if f.Path == hostsFile {
			return hostsName(f.Data, spec.Hostname)
		}
	}
	return ""
}

// seedNetwork tells cloud-init what DHCP tells others.
func seedNetwork(rec netns.Record) *cloudinit.NetworkConfig {
	cfg := &cloudinit.NetworkConfig{Nameservers: rec.DNS.Servers, Search: rec.DNS.Searches}
	for _, link := range rec.Interfaces {
		in := cloudinit.Interface{Name: link.Name, MAC: net.HardwareAddr(link.MAC), MTU: link.MTU}
		for _, prefix := range link.Addresses {
			in.Addresses = append(in.Addresses, cloudinit.Address{Prefix: prefix})
		}
		for _, route := range link.Routes {
			in.Routes = append(in.Routes, cloudinit.Route{Destination: route.Dst, Gateway: route.Gateway})
		}
		cfg.Interfaces = append(cfg.Interfaces, in)
	}
	return cfg
}
