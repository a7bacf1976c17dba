package qemu

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files of testdata anew")

// goldenCase is one testdata/*.yaml: a Config, and in its first line, if it is
// not to be started, why.
type goldenCase struct {
	name    string
	config  Config
	noStart string
}

// goldenCases reads them all.
func goldenCases(t testing.TB) []goldenCase {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden cases: %v", err)
	}
	cases := make([]goldenCase, len(paths))
	for i, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		c := goldenCase{name: strings.TrimSuffix(filepath.Base(path), ".yaml")}
		if err := yaml.UnmarshalStrict(data, &c.config); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if first, _, _ := strings.Cut(string(data), "\n"); strings.HasPrefix(first, "# start: no") {
			c.noStart = first
		}
		cases[i] = c
	}
	return cases
}

// goldenCapabilities are those of Debian 12's QEMU, as Probe reports them.
func goldenCapabilities(t testing.TB) Capabilities {
	t.Helper()
	data, err := os.ReadFile("testdata/capabilities.json")
	if err != nil {
		t.Fatal(err)
	}
	var caps Capabilities
	if err := json.Unmarshal(data, &caps); err != nil {
		t.Fatal(err)
	}
	return caps
}

// goldenText is what stands in a .argv file: one argument per line, then the
// descriptors; or what Build said.
func goldenText(inv Invocation, err error) string {
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	var out strings.Builder
	fmt.Fprintln(&out, inv.Binary)
	for _, arg := range inv.Args {
		fmt.Fprintln(&out, arg)
	}
	fmt.Fprintln(&out)
	for _, s := range inv.Sockets {
		fmt.Fprintf(&out, "fd %d: listening socket %s\n", s.FD, s.Name)
	}
	for _, p := range inv.Pipes {
		fmt.Fprintf(&out, "fd %d: FIFO %s, kept open by %d\n", p.ReadFD, p.Name, p.KeepFD)
	}
	for _, f := range inv.Files {
		fmt.Fprintf(&out, "fd %d: %s%s\n", f.FD, f.Name, map[bool]string{true: ", writable"}[f.Writable])
	}
	for _, c := range inv.Commands {
		raw, _ := json.Marshal(c)
		fmt.Fprintf(&out, "qmp: %s\n", raw)
	}
	return out.String()
}

func TestGolden(t *testing.T) {
	caps := goldenCapabilities(t)
	for _, c := range goldenCases(t) {
		t.Run(c.name, func(t *testing.T) {
			got := goldenText(Build(c.config, caps))
			path := filepath.Join("testdata", c.name+".argv")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatalf("%v (write it with -update)", err)
			}
			if got != string(want) {
				t.Errorf("%s differs (-update writes it anew); got:\n%s", path, got)
			}
		})
	}
}

// Case names and results must agree, so that an -update cannot turn a refusal
// into a machine unnoticed.
func TestGoldenRefusals(t *testing.T) {
	caps := goldenCapabilities(t)
	for _, c := range goldenCases(t) {
		refusal := strings.HasPrefix(c.name, "bad-") || strings.HasPrefix(c.name, "too-many-")
		_, err := Build(c.config, caps)
		var ce *ConfigError
		if refusal != errors.As(err, &ce) {
			t.Errorf("%s: Build says %v", c.name, err)
		}
		if ce != nil && (ce.Field == "" || ce.Accepted == "") {
			t.Errorf("%s: %#v names no field or nothing accepted", c.name, ce)
		}
	}
}

func TestBuildIsPure(t *testing.T) {
	caps := goldenCapabilities(t)
	for _, c := range goldenCases(t) {
		before := renderJSON(c.config)
		first, err1 := Build(c.config, caps)
		second, err2 := Build(c.config, caps)
		if !reflect.DeepEqual(first, second) || fmt.Sprint(err1) != fmt.Sprint(err2) {
			t.Errorf("%s: building twice gives two machines", c.name)
		}
		if renderJSON(c.config) != before || renderJSON(caps) != renderJSON(goldenCapabilities(t)) {
			t.Errorf("%s: Build changed its arguments", c.name)
		}
	}
}

// What is recorded must come back the same.
func TestRecorded(t *testing.T) {
	caps := goldenCapabilities(t)
	for _, c := range goldenCases(t) {
		var config Config
		if err := json.Unmarshal([]byte(renderJSON(c.config)), &config); err != nil || !reflect.DeepEqual(config, c.config) {
			t.Errorf("%s: the config comes back as %+v, %v", c.name, config, err)
		}
		inv, err := Build(c.config, caps)
		if err != nil {
			continue
		}
		var again Invocation
		if err := json.Unmarshal([]byte(renderJSON(inv)), &again); err != nil || !reflect.DeepEqual(again, inv) {
			t.Errorf("%s: the invocation comes back as %+v, %v", c.name, again, err)
		}
	}
}

func TestDescriptorsAreNumberedWithoutGap(t *testing.T) {
	caps := goldenCapabilities(t)
	for _, c := range goldenCases(t) {
		inv, err := Build(c.config, caps)
		if err != nil {
			continue
		}
		seen := map[int]string{}
		for _, s := range inv.Sockets {
			seen[s.FD] = s.Name
		}
		for _, p := range inv.Pipes {
			seen[p.ReadFD], seen[p.KeepFD] = p.Name, p.Name
		}
		for _, f := range inv.Files {
			seen[f.FD] = f.Name
		}
		total := len(inv.Sockets) + 2*len(inv.Pipes) + len(inv.Files)
		for fd := firstFD; fd < firstFD+total; fd++ {
			if seen[fd] == "" {
				t.Errorf("%s: no descriptor %d of %d", c.name, fd, total)
			}
		}
		if len(seen) != total {
			t.Errorf("%s: %d numbers for %d descriptors", c.name, len(seen), total)
		}
	}
}

func TestOpenFlags(t *testing.T) {
	for need, want := range map[FileNeed]int{
		{}:                             os.O_RDONLY,
		{Writable: true}:               os.O_RDWR,
		{Writable: true, Append: true}: os.O_WRONLY | os.O_APPEND,
		{Directory: true}:              unix.O_PATH | unix.O_DIRECTORY,
	} {
		if got := need.OpenFlags(); got != want {
			t.Errorf("%+v: flags %#x, want %#x", need, got, want)
		}
	}
}

// A binary that lacks something that a machine needs is refused by name.
func TestBuildForLesserBinary(t *testing.T) {
	config := func(change func(*Config)) Config {
		c := Config{Name: "vm", UUID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8", Accel: TCG, VCPUs: 1, MemoryBytes: 1 << 27}
		if change != nil {
			change(&c)
		}
		return c
	}
	without := func(driver string) func(*Capabilities) {
		return func(c *Capabilities) {
			var rest []string
			for _, d := range c.Devices {
				if d != driver {
					rest = append(rest, d)
				}
			}
			c.Devices = rest
		}
	}
	disk := func(bus DiskBus, m Media) func(*Config) {
		return func(c *Config) { c.Disks = []Disk{{ID: "root", Bus: bus, Media: m, Format: FormatRaw}} }
	}
	for name, c := range map[string]struct {
		caps   func(*Capabilities)
		config func(*Config)
		says   string
	}{
		"balloon":     {caps: without("virtio-balloon-pci"), says: "virtio-balloon-pci"},
		"rng":         {caps: without("virtio-rng-pci"), says: "virtio-rng-pci"},
		"pvpanic":     {caps: without("pvpanic-pci"), says: "pvpanic-pci"},
		"serial":      {caps: without("isa-serial"), says: "isa-serial"},
		"root port":   {caps: without("pcie-root-port"), says: "pcie-root-port"},
		"virtio disk": {caps: without("virtio-blk-pci"), config: disk(BusVirtio, ""), says: "virtio-blk-pci"},
		"controller":  {caps: without("virtio-scsi-pci"), config: disk(BusSCSI, ""), says: "virtio-scsi-pci"},
		"scsi disk":   {caps: without("scsi-hd"), config: disk(BusSCSI, ""), says: "scsi-hd"},
		"scsi cd":     {caps: without("scsi-cd"), config: disk(BusSCSI, MediaCDROM), says: "scsi-cd"},
		"nic": {caps: without("virtio-net-pci"), config: func(c *Config) {
			c.NICs = []NIC{{ID: "eth0", MAC: "52:54:00:00:00:01"}}
		}, says: "virtio-net-pci"},
		"share": {caps: without("virtio-9p-pci"), config: func(c *Config) {
			c.Shares = []Share{{ID: "data", Tag: "data"}}
		}, says: "virtio-9p-pci"},
		"kvm":      {caps: func(c *Capabilities) { c.Accels = []Accel{TCG} }, config: func(c *Config) { c.Accel = KVM }, says: "accelerator kvm"},
		"machines": {caps: func(c *Capabilities) { c.Machines = nil }, says: "q35"},
	} {
		t.Run(name, func(t *testing.T) {
			caps := goldenCapabilities(t)
			c.caps(&caps)
			_, err := Build(config(c.config), caps)
			if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), caps.Binary) {
				t.Errorf("Build says %v", err)
			}
		})
	}
}

func TestBuildForForeignArchitecture(t *testing.T) {
	caps := goldenCapabilities(t)
	caps.Arch = "aarch64"
	_, err := Build(Config{}, caps)
	if err == nil || !strings.Contains(err.Error(), "aarch64") {
		t.Errorf("Build says %v", err)
	}
}

// What a binary does not have, it need not have switched off.
func TestMachineOptionsOfLesserBinary(t *testing.T) {
	caps := goldenCapabilities(t)
	caps.MachineOptions = []string{"usb"}
	inv, err := Build(Config{Name: "vm", UUID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8", Accel: TCG, VCPUs: 1, MemoryBytes: 1 << 27}, caps)
	if err != nil {
		t.Fatal(err)
	}
	if got := inv.Args[1]; got != "pc-q35-7.2,usb=off,memory-backend=pc.ram" {
		t.Errorf("-machine %s", got)
	}
}

func BenchmarkBuild(b *testing.B) {
	caps := goldenCapabilities(b)
	for _, c := range goldenCases(b) {
		if c.name != "scsi-root" && c.name != "max-disks-virtio" {
			continue
		}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Build(c.config, caps); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
