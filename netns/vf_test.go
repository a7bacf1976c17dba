package netns

import (
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A VF goes to the guest with its MAC address and VLAN, is left alone by a restart of the daemon, and is where the plugin
// looks for it at the end.
func TestVFIsTheGuestsAndComesBack(t *testing.T) {
	n, card := newCard(t)
	pod := testPod(1)
	network, err := n.Setup(t.Context(), pod)
	n.must(err)
	card.assertTrace(`override "vfio-pci"`, "unbind iavf", "set "+cardMAC, "bind vfio-pci")
	if card.state.Vlan != 42 || card.state.Qos != 3 {
		t.Errorf("the PF has %+v", card.state)
	}
	want := Interface{Name: "eth0", Plumbing: PlumbingPassthrough, VF: &VF{PCI: cardVF, Group: 17}, MAC: HardwareAddr(hardwareAddr(cardMAC)),
		MTU: 1500, Addresses: prefixes("10.77.0.5/24"), Gateways: network.Interfaces()[0].Gateways, Routes: routes("0.0.0.0/0 10.77.0.1")}
	if got := network.Interfaces(); len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("interfaces %+v, want %+v", got, want)
	}
	inPod(t, network.Record(), func(l *links) error {
		if names := linkNames(l); len(names) != 1 {
			t.Errorf("links in the namespace: %v", names)
		}
		return nil
	})
	if _, err := network.OpenTap(0, 1); err == nil || !strings.Contains(err.Error(), cardVF+" and has no tap") {
		t.Errorf("its tap: %v", err)
	}
	network = reopen(t, card, network)
	stats, err := network.Stats(t.Context())
	if err != nil || len(stats) != 1 || stats[0].RxBytes != 7 || stats[0].TxPackets != 5 || stats[0].MAC != cardMAC {
		t.Errorf("statistics %+v, %v", stats, err)
	}
	card.assertTrace()
	n.teardown(pod)
	card.assertTrace(`override ""`, "unbind vfio-pci", "set 00:00:00:00:00:00", "bind iavf")
	if seen := card.found(); !strings.Contains(seen, "eth0") || !strings.Contains(seen, cardMAC) {
		t.Errorf("DEL found %q", seen)
	}
	card.assertHome()
}

// reopen is a restart of the daemon, which has stored the record.
func reopen(t *testing.T, card *fakeCard, network *Network) *Network {
	t.Helper()
	raw, err := json.Marshal(network.Record())
	card.n.must(errors.Join(err, network.Close()))
	var stored Record
	card.n.must(json.Unmarshal(raw, &stored))
	card.restart()
	network, err = card.n.Open(t.Context(), stored)
	card.n.must(err)
	card.n.must(card.n.Check(t.Context(), stored))
	return network
}

// Wherever the daemon dies, the next one finds the VF by the journal and gives it back.
func TestVFSurvivesCrashes(t *testing.T) {
	for k := 1; ; k++ {
		n, card := newCard(t)
		crashed := card.crash(k, func() {
			if _, err := n.Setup(t.Context(), testPod(1)); err != nil {
				t.Errorf("set-up %d: %v", k, err)
			}
		})
		card.restart()
		pods, err := n.Attachments()
		if err != nil || len(pods) != 1 {
			t.Fatalf("crash %d: attachments %v, %v", k, pods, err)
		}
		n.teardown(Pod{ID: pods[0].ID})
		card.assertHome()
		n.must(netlink.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: cardLink}}))
		if !crashed {
			if k != 5 {
				t.Errorf("%d changes", k-1)
			}
			return
		}
	}
}

func TestVFSurvivesCrashesOnItsWayBack(t *testing.T) {
	for k := 1; ; k++ {
		n, card := newCard(t)
		network, err := n.Setup(t.Context(), testPod(1))
		n.must(err)
		n.must(network.Close())
		crashed := card.crash(k, func() { n.teardown(testPod(1)) })
		card.restart()
		n.teardown(testPod(1))
		card.assertHome()
		n.must(netlink.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: cardLink}}))
		if !crashed {
			if k != 5 {
				t.Errorf("%d changes", k-1)
			}
			return
		}
	}
}

// What cannot be passed through is refused before anything is changed.
func TestVFRefused(t *testing.T) {
	tests := []struct {
		name string
		make func(n *testNode, c *fakeCard)
		want string
	}{
		{"no IOMMU", func(n *testNode, c *fakeCard) { n.must(os.Remove(c.path("bus/pci/devices", cardVF, "iommu_group"))) },
			"it is in no IOMMU group: switch the IOMMU on"},
		{"no module", func(n *testNode, c *fakeCard) { n.must(os.Remove(c.path("bus/pci/drivers", vfioDriver))) },
			"the kernel's module vfio-pci is needed (modprobe vfio-pci)"},
		{"shared group", func(_ *testNode, c *fakeCard) {
			c.mkdir("kernel/iommu_groups/17/devices/0000:3b:02.2")
		}, "it shares IOMMU group 17 with 0000:3b:02.2"},
		{"no driver", func(n *testNode, c *fakeCard) { n.must(os.Remove(c.path("bus/pci/devices", cardVF, "driver"))) },
			"it has no driver to give it back to"},
		{"another pod's", func(n *testNode, c *fakeCard) {
			driver := c.path("bus/pci/devices", cardVF, "driver")
			n.must(errors.Join(os.Remove(driver), os.Symlink("../../drivers/"+vfioDriver, driver)))
		}, "it is bound to vfio-pci already"},
		{"the node's", func(_ *testNode, c *fakeCard) {
			c.mkdir("bus/pci/devices", cardVF, "net/other")
			c.n.must(os.WriteFile(c.path("bus/pci/devices", cardVF, "net/other/ifindex"), []byte("4\n"), 0o600))
			c.n.plugin("sriov", "net="+c.dir+"/none; mkdir -p $net\n"+sriovScript)
		}, "its link is on the node"},
		{"PF elsewhere", func(n *testNode, c *fakeCard) { n.must(os.Remove(c.path("bus/pci/devices", cardPF, "net/pf0"))) },
			"its physical function has no link on the node"},
		{"PF does not know it", func(n *testNode, c *fakeCard) { n.must(os.Remove(c.path("bus/pci/devices", cardPF, "virtfn1"))) },
			"its physical function pf0 does not list it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, card := newCard(t)
			tt.make(n, card)
			_, err := n.Setup(t.Context(), testPod(1))
			if !errors.Is(err, ErrPassthrough) || !strings.Contains(err.Error(), "interface eth0, PCI device "+cardVF+": "+tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			card.assertTrace()
			n.assertClean()
			if _, err := netlink.LinkByName(cardLink); err != nil {
				t.Errorf("the VF's link is not on the node: %v", err)
			}
		})
	}
}

// What the kernel says counts more than the report; of two interfaces one at most is a device.
func TestVFsOfLinks(t *testing.T) {
	_, card := newCard(t)
	card.n.must(os.Rename(card.path("bus/pci/devices", cardVF, "net"), card.path("bus/pci/devices", cardVF, "gone")))
	device := func(name, bus, pci string) *plannedNIC {
		return &plannedNIC{nic: Interface{Name: name}, observed: &observedLink{link: &netlink.Device{
			LinkAttrs: netlink.LinkAttrs{Name: name, ParentDevBus: bus, ParentDev: pci}}}}
	}
	result := &types100.Result{Interfaces: []*types100.Interface{
		{Name: "eth0", PciID: cardPF}, {Name: "eth0", Sandbox: "/run/netns/pod", PciID: "../../" + cardVF}}}
	nics := []*plannedNIC{device("eth0", "", ""), device("eth1", "virtio", "virtio0"), device("eth2", "pci", cardPF), device("eth3", "pci", cardVF)}
	card.n.must(card.n.findVFs(result, nics))
	for i, p := range nics {
		if is := p.vf != nil; is != (i == 3) {
			t.Errorf("%s: a VF: %v", p.nic.Name, is)
		}
	}
	err := card.n.findVFs(result, append(nics, device("eth4", "pci", cardVF)))
	if !errors.Is(err, ErrPassthrough) || !strings.Contains(err.Error(), "interface eth4, PCI device "+cardVF+": another interface is this device too") {
		t.Errorf("got %v", err)
	}
}

// Bridges are in the group of what is behind them, and a link that is no VF is a link like any other.
func TestVFGroupWithBridge(t *testing.T) {
	n, card := newCard(t)
	card.mkdir("kernel/iommu_groups/17/devices/0000:3a:00.0")
	card.mkdir("bus/pci/devices/0000:3a:00.0")
	n.must(os.WriteFile(card.path("bus/pci/devices/0000:3a:00.0/class"), []byte("0x060400\n"), 0o600))
	n.setup(testPod(1))
	n.teardown(testPod(1))
	card.assertHome()
	n.must(os.Remove(card.path("bus/pci/devices", cardVF, "physfn")))
	card.trace = nil
	if nic := n.setup(testPod(2)).Interfaces()[0]; nic.VF != nil || nic.Tap == "" {
		t.Errorf("no VF: %+v", nic)
	}
	n.teardown(testPod(2))
	card.assertTrace()
}

func TestVFSetupFailureIsUndone(t *testing.T) {
	for _, what := range []string{"unbind iavf", "set " + cardMAC, "bind vfio-pci"} {
		t.Run(what, func(t *testing.T) {
			n, card := newCard(t)
			card.fails[what] = unix.EIO
			_, err := n.Setup(t.Context(), testPod(1))
			if !errors.Is(err, unix.EIO) || errors.Is(err, ErrUndo) || !strings.Contains(err.Error(), cardVF) {
				t.Errorf("got %v", err)
			}
			card.assertHome()
		})
	}
}

// A VF that cannot be given back is not forgotten, and its plugin not asked to take back what is not there.
func TestVFThatCannotBeGivenBack(t *testing.T) {
	n, card := newCard(t)
	network, err := n.Setup(t.Context(), testPod(1))
	n.must(err)
	driver := card.path("bus/pci/drivers", cardDriver)
	n.must(errors.Join(network.Close(), os.Remove(driver)))
	err = n.Teardown(t.Context(), testPod(1))
	if err == nil || !strings.Contains(err.Error(), "give back interface eth0, PCI device "+cardVF+": bind to the driver iavf") || !strings.Contains(err.Error(), "its module is needed") {
		t.Errorf("got %v", err)
	}
	if calls := n.calls("sriov"); calls != "ADD" {
		t.Errorf("calls of the plugin: %s", calls)
	}
	n.must(os.Mkdir(driver, 0o755))
	card.late = 50 * time.Millisecond
	n.teardown(testPod(1))
	<-card.making
	card.assertHome()
}

// A VF whose plugin has failed may be another pod's by the time of the next attempt.
func TestVFIsGivenBackOnce(t *testing.T) {
	n, card := newCard(t)
	n.plugin("late", `[ $CNI_COMMAND = ADD ] || [ -e "$0.ok" ] || exit 1; `+strings.Replace(prevResult, "fake", "late", 1))
	n.configure("10-test.conflist", `{"cniVersion":"1.1.0","name":"podnet","plugins":[{"type":"sriov"},{"type":"late"}]}`)
	n.setup(testPod(1))
	if err := n.Teardown(t.Context(), testPod(1)); err == nil {
		t.Error("the plugin's failure is lost")
	}
	card.trace = nil
	n.must(os.WriteFile(n.bin+"/late.ok", nil, 0o600))
	n.plugin("sriov", "exit 0") // it has nothing to do any more
	n.teardown(testPod(1))
	card.assertTrace()
	card.assertHome()
}

// Without the namespace the VF still comes back, to the node; without the card nothing does.
func TestVFWithoutNamespaceOrCard(t *testing.T) {
	n, card := newCard(t)
	network, err := n.Setup(t.Context(), testPod(1))
	n.must(err)
	n.must(errors.Join(network.Close(), removeNamespace(network.Record().NetnsPath)))
	n.teardown(testPod(1))
	card.assertHome()

	n, card = newCardAgain(t, card)
	network, err = n.Setup(t.Context(), testPod(1))
	n.must(err)
	n.must(errors.Join(network.Close(), os.RemoveAll(card.path("bus/pci/devices", cardVF))))
	card.restart()
	if _, err := n.Open(t.Context(), network.Record()); !errors.Is(err, ErrGone) {
		t.Errorf("without its VF: %v", err)
	}
	n.plugin("sriov", "exit 0")
	card.trace = nil
	n.teardown(testPod(1))
	card.assertTrace()
	n.assertClean()
}

// newCardAgain is another card after the first, whose link it takes away.
func newCardAgain(t *testing.T, first *fakeCard) (*testNode, *fakeCard) {
	t.Helper()
	first.n.must(netlink.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: cardLink}}))
	return newCard(t)
}

// After a reboot the guest finds the VF by the address that it knows.
func TestVFKeepsMACAfterReboot(t *testing.T) {
	n, card := newCard(t)
	pod := testPod(1)
	old := HardwareAddr(hardwareAddr("02:77:00:00:00:01"))
	pod.KeepMACs = map[string]HardwareAddr{"eth0": old}
	network := n.setup(pod)
	if mac := network.Interfaces()[0].MAC; mac.String() != old.String() || card.state.Mac.String() != old.String() {
		t.Errorf("the guest has %s, the PF %s", mac, card.state.Mac)
	}
	n.teardown(pod)
	if seen := card.found(); !strings.Contains(seen, cardMAC) {
		t.Errorf("DEL found %q", seen)
	}
	card.assertHome()
}

// The node's own PFs: a link that has no VFs says so.
func TestHostPFs(t *testing.T) {
	for name, want := range map[string]string{"lo": "link lo has no VF 3", "none0": "none0"} {
		_, err := hostPFs{}.vf(name, 3)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
		if err := (hostPFs{}).set(name, 3, vfState{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An attribute that sysfs does not have is never made.
func TestWriteSysfs(t *testing.T) {
	path := t.TempDir() + "/driver_override"
	if err := writeSysfs(path, "vfio-pci"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeSysfs(path, "vfio-pci"); err != nil {
		t.Error(err)
	}
	if raw, _ := os.ReadFile(path); string(raw) != "vfio-pci" {
		t.Errorf("it has %q", raw)
	}
}
