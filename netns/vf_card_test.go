package netns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

const (
	cardVF     = "0000:3b:02.1"
	cardPF     = "0000:3b:00.0"
	cardDriver = "iavf"
	cardLink   = "vf7" // of the VF on the node
	cardMAC    = "02:11:22:33:44:55"
)

// fakeCard is an SR-IOV card with one VF: a tree of files in the place of sysfs, what the kernel does when they are
// written, and what the PF knows. The VF's link is one of a veth pair.
type fakeCard struct {
	t   *testing.T
	n   *testNode
	dir string

	mu     sync.Mutex
	state  netlink.VfInfo
	trace  []string          // all that was changed
	before func(what string) // is called before each change
	late   time.Duration     // after which the driver makes the link
	fails  map[string]error  // by what
	making chan struct{}     // closed when a late link is there
}

func newCard(t *testing.T) (*testNode, *fakeCard) {
	n := newNode(t, func(*testNode) string {
		return `{"cniVersion":"1.1.0","name":"podnet","plugins":[{"type":"sriov"}]}`
	})
	c := &fakeCard{t: t, n: n, dir: t.TempDir(), fails: map[string]error{}}
	c.state = netlink.VfInfo{ID: 1, Mac: hardwareAddr("00:00:00:00:00:00"), Vlan: 42, Qos: 3, RxBytes: 7, TxPackets: 5}
	c.mkdir("bus/pci/devices", cardPF, "net", "pf0")
	c.mkdir("bus/pci/drivers", cardDriver)
	c.mkdir("bus/pci/drivers", vfioDriver)
	c.mkdir("kernel/iommu_groups/17/devices")
	c.mkdir("bus/pci/devices", cardVF)
	c.symlink("../"+cardPF, "bus/pci/devices", cardVF, "physfn")
	c.symlink("../0000:3b:02.0", "bus/pci/devices", cardPF, "virtfn0")
	c.symlink("../"+cardVF, "bus/pci/devices", cardPF, "virtfn1")
	c.symlink("../../../../kernel/iommu_groups/17", "bus/pci/devices", cardVF, "iommu_group")
	c.symlink("../../../../bus/pci/devices/"+cardVF, "kernel/iommu_groups/17/devices", cardVF)
	c.symlink("../../drivers/"+cardDriver, "bus/pci/devices", cardVF, "driver")
	c.makeLink(cardMAC)
	t.Cleanup(func() {
		if link, err := netlink.LinkByName(cardLink); err == nil {
			_ = netlink.LinkDel(link)
		}
	})
	n.plugin("sriov", "net="+c.path("bus/pci/devices", cardVF, "net")+"\n"+sriovScript)
	c.restart()
	return n, c
}

// sriovScript is the SR-IOV plugin in short: DEL fails when the link is not where ADD has put it. sysfs shows a link to its
// own namespace only.
const sriovScript = `set -e
inside() { nsenter --net=$CNI_NETNS ip "$@"; }
case $CNI_COMMAND in
ADD)
	ip link set ` + cardLink + ` netns $CNI_NETNS
	mv $net $net.hidden
	inside link set ` + cardLink + ` name eth0
	inside addr add 10.77.0.5/24 dev eth0
	inside link set eth0 up
	inside route add default via 10.77.0.1
	echo '{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"'$CNI_NETNS'","pciID":"` + cardVF + `"}],
		"ips":[{"address":"10.77.0.5/24","gateway":"10.77.0.1","interface":0}]}';;
DEL)
	[ -n "$CNI_NETNS" ] || exit 0
	inside link show eth0 >>"$0.found"
	inside link set eth0 down
	inside link set eth0 name ` + cardLink + `
	inside link set ` + cardLink + ` netns /proc/$$/ns/net
	rm -rf $net.hidden;;
esac`

func (c *fakeCard) path(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}
func (c *fakeCard) mkdir(parts ...string) { c.n.must(os.MkdirAll(c.path(parts...), 0o755)) }
func (c *fakeCard) symlink(target string, parts ...string) {
	c.n.must(os.Symlink(target, c.path(parts...)))
}

// restart is a new Manager on the same machine.
func (c *fakeCard) restart() {
	c.n.restart()
	o := c.n.o
	o.SysDir = c.dir
	m, err := NewManager(o)
	c.n.must(err)
	m.sys.write, m.pfs = c.write, c
	c.n.Manager = m
}

// change notes an effect, which may be one too many.
func (c *fakeCard) change(what string) error {
	if c.before != nil {
		c.before(what)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trace = append(c.trace, what)
	return c.fails[what]
}

// write is what the kernel does when an attribute is written.
func (c *fakeCard) write(path, value string) error {
	value = strings.TrimSpace(value)
	driver, what := filepath.Base(filepath.Dir(path)), filepath.Base(path)
	if what == "driver_override" {
		if err := c.change(fmt.Sprintf("override %q", value)); err != nil {
			return err
		}
		return os.WriteFile(path, []byte(value), 0o600)
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return err
	}
	if err := c.change(what + " " + driver); err != nil {
		return err
	}
	if value != cardVF {
		return fmt.Errorf("%s of %q", what, value)
	}
	if what == "unbind" {
		return c.unbind(driver)
	}
	return c.bind(driver)
}

func (c *fakeCard) unbind(driver string) error {
	if c.driver() != driver {
		return errors.New("no such device")
	}
	if driver == cardDriver {
		c.removeLink()
	}
	return os.Remove(c.path("bus/pci/devices", cardVF, "driver"))
}

func (c *fakeCard) bind(driver string) error {
	if override := c.override(); c.driver() != "" || driver == vfioDriver && override != vfioDriver || driver != vfioDriver && override != "" {
		return fmt.Errorf("no such device: driver %q, override %q", c.driver(), override)
	}
	c.symlink("../../drivers/"+driver, "bus/pci/devices", cardVF, "driver")
	if driver != cardDriver {
		return nil
	}
	if c.late == 0 {
		c.makeLink("02:00:00:00:00:99")
		return nil
	}
	c.making = make(chan struct{})
	time.AfterFunc(c.late, func() {
		defer close(c.making)
		c.makeLink("02:00:00:00:00:99")
	})
	return nil
}

// makeLink is the driver: the kernel shows the link in sysfs before it tells of it.
func (c *fakeCard) makeLink(mac string) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.Index = cardLink, hardwareAddr(mac), 7000+c.n.number
	c.n.must(os.RemoveAll(c.path("bus/pci/devices", cardVF, "net.hidden")))
	c.mkdir("bus/pci/devices", cardVF, "net", cardLink)
	c.n.must(os.WriteFile(c.path("bus/pci/devices", cardVF, "net", cardLink, "ifindex"), []byte(strconv.Itoa(attrs.Index)+"\n"), 0o600))
	c.n.must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: cardLink + "peer"}))
}

// removeLink takes the VF's link away, wherever it is.
func (c *fakeCard) removeLink() {
	if link, err := netlink.LinkByName(cardLink); err == nil {
		c.n.must(netlink.LinkDel(link))
		return
	}
	for _, name := range leases(c.t, c.n.o.NetnsDir) {
		inNamespace(c.t, filepath.Join(c.n.o.NetnsDir, name), func(l *links) error {
			link, err := l.LinkByName("eth0")
			if err == nil {
				err = l.LinkDel(link)
			}
			return err
		})
	}
}

func (c *fakeCard) driver() string {
	target, _ := os.Readlink(c.path("bus/pci/devices", cardVF, "driver"))
	return strings.TrimPrefix(filepath.Base(target), ".")
}

func (c *fakeCard) override() string {
	raw, _ := os.ReadFile(c.path("bus/pci/devices", cardVF, "driver_override"))
	return string(raw)
}

func (c *fakeCard) vf(pf string, number int) (netlink.VfInfo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if pf != "pf0" || number != 1 {
		return netlink.VfInfo{}, fmt.Errorf("VF %d of %s", number, pf)
	}
	return c.state, nil
}

// set forgets the VLAN when it is given another MAC address, unless it is told again.
func (c *fakeCard) set(pf string, number int, want vfState) error {
	if _, err := c.vf(pf, number); err != nil {
		return err
	}
	if err := c.change("set " + want.MAC.String()); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Mac, c.state.Vlan, c.state.Qos = net.HardwareAddr(want.MAC), want.VLAN, want.QoS
	return nil
}

// assertHome verifies that the VF is as it was, and that nothing of the pod is left.
func (c *fakeCard) assertHome() {
	c.t.Helper()
	if c.driver() != cardDriver || c.override() != "" {
		c.t.Errorf("the VF has the driver %q, driver_override is %q", c.driver(), c.override())
	}
	if s := c.state; s.Mac.String() != "00:00:00:00:00:00" || s.Vlan != 42 || s.Qos != 3 {
		c.t.Errorf("the PF has %+v", s)
	}
	if _, err := netlink.LinkByName(cardLink); err != nil {
		c.t.Errorf("the VF's link is not on the node: %v", err)
	}
	c.n.assertClean()
}

// found is what DEL saw of the link.
func (c *fakeCard) found() string {
	raw, _ := os.ReadFile(filepath.Join(c.n.bin, "sriov.found"))
	return string(raw)
}

// crash runs fn, which dies before its k-th change; it reports whether there was one.
func (c *fakeCard) crash(k int, fn func()) (crashed bool) {
	type death struct{}
	n := 0
	c.before = func(string) {
		if n++; n == k {
			panic(death{})
		}
	}
	defer func() {
		c.before = nil
		if r := recover(); r != nil {
			if _, ours := r.(death); !ours {
				panic(r)
			}
			crashed = true
		}
	}()
	fn()
	return false
}

func (c *fakeCard) assertTrace(want ...string) {
	c.t.Helper()
	if !slices.Equal(c.trace, want) {
		c.t.Errorf("changes %q, want %q", c.trace, want)
	}
	c.trace = nil
}
