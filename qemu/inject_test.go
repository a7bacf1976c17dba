package qemu

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"
)

// parseOptions reads QEMU's key=value syntax the way util/keyval.c and
// util/qemu-option.c do: a comma ends a value unless it is doubled.
func parseOptions(s string) map[string]string {
	parsed := map[string]string{}
	for s != "" {
		var part strings.Builder
		for s != "" {
			if strings.HasPrefix(s, ",,") {
				part.WriteByte(',')
				s = s[2:]
				continue
			}
			if s[0] == ',' {
				s = s[1:]
				break
			}
			part.WriteByte(s[0])
			s = s[1:]
		}
		key, value, _ := strings.Cut(part.String(), "=")
		parsed[key] = value
	}
	return parsed
}

// known are the options that Build writes, and the keys that may stand in them:
// nil where a value is JSON or a single word.
var known = map[string][]string{
	"-machine":  nil,
	"-display":  nil,
	"-vnc":      nil,
	"-uuid":     nil,
	"-cpu":      nil,
	"-object":   nil,
	"-global":   nil,
	"-device":   nil,
	"-blockdev": nil,
	"-netdev":   nil,
	"-name":     {"guest", "debug-threads"},
	"-smbios":   {"type", "manufacturer", "product"},
	"-accel":    {"tcg", "kvm", "tb-size", "thread", "single"},
	"-smp":      {"cpus", "sockets", "cores", "threads"},
	"-m":        {"size"},
	"-numa":     {"node", "nodeid", "cpus", "memdev", "dist", "src", "dst", "val"},
	"-boot":     {"strict"},
	"-action":   {"shutdown", "reboot", "panic"},
	"-rtc":      {"base", "driftfix"},
	"-sandbox":  {"on", "obsolete", "elevateprivileges", "spawn", "resourcecontrol"},
	"-msg":      {"timestamp", "guest-name"},
	"-trace":    {"enable"},
	"-chardev":  {"socket", "null", "id", "fd", "server", "wait"},
	"-mon":      {"chardev", "mode"},
	"-add-fd":   {"fd", "set", "opaque"},
	"-fsdev":    {"local", "id", "path", "security_model", "multidevs", "readonly"},
}

// bare are the options without a value.
var bare = []string{"-nodefaults", "-no-user-config", "-S"}

// checkArgs fails if anything stands in the arguments that Build has not put
// there by design, and returns the values of the options.
func checkArgs(args []string) (map[string][]string, error) {
	values := map[string][]string{}
	for len(args) > 0 {
		option := args[0]
		args = args[1:]
		if slices.Contains(bare, option) {
			continue
		}
		keys, ok := known[option]
		if !ok || len(args) == 0 {
			return nil, fmt.Errorf("option %q", option)
		}
		value := args[0]
		args = args[1:]
		if strings.ContainsAny(value, "\n\x00") {
			return nil, fmt.Errorf("%s has a line break: %q", option, value)
		}
		if keys != nil {
			for key := range parseOptions(value) {
				if !slices.Contains(keys, key) {
					return nil, fmt.Errorf("%s has a key %q", option, key)
				}
			}
		}
		if strings.HasPrefix(value, "{") && !json.Valid([]byte(value)) {
			return nil, fmt.Errorf("%s is no JSON: %s", option, value)
		}
		values[option] = append(values[option], value)
	}
	return values, nil
}

// nasty is text that tries to get out of its place.
func nasty() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"", "vm", "root", "eth0", "a,b", "a,,b", ",", "=", "-S", "x,id=y", `"`, `","drive":"x`, "\\", "\n", "a\nb", "\x00", "ä", "\xff", "{}", "/dev/fdset/1",
			"52:54:00:00:00:01", "6ba7b810-9dad-41d1-80b4-00c04fd430c8", "max", "qemu64", "Nehalem,enforce", "avx", "sse4_2", "avx=on", "pc-q35-7.2", "pc-q35-7.2,usb=on", "rp0", "<&>", "\u2028"}),
		rapid.String(),
		rapid.StringN(0, 40, 60),
	)
}

// anyConfig is a Config that is good in most places, and has nasty text in any.
func anyConfig() *rapid.Generator[Config] {
	or := func(t *rapid.T, label, good string) string {
		if rapid.IntRange(0, 9).Draw(t, label+"?") < 8 {
			return good
		}
		return nasty().Draw(t, label)
	}
	return rapid.Custom(func(t *rapid.T) Config {
		c := Config{
			Name:        nasty().Draw(t, "name"),
			UUID:        or(t, "uuid", "6ba7b810-9dad-41d1-80b4-00c04fd430c8"),
			Machine:     or(t, "machine", ""),
			Accel:       Accel(or(t, "accel", rapid.SampledFrom([]string{"kvm", "tcg"}).Draw(t, "accels"))),
			CPU:         CPU{Model: or(t, "model", ""), VendorID: or(t, "vendor id", ""), Check: CPUCheck(or(t, "check", "")), Cache: CPUCache(or(t, "cache", ""))},
			VCPUs:       rapid.IntRange(-1, 300).Draw(t, "vcpus"),
			MemoryBytes: int64(rapid.IntRange(-1, 1<<16).Draw(t, "MiB")) << 20,
		}
		if f := or(t, "feature", ""); f != "" {
			c.CPU.Features = map[string]FeaturePolicy{f: FeaturePolicy(or(t, "policy", rapid.SampledFrom([]string{"force", "require", "optional", "disable", "forbid"}).Draw(t, "policies")))}
		}
		for i := range rapid.IntRange(0, 28).Draw(t, "disks") {
			d := Disk{
				ID:        or(t, "disk id", fmt.Sprintf("disk%d", i)),
				Bus:       DiskBus(or(t, "bus", rapid.SampledFrom([]string{"virtio", "scsi"}).Draw(t, "buses"))),
				Media:     Media(or(t, "media", rapid.SampledFrom([]string{"", "disk", "cdrom"}).Draw(t, "medias"))),
				Format:    Format(or(t, "format", rapid.SampledFrom([]string{"qcow2", "raw"}).Draw(t, "formats"))),
				Serial:    or(t, "serial", ""),
				BootIndex: rapid.SampledFrom([]int{0, 0, 0, i + 1, -1}).Draw(t, "boot"),
			}
			for range rapid.IntRange(0, 2).Draw(t, "chain") {
				d.Backing = append(d.Backing, Backing{Format: Format(or(t, "backing", "qcow2"))})
			}
			c.Disks = append(c.Disks, d)
		}
		for i := range rapid.IntRange(0, 8).Draw(t, "nics") {
			c.NICs = append(c.NICs, NIC{
				ID:       or(t, "nic id", fmt.Sprintf("eth%d", i)),
				MAC:      or(t, "mac", "52:54:00:00:00:01"),
				MTU:      rapid.IntRange(-1, 70000).Draw(t, "mtu"),
				Queues:   rapid.IntRange(-1, 17).Draw(t, "queues"),
				VhostNet: rapid.Bool().Draw(t, "vhost"),
			})
		}
		return c
	})
}

// No value of a Config can become an option, a key or a device of its own.
func TestValuesStayInTheirPlace(t *testing.T) {
	caps := goldenCapabilities(t)
	rapid.Check(t, func(t *rapid.T) {
		c := anyConfig().Draw(t, "config")
		inv, err := Build(c, caps)
		if err != nil {
			return
		}
		checkInvocation(t, caps, c, inv)
	})
}

// The same, of configs in which only free text varies: these are built.
func TestFreeTextStaysInItsPlace(t *testing.T) {
	caps := goldenCapabilities(t)
	built := 0
	rapid.Check(t, func(t *rapid.T) {
		c := Config{
			Name: nasty().Draw(t, "name"), UUID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8", Accel: TCG, VCPUs: 1, MemoryBytes: 1 << 27,
			Disks: []Disk{{ID: "root", Bus: BusSCSI, Format: FormatRaw, Serial: nasty().Draw(t, "serial")}},
		}
		inv, err := Build(c, caps)
		if err == nil {
			built++
			checkInvocation(t, caps, c, inv)
		}
	})
	if built == 0 {
		t.Error("nothing was built")
	}
}

// checkInvocation compares what an Invocation says with the Config it is of.
func checkInvocation(t rapid.TB, caps Capabilities, c Config, inv Invocation) {
	values, err := checkArgs(inv.Args)
	if err != nil {
		t.Fatalf("%v in %q", err, inv.Args)
	}
	if got := parseOptions(values["-name"][0])["guest"]; got != c.Name {
		t.Fatalf("the name %q became %q", c.Name, got)
	}
	if got, want := len(values["-netdev"]), len(c.NICs); got != want {
		t.Fatalf("%d netdevs for %d NICs", got, want)
	}
	checkDevices(t, c, values["-device"])
	checkCPU(t, caps, values["-cpu"])
}

// checkCPU wants a model and switches that a processor has, and nothing else.
func checkCPU(t rapid.TB, caps Capabilities, values []string) {
	own := []string{"enforce", "migratable", "vendor", "l3-cache", "host-cache-info"}
	for key, value := range parseOptions(values[0]) {
		switch {
		case value == "" && slices.Contains(caps.CPUModels, key):
		case value != "" && slices.Contains(own, key):
		case (value == "on" || value == "off") && slices.Contains(caps.CPUFeatures, key):
		default:
			t.Fatalf("%s=%s in -cpu %s", key, value, values[0])
		}
	}
}

// checkDevices compares the devices of the Config's disks and NICs, and wants all
// ids and addresses to differ.
func checkDevices(t rapid.TB, c Config, devices []string) {
	serials, ids, addrs := map[string]string{}, map[string]bool{}, map[string]bool{}
	for _, text := range devices {
		var d struct{ Driver, ID, Addr, Serial string }
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			t.Fatal(err)
		}
		if d.ID == "" || ids[d.ID] || d.Addr != "" && addrs[d.Addr] {
			t.Fatalf("%s: no id, or one or an address that is taken", text)
		}
		ids[d.ID], addrs[d.Addr] = true, true
		if strings.HasPrefix(d.Driver, "scsi-") || d.Driver == "virtio-blk-pci" {
			serials[d.ID] = d.Serial
		}
	}
	want := map[string]string{}
	for _, d := range c.Disks {
		want[d.ID] = d.Serial
	}
	if !maps.Equal(serials, want) {
		t.Fatalf("disks and serials are %q, want %q", serials, want)
	}
}

// FuzzBuild takes any JSON for a Config.
func FuzzBuild(f *testing.F) {
	caps := goldenCapabilities(f)
	for _, c := range goldenCases(f) {
		f.Add([]byte(renderJSON(c.config)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var c Config
		if yaml.Unmarshal(data, &c) != nil {
			return
		}
		inv, err := Build(c, caps)
		if err != nil {
			return
		}
		if _, err := checkArgs(inv.Args); err != nil {
			t.Errorf("%v in %q", err, inv.Args)
		}
	})
}
