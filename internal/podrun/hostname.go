package podrun

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/podrun/objects"
	"github.com/qemulet/qemulet/internal/podrun/volumes"
)

// clusterDomain is what kubelet's --cluster-domain is in nearly every cluster.
const clusterDomain = "cluster.local"

// hostname is the pod's, without its domain.
func (m *Manifest) hostname() string {
	return cmp.Or(m.Pod.Spec.Hostname, shortHostname(m.Pod.Name))
}

// hostDomain is where a headless Service would make the pod known.
func (m *Manifest) hostDomain() string {
	if m.Pod.Spec.Subdomain == "" {
		return ""
	}
	return fmt.Sprintf("%s.%s.svc.%s", m.Pod.Spec.Subdomain, cmp.Or(m.Pod.Namespace, "default"), clusterDomain)
}

// kernelHostname is what the host calls itself: with setHostnameAsFQDN it is the
// whole name.
func (m *Manifest) kernelHostname() string {
	if domain := m.hostDomain(); domain != "" && objects.IsTrue(m.Pod.Spec.SetHostnameAsFQDN) {
		return m.hostname() + "." + domain
	}
	return m.hostname()
}

// maxKernelHostname is Linux' own limit.
const maxKernelHostname = 64

// checkHostname finds what the API server, or kubelet, would refuse.
func (m *Manifest) checkHostname() (errs []error) {
	for _, f := range []struct{ field, name string }{
		{"spec.hostname", m.Pod.Spec.Hostname}, {"spec.subdomain", m.Pod.Spec.Subdomain},
	} {
		if f.name != "" {
			errs = append(errs, checkName(f.field, f.name, validation.IsDNS1123Label)...)
		}
	}
	if name := m.kernelHostname(); len(name) > maxKernelHostname {
		errs = append(errs, fmt.Errorf("spec.setHostnameAsFQDN: the host name %q has %d bytes: accepted are at most %d", name, len(name), maxKernelHostname))
	}
	for i, alias := range m.Pod.Spec.HostAliases {
		if _, err := netip.ParseAddr(alias.IP); err != nil {
			errs = append(errs, fmt.Errorf("spec.hostAliases[%d].ip %q: accepted is an address", i, alias.IP))
		}
		for _, name := range alias.Hostnames {
			errs = append(errs, checkName(fmt.Sprintf("spec.hostAliases[%d].hostnames", i), name, validation.IsDNS1123Subdomain)...)
		}
	}
	return errs
}

// shortHostname cuts a pod's name to the length of a host name, as kubelet does.
func shortHostname(name string) string {
	const longest = 63
	if len(name) <= longest {
		return name
	}
	return strings.TrimRight(name[:longest], "-.")
}

const hostsPath = "/etc/hosts"

// hosts is the pod's /etc/hosts as kubelet writes it.
func (m *Manifest) hosts(podIP string) []byte {
	var b strings.Builder
	b.WriteString("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	if domain := m.hostDomain(); domain != "" {
		fmt.Fprintf(&b, "%s\t%s.%s\t%s\n", podIP, m.hostname(), domain, m.hostname())
	} else {
		fmt.Fprintf(&b, "%s\t%s\n", podIP, m.hostname())
	}
	if len(m.Pod.Spec.HostAliases) > 0 {
		b.WriteString("\n# Entries added by HostAliases.\n")
	}
	for _, alias := range m.Pod.Spec.HostAliases {
		fmt.Fprintf(&b, "%s\t%s\n", alias.IP, strings.Join(alias.Hostnames, "\t"))
	}
	return []byte(b.String())
}

// mountHosts writes the pod's hosts file and mounts it, unless a volume is there.
func (m *Manifest) mountHosts(dir, podIP string, made *volumes.Made) error {
	for _, mount := range made.Mounts {
		if mount.ContainerPath == hostsPath {
			return nil
		}
	}
	file := filepath.Join(dir, "etc-hosts")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(file, m.hosts(podIP), 0o644); err != nil {
		return err
	}
	made.Mounts = append(made.Mounts, &runtimeapi.Mount{ContainerPath: hostsPath, HostPath: file})
	return nil
}
