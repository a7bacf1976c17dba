package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// ErrPassthrough: the plugins gave a VF that cannot be passed through to a guest on this node.
var ErrPassthrough = errors.New("virtual function cannot be passed through")

// VF is a virtual function of an SR-IOV card that the guest has itself: it is bound to vfio-pci, and there is no link of
// it while it is.
type VF struct {
	// PCI is its address on the host, such as "0000:3b:02.1".
	PCI string `json:"pci"`
	// Group is its IOMMU group: a hypervisor opens /dev/vfio/<group>.
	Group int `json:"group"`
}

// savedVF is a VF before it was bound to vfio-pci.
type savedVF struct {
	PCI    string  `json:"pci"`
	Driver string  `json:"driver"`
	State  vfState `json:"state"`
}

// vfState is what a PF keeps for one of its VFs, whatever driver that has.
type vfState struct {
	MAC  HardwareAddr `json:"mac"` // zero: not set by the PF
	VLAN int          `json:"vlan,omitempty"`
	QoS  int          `json:"qos,omitempty"`
}

// pciAddress is domain, bus, device and function.
var pciAddress = regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)

// findVFs finds out which NICs are VFs, and whether they can be passed through. It changes nothing.
func (m *Manager) findVFs(result *types100.Result, nics []*plannedNIC) error {
	seen := make(map[string]bool)
	for _, p := range nics {
		pci := pciOf(result, p.observed)
		if !pciAddress.MatchString(pci) || !m.sys.isVF(pci) {
			continue
		}
		err := m.findVF(p, pci)
		if seen[pci] {
			err = errors.New("another interface is this device too")
		}
		if err != nil {
			return fmt.Errorf("netns: %w: interface %s, PCI device %s: %w", ErrPassthrough, p.nic.Name, pci, err)
		}
		seen[pci] = true
	}
	return nil
}

// pciOf is the PCI device of a link as the kernel (5.14) tells it, or else the result (CNI 1.1, pciID).
func pciOf(result *types100.Result, o *observedLink) string {
	if attrs := o.link.Attrs(); o.link.Type() == "device" && attrs.ParentDevBus == "pci" {
		return attrs.ParentDev
	}
	for _, reported := range result.Interfaces {
		if reported.Sandbox != "" && reported.Name == o.name() {
			return reported.PciID
		}
	}
	return ""
}

func (m *Manager) findVF(p *plannedNIC, pci string) error {
	group, err := m.sys.group(pci)
	if err != nil {
		return err
	}
	if _, err := os.Stat(m.sys.driverDir(vfioDriver)); err != nil {
		return fmt.Errorf("the kernel's module %s is needed (modprobe %s)", vfioDriver, vfioDriver)
	}
	driver, err := m.sys.linkDriver(pci)
	if err != nil {
		return err
	}
	state, err := m.vfState(pci)
	if err != nil {
		return err
	}
	p.vf = &savedVF{PCI: pci, Driver: driver, State: state}
	p.nic.Plumbing, p.nic.VF, p.nic.Tap, p.nic.Queues = PlumbingPassthrough, &VF{PCI: pci, Group: group}, "", 0
	return nil
}

// vfState asks the PF.
func (m *Manager) vfState(pci string) (vfState, error) {
	pf, number, err := m.sys.physical(pci)
	if err != nil {
		return vfState{}, err
	}
	info, err := m.pfs.vf(pf, number)
	if err != nil {
		return vfState{}, err
	}
	mac := make(HardwareAddr, 6)
	copy(mac, info.Mac)
	return vfState{MAC: mac, VLAN: info.Vlan, QoS: info.Qos}, nil
}

// setVFState tells the PF. What it has so already is left alone.
func (m *Manager) setVFState(pci string, want vfState) error {
	pf, number, err := m.sys.physical(pci)
	if err != nil {
		return err
	}
	return m.pfs.set(pf, number, want)
}

// takeVFs binds the VFs among the NICs to vfio-pci. It is undone by returnVFs, however far it came.
func (m *Manager) takeVFs(nics []*plannedNIC) error {
	for _, p := range nics {
		if p.vf == nil {
			continue
		}
		if err := m.takeVF(p.vf, p.nic.MAC); err != nil {
			return fmt.Errorf("netns: interface %s, PCI device %s: %w", p.nic.Name, p.vf.PCI, err)
		}
	}
	return nil
}

// takeVF has the PF keep MAC address and VLAN while the VF changes drivers: what its own driver knew of them goes with it.
func (m *Manager) takeVF(vf *savedVF, mac HardwareAddr) error {
	if err := m.sys.override(vf.PCI, vfioDriver); err != nil {
		return err
	}
	if err := m.sys.unbind(vf.PCI); err != nil {
		return err
	}
	if err := m.setVFState(vf.PCI, vfState{MAC: mac, VLAN: vf.State.VLAN, QoS: vf.State.QoS}); err != nil {
		return err
	}
	return m.sys.bind(vf.PCI, vfioDriver)
}

// checkVFs makes sure that VFs are the guest's still. The error matches ErrGone.
func (m *Manager) checkVFs(r Record) error {
	for _, nic := range r.Interfaces {
		if nic.VF == nil {
			continue
		}
		driver, err := m.sys.driver(nic.VF.PCI)
		if err == nil && driver != vfioDriver {
			err = fmt.Errorf("it has the driver %q instead of %s: %w", driver, vfioDriver, ErrGone)
		}
		if err != nil {
			return fmt.Errorf("netns: interface %s, PCI device %s: %w", nic.Name, nic.VF.PCI, err)
		}
	}
	return nil
}

// isVF reports whether a PCI device is a virtual function.
func (s sysfs) isVF(pci string) bool {
	_, err := os.Lstat(filepath.Join(s.device(pci), "physfn"))
	return err == nil
}

// linkDriver returns the driver of a device whose link is in a pod. That it is there may be a plugin's mistake.
func (s sysfs) linkDriver(pci string) (string, error) {
	driver, err := s.driver(pci)
	switch {
	case err != nil:
		return "", err
	case driver == "":
		return "", errors.New("it has no driver to give it back to")
	case driver == vfioDriver:
		return "", fmt.Errorf("it is bound to %s already, for someone else", vfioDriver)
	case s.linkIndex(pci) != 0:
		return "", errors.New("its link is on the node and not in the pod's namespace")
	}
	return driver, nil
}

// group returns a device's IOMMU group, if it is alone in it but for bridges.
func (s sysfs) group(pci string) (int, error) {
	dir := filepath.Join(s.device(pci), "iommu_group")
	target, err := os.Readlink(dir)
	if errors.Is(err, os.ErrNotExist) {
		return 0, errors.New("it is in no IOMMU group: switch the IOMMU on, in the firmware and on the kernel's command line (intel_iommu=on or amd_iommu=on)")
	}
	if err != nil {
		return 0, err
	}
	members, err := os.ReadDir(filepath.Join(dir, "devices"))
	if err != nil {
		return 0, err
	}
	var others []string
	for _, e := range members {
		if name := e.Name(); name != pci && !s.isBridge(name) {
			others = append(others, name)
		}
	}
	if len(others) > 0 {
		return 0, fmt.Errorf("it shares IOMMU group %s with %s: devices of one group cannot be kept apart (the slot lacks ACS)",
			filepath.Base(target), strings.Join(others, ", "))
	}
	return strconv.Atoi(filepath.Base(target))
}

// isBridge reports whether a PCI device's base class is that of bridges.
func (s sysfs) isBridge(pci string) bool {
	class, err := os.ReadFile(filepath.Join(s.device(pci), "class"))
	return err == nil && strings.HasPrefix(string(class), "0x06")
}

// physical returns the link of a VF's PF and the VF's number there.
func (s sysfs) physical(pci string) (pf string, number int, err error) {
	dir := filepath.Join(s.device(pci), "physfn")
	links, err := os.ReadDir(filepath.Join(dir, "net"))
	if err != nil || len(links) == 0 {
		return "", 0, errors.New("its physical function has no link on the node, by which MAC address and VLAN are set")
	}
	functions, err := filepath.Glob(filepath.Join(dir, "virtfn*"))
	if err != nil {
		return "", 0, err
	}
	for _, f := range functions {
		if target, err := os.Readlink(f); err == nil && filepath.Base(target) == pci {
			number, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(f), "virtfn"))
			return links[0].Name(), number, err
		}
	}
	return "", 0, fmt.Errorf("its physical function %s does not list it", links[0].Name())
}
