package cloudinit

import (
	"bytes"
	"encoding/json"
	"flag"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite golden files")

func mac(s string) net.HardwareAddr {
	m, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return m
}

// fullSeed has everything in it.
func fullSeed(t ImageType) Seed {
	return Seed{
		Type:       t,
		InstanceID: "vm.default",
		Hostname:   "vm",
		SSHKeys:    []string{"ssh-ed25519 AAAA me@here", "ssh-rsa BBBB <you&me>"},
		MetaData:   map[string]any{"extra": json.Number("12345678901234567890"), "local-hostname": "other"},
		UserData: map[string]any{
			"users":       []any{map[string]any{"name": "u", "sudo": "ALL=(ALL) NOPASSWD:ALL"}},
			"write_files": []any{map[string]any{"path": "/mine", "content": "mine\n"}},
			"runcmd":      []any{[]any{"touch", "/mine"}, "echo mine"},
			"timezone":    "UTC",
		},
		Files:  []WriteFile{{Path: "/etc/text", Mode: 0o644, Data: []byte("one\ntwo\n")}, {Path: "/etc/secret", Mode: 0o400, Data: []byte("s"), Base64: true}, {Path: "/bin/x", Mode: 0o4755, Data: []byte{0xff, 0}}},
		Env:    []EnvVar{{"A", "1"}, {"EMPTY", ""}, {"URL", "http://h:80/p"}, {"WORDS", `it's "two" $HOME \ words`}, {"LINES", "1\n2"}},
		Mounts: [][]string{{"/dev/vdb1", "/mnt"}, {"tag", "/data", "9p", "trans=virtio"}},
		RunCmd: [][]string{{"/etc/cloud/symlink-devs.sh"}},
		Network: &NetworkConfig{
			Interfaces: []Interface{
				{
					Name: "eth0", MAC: mac("02:00:00:00:00:01"), MTU: 1450,
					Addresses: []Address{
						{netip.MustParsePrefix("10.1.2.3/24"), netip.MustParseAddr("10.1.2.1")},
						{netip.MustParsePrefix("fd00:1::5/64"), netip.MustParseAddr("fd00:1::1")},
					},
					Routes: []Route{
						{netip.MustParsePrefix("0.0.0.0/0"), netip.Addr{}},
						{netip.MustParsePrefix("10.96.0.0/12"), netip.MustParseAddr("10.1.2.9")},
						{netip.MustParsePrefix("::/0"), netip.MustParseAddr("fd00:1::1")},
					},
				},
				{
					Name: "eth1", MAC: mac("02:00:00:00:00:02"),
					Addresses: []Address{{netip.MustParsePrefix("192.168.7.2/30"), netip.Addr{}}},
					Routes: []Route{
						{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("192.168.7.1")}, // a second default
						{netip.MustParsePrefix("172.16.5.0/24"), netip.MustParseAddr("192.168.7.1")},
					},
				},
				{Name: "eth2", MAC: mac("02:00:00:00:00:03")},
				{ // as Calico has it
					Name: "eth3", MAC: mac("02:00:00:00:00:04"), MTU: 9000,
					Addresses: []Address{
						{netip.MustParsePrefix("10.5.0.7/32"), netip.Addr{}},
						{netip.MustParsePrefix("fd00:5::7/128"), netip.Addr{}},
						{netip.MustParsePrefix("10.5.0.8/32"), netip.Addr{}},
					},
					Routes: []Route{
						{netip.MustParsePrefix("169.254.1.1/32"), netip.Addr{}},
						{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("169.254.1.1")},
						{netip.MustParsePrefix("fd00:6::/64"), netip.MustParseAddr("fe80::1")},
					},
				},
				{ // as the ptp plugin has it
					Name: "eth4", MAC: mac("02:00:00:00:00:05"),
					Addresses: []Address{{netip.MustParsePrefix("fd00:7::7/128"), netip.Addr{}}},
					Routes:    []Route{{netip.MustParsePrefix("fd00:8::/64"), netip.MustParseAddr("fd00:7::1")}},
				},
			},
			Nameservers: []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00::a")},
			Search:      []string{"default.svc.cluster.local", "cluster.local"},
		},
	}
}

func render(t testing.TB, s Seed) map[string]string {
	t.Helper()
	files, err := s.Render()
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for _, f := range files {
		m[f.Path] = string(f.Data)
	}
	return m
}

func TestSeedGolden(t *testing.T) {
	dhcp := fullSeed(NoCloud)
	dhcp.Network, dhcp.MetaData, dhcp.UserData = nil, nil, nil
	script := fullSeed(NoCloud)
	script.UserDataScript = "#!/bin/sh\n" + MountScriptPlaceholder + "\necho $X # " + MountScriptPlaceholder + "\n"
	script.MountScript = "#!/bin/sh\nmount"
	for name, s := range map[string]Seed{
		"nocloud":     fullSeed(NoCloud),
		"configdrive": fullSeed(ConfigDrive),
		"generated":   dhcp,
		"script":      script,
		"least":       {InstanceID: "a.b", Hostname: "a"},
		"least-drive": {Type: ConfigDrive, InstanceID: "a.b", Hostname: "a", Network: &NetworkConfig{}},
	} {
		t.Run(name, func(t *testing.T) {
			files, err := s.Render()
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			for _, f := range files {
				b.WriteString("--- " + f.Path + "\n" + strings.TrimSuffix(string(f.Data), "\n") + "\n")
			}
			golden(t, filepath.Join("testdata/seed", name+".txt"), b.Bytes())
		})
	}
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s (run with -update if this is meant): got\n%s\nwant\n%s", path, got, want)
	}
}

// user-data is there even if it says nothing, and begins with its mark.
func TestUserDataAlwaysThere(t *testing.T) {
	if got := render(t, Seed{})["user-data"]; got != "#cloud-config\n" {
		t.Errorf("got %q", got)
	}
}

func TestSeedRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		s    Seed
		want string
	}{
		"type":        {Seed{Type: "NoCloud"}, `type "NoCloud": accepted are "nocloud" and "configdrive"`},
		"write_files": {Seed{UserData: map[string]any{"write_files": "x"}, Env: []EnvVar{{"A", "1"}}}, `user-data: "write_files" has to be a list`},
		"runcmd":      {Seed{UserData: map[string]any{"runcmd": map[string]any{}}, RunCmd: [][]string{{"x"}}}, `"runcmd" has to be a list`},
		"long name":   {Seed{Network: &NetworkConfig{Interfaces: []Interface{{Name: "sixteen-bytes-it", MAC: mac("02:00:00:00:00:01")}}}}, "1 to 15 bytes"},
		"no MAC":      {Seed{Network: &NetworkConfig{Interfaces: []Interface{{Name: "eth0"}}}}, "no MAC address"},
		"no address":  {Seed{Network: &NetworkConfig{Interfaces: []Interface{{Name: "eth0", MAC: mac("02:00:00:00:00:01"), Addresses: make([]Address, 1)}}}}, "not valid"},
		"no route":    {Seed{Network: &NetworkConfig{Interfaces: []Interface{{Name: "eth0", MAC: mac("02:00:00:00:00:01"), Routes: make([]Route, 1)}}}}, "without a destination"},
		"not JSON":    {Seed{MetaData: map[string]any{"x": func() {}}}, "meta-data:"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := c.s.Render(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// A user's own lists are only added to, and a null or a missing one is fine.
func TestUserEntriesComeFirst(t *testing.T) {
	for text, want := range map[string][]any{
		"runcmd: [mine]":           {"mine", []any{"ours"}},
		"runcmd: null":             {[]any{"ours"}},
		"other: 1":                 {[]any{"ours"}},
		"runcmd: []":               {[]any{"ours"}},
		"runcmd: [[a, b], {c: d}]": {[]any{"a", "b"}, map[string]any{"c": "d"}, []any{"ours"}},
	} {
		var user map[string]any
		if err := yaml.Unmarshal([]byte(text), &user); err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		out := render(t, Seed{UserData: user, RunCmd: [][]string{{"ours"}}})["user-data"]
		if err := yaml.Unmarshal([]byte(out), &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got["runcmd"], want) {
			t.Errorf("%s: got %v, want %v", text, got["runcmd"], want)
		}
	}
}

// Each address family has one default route, and a route goes to the address
// whose network its gateway is in.
func TestRoutesGoToTheirSubnet(t *testing.T) {
	in := Interface{
		Name: "eth0", MAC: mac("02:00:00:00:00:01"),
		Addresses: []Address{
			{netip.MustParsePrefix("10.0.0.2/24"), netip.Addr{}},
			{netip.MustParsePrefix("10.0.1.2/24"), netip.MustParseAddr("10.0.1.1")},
		},
		Routes: []Route{
			{netip.MustParsePrefix("10.9.0.0/16"), netip.MustParseAddr("10.0.1.7")},
			{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.0.0.1")},
			{netip.MustParsePrefix("0.0.0.0/0"), netip.Addr{}},
			{netip.MustParsePrefix("10.8.3.4/16"), netip.Addr{}},
			{netip.MustParsePrefix("fd00::/64"), netip.MustParseAddr("fd00::1")},
		},
	}
	n := NetworkConfig{Interfaces: []Interface{in}}
	got := n.version1().Config[0].(v1Physical).Subnets
	want := []v1Subnet{
		{Type: "static", Address: "10.0.0.2", Netmask: "255.255.255.0", Routes: []v1Route{{"0.0.0.0", "0.0.0.0", "10.0.0.1"}}},
		{Type: "static", Address: "10.0.1.2", Netmask: "255.255.255.0", Routes: []v1Route{{"10.9.0.0", "255.255.0.0", "10.0.1.7"}, {"10.8.0.0", "255.255.0.0", "10.0.1.1"}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

// A full name is told as long as the manifest does not name the host itself.
func TestFQDN(t *testing.T) {
	const full = "vm.web.default.svc.cluster.local"
	for name, c := range map[string]struct {
		seed Seed
		want map[string]any
	}{
		"none":            {Seed{Hostname: "vm"}, nil},
		"of a subdomain":  {Seed{Hostname: "vm", FQDN: full}, map[string]any{"fqdn": full}},
		"as host name":    {Seed{Hostname: full, FQDN: full}, map[string]any{"fqdn": full, "hostname": full}},
		"user's hostname": {Seed{Hostname: "vm", FQDN: full, UserData: map[string]any{"hostname": "mine"}}, map[string]any{"hostname": "mine"}},
		"user's fqdn":     {Seed{Hostname: "vm", FQDN: full, UserData: map[string]any{"fqdn": "mine.org"}}, map[string]any{"fqdn": "mine.org"}},
		"meta-data":       {Seed{Hostname: "vm", FQDN: full, MetaData: map[string]any{"local-hostname": "mine"}}, nil},
		"drive":           {Seed{Hostname: "vm", FQDN: full, MetaData: map[string]any{"hostname": "mine"}}, nil},
	} {
		var got map[string]any
		if err := yaml.Unmarshal([]byte(render(t, c.seed)["user-data"]), &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
