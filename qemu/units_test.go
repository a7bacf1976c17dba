package qemu

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestOptions(t *testing.T) {
	for want, o := range map[string]options{
		"":                       nil,
		"kvm":                    {{"kvm", ""}},
		"on,obsolete=deny":       {{"on", ""}, {"obsolete", "deny"}},
		"guest=a,,b=c,,,,d":      {{"guest", "a,b=c,,d"}},
		"guest=,,,debug-threads": {{"guest", ","}, {"debug-threads", ""}},
	} {
		if got := o.String(); got != want {
			t.Errorf("%v: %q, want %q", o, got, want)
		}
	}
}

// What is rendered is what QEMU reads back.
func TestOptionsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringN(1, -1, -1).Draw(t, "value")
		got := parseOptions(options{{"a", value}, {"b", "x"}}.String())
		if len(got) != 2 || got["a"] != value || got["b"] != "x" {
			t.Fatalf("%q became %q", value, got)
		}
	})
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]bool{
		"": true, "vm": true, "äöü €": true, "a,b": true, "1234567890": true,
		"a\nb": false, "\x00": false, "\xff": false, "\u2028": false, "\x1b[0m": false, "12345678901": false,
	} {
		if got := printable(text, 10); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	if printableASCII("ä", 10) || !printableASCII("a b", 10) {
		t.Error("ASCII")
	}
}

func TestPCIAddressesAreTakenOnce(t *testing.T) {
	bus := pciBus{}
	d, err := bus.at("a", "first", 0x1e, 7)
	if err != nil || d.Addr != "1e.7" || d.Bus != "pcie.0" {
		t.Fatalf("%+v, %v", d, err)
	}
	if _, err := bus.at("b", "second", 0x1e, 7); err == nil || !strings.Contains(err.Error(), "first") || !strings.Contains(err.Error(), "second") {
		t.Errorf("the second one: %v", err)
	}
}

// A NIC's slot must not move when disks or other NICs come, nor a disk's when
// NICs do: guests name them by their slots.
func TestSlotsDoNotDependOnOthers(t *testing.T) {
	caps := goldenCapabilities(t)
	addrs := func(disks, nics int) map[string]string {
		c := Config{Name: "vm", UUID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8", Accel: TCG, VCPUs: 1, MemoryBytes: 1 << 27}
		for i := range disks {
			c.Disks = append(c.Disks, Disk{ID: "d" + string(rune('a'+i)), Bus: BusVirtio, Format: FormatRaw})
		}
		for i := range nics {
			c.NICs = append(c.NICs, NIC{ID: "n" + string(rune('a'+i)), MAC: "52:54:00:00:00:01"})
		}
		inv, err := Build(c, caps)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		for _, arg := range inv.Args {
			_, id, ok := strings.Cut(arg, `"id":"`)
			_, addr, hasAddr := strings.Cut(arg, `"addr":"`)
			if ok && hasAddr {
				found[id[:strings.IndexByte(id, '"')]] = addr[:4]
			}
		}
		return found
	}
	all := addrs(maxVirtioDisks, MaxNICs)
	for _, n := range [][2]int{{0, 0}, {1, 0}, {0, 1}, {5, 2}, {maxVirtioDisks, 1}, {1, MaxNICs}} {
		for id, addr := range addrs(n[0], n[1]) {
			if all[id] != addr {
				t.Errorf("%d disks, %d NICs: %s at %s, with more of them at %s", n[0], n[1], id, addr, all[id])
			}
		}
	}
}

// Every field that cannot be is named.
func TestRefusedFields(t *testing.T) {
	caps := goldenCapabilities(t)
	disk := func(change func(*Disk)) func(*Config) { return func(c *Config) { change(&c.Disks[0]) } }
	nic := func(change func(*NIC)) func(*Config) { return func(c *Config) { change(&c.NICs[0]) } }
	for i, c := range []struct {
		field  string
		change func(*Config)
	}{
		{"name", func(c *Config) { c.Name = "" }},
		{"name", func(c *Config) { c.Name = strings.Repeat("x", 256) }},
		{"uuid", func(c *Config) { c.UUID = strings.ToUpper(c.UUID) }},
		{"uuid", func(c *Config) { c.UUID = "" }},
		{"machine", func(c *Config) { c.Machine = "q35" }},
		{"accel", func(c *Config) { c.Accel = "" }},
		{"tbSizeMiB", func(c *Config) { c.TBSizeMiB = -1 }},
		{"tbSizeMiB", func(c *Config) { c.TBSizeMiB = 2049 }},
		{"cpu.model", func(c *Config) { c.CPU.Model = "host" }},
		{"cpu.features.", func(c *Config) { c.CPU.Features = map[string]FeaturePolicy{"": FeatureRequire} }},
		{"cpu.features.enforce", func(c *Config) { c.CPU.Features = map[string]FeaturePolicy{"enforce": FeatureDisable} }},
		{"cpu.features.avx", func(c *Config) { c.CPU.Features = map[string]FeaturePolicy{"avx": ""} }},
		{"cpu.vendorID", func(c *Config) { c.CPU.VendorID = "GenuineIntel,host" }},
		{"cpu.vendorID", func(c *Config) { c.CPU.VendorID = "a,b=c,d=e,fg" }},
		{"cpu.vendor", func(c *Config) { c.CPU.Vendor = "VIA VIA VIA " }},
		{"cpu.check", func(c *Config) { c.CPU.Check = "Full" }},
		{"cpu.cache", func(c *Config) { c.CPU.Cache = "on" }},
		{"numa[0].cpus", func(c *Config) { c.NUMA = []NUMANode{{CPUs: []int{-1}, MemoryBytes: 1 << 27}} }},
		{"numa[0].cpus", func(c *Config) { c.NUMA = []NUMANode{{CPUs: []int{1}, MemoryBytes: 1 << 27}} }},
		{"numa[1].memoryBytes", func(c *Config) { c.NUMA = []NUMANode{{MemoryBytes: 1 << 27}, {CPUs: []int{0}}} }},
		{"numa", func(c *Config) { c.NUMA = make([]NUMANode, maxNUMANodes+1) }},
		{"numa[0].distances", func(c *Config) { c.NUMA = []NUMANode{{CPUs: []int{0}, MemoryBytes: 1 << 27, Distances: []int{}}} }},
		{"cpu.topology", func(c *Config) { c.CPU.Topology = &Topology{} }},
		{"vcpus", func(c *Config) { c.VCPUs = 0 }},
		{"memoryBytes", func(c *Config) { c.MemoryBytes = 0 }},
		{"memoryBytes", func(c *Config) { c.MemoryBytes = 32 << 40 }},
		{"disks[0].id", disk(func(d *Disk) { d.ID = "" })},
		{"disks[0].id", disk(func(d *Disk) { d.ID = "Root" })},
		{"disks[0].id", disk(func(d *Disk) { d.ID = "a.b0" })},
		{"disks[0].id", disk(func(d *Disk) { d.ID = strings.Repeat("x", 21) })},
		{"disks[0].bus", disk(func(d *Disk) { d.Bus = "ide" })},
		{"disks[0].media", disk(func(d *Disk) { d.Media = "floppy" })},
		{"disks[0].format", disk(func(d *Disk) { d.Format = "vmdk" })},
		{"disks[0].format", disk(func(d *Disk) { d.Format = "" })},
		{"disks[0].serial", disk(func(d *Disk) { d.Serial = "ä" })},
		{"disks[0].bootIndex", disk(func(d *Disk) { d.BootIndex = -1 })},
		{"disks[0].backing", disk(func(d *Disk) { d.Backing = make([]Backing, 17) })},
		{"disks[0].backing[0].format", disk(func(d *Disk) { d.Backing = []Backing{{}} })},
		{"disks[0].backing[1]", disk(func(d *Disk) { d.Backing = []Backing{{FormatRaw}, {FormatRaw}} })},
		{"nics[0].id", nic(func(n *NIC) { n.ID = "0eth" })},
		{"nics[0].mac", nic(func(n *NIC) { n.MAC = "" })},
		{"nics[0].mac", nic(func(n *NIC) { n.MAC = "01:00:5e:00:00:01" })},
		{"nics[0].mac", nic(func(n *NIC) { n.MAC = "52:54:00:AB:00:01" })},
		{"nics[0].mac", nic(func(n *NIC) { n.MAC = "00:00:00:00:fe:80:00:00" })},
		{"nics[0].mtu", nic(func(n *NIC) { n.MTU = 67 })},
		{"nics[0].mtu", nic(func(n *NIC) { n.MTU = 65536 })},
		{"nics[0].queues", nic(func(n *NIC) { n.Queues = 17 })},
		{"nics[0].queues", nic(func(n *NIC) { n.Queues = -1 })},
	} {
		config := Config{
			Name: "vm", UUID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8", Accel: TCG, VCPUs: 1, MemoryBytes: 1 << 27,
			Disks: []Disk{{ID: "root", Bus: BusVirtio, Format: FormatQCow2}},
			NICs:  []NIC{{ID: "eth0", MAC: "52:54:00:00:00:01"}},
		}
		if _, err := Build(config, caps); err != nil {
			t.Fatal(err)
		}
		c.change(&config)
		_, err := Build(config, caps)
		var ce *ConfigError
		if !errors.As(err, &ce) || ce.Field != c.field || !strings.Contains(err.Error(), ce.Accepted) {
			t.Errorf("%d: %s: Build says %v", i, c.field, err)
		}
	}
}

func TestTopologyMakes(t *testing.T) {
	for _, c := range []struct {
		t    Topology
		n    int
		want bool
	}{
		{Topology{1, 1, 1}, 1, true},
		{Topology{2, 2, 2}, 8, true},
		{Topology{1, 4, 1}, 8, false},
		{Topology{0, 4, 1}, 4, false},
		{Topology{-2, -2, 1}, 4, false},
		{Topology{1 << 32, 1 << 32, 1}, 0, false},
	} {
		if got := c.t.makes(c.n); got != c.want {
			t.Errorf("%+v of %d: %v", c.t, c.n, got)
		}
	}
}

func TestVersions(t *testing.T) {
	for _, c := range []struct {
		a, b Version
		less bool
	}{
		{Version{7, 2, 0}, Version{7, 2, 1}, true},
		{Version{7, 9, 9}, Version{8, 0, 0}, true},
		{Version{10, 0, 0}, Version{9, 2, 0}, false},
		{Version{7, 2, 0}, Version{7, 2, 0}, false},
	} {
		if got := c.a.Less(c.b); got != c.less {
			t.Errorf("%v < %v: %v", c.a, c.b, got)
		}
	}
}

func TestGates(t *testing.T) {
	if (Version{7, 2, 22}).Has(FeatureReconnectMS) || !(Version{9, 2, 0}).Has(FeatureReconnectMS) || !(Version{10, 1, 0}).Has(FeatureReconnectMS) {
		t.Error("reconnect-ms is there from 9.2 on")
	}
	if (Version{99, 0, 0}).Has("no such feature") {
		t.Error("an unknown feature is there")
	}
	for f, since := range gates {
		if since.Less(MinVersion) {
			t.Errorf("%s needs no gate: every supported release has it", f)
		}
	}
}

func TestRootPorts(t *testing.T) {
	if got := RootPorts(); !slices.Equal(got, []string{"rp0", "rp1", "rp2", "rp3"}) {
		t.Errorf("%q", got)
	}
}
