package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/reach"
)

const dumpxmlHelp = `Show what a VM is made of in the manner of virsh dumpxml.

It is a summary for eyes and scripts that look for what they know: there is no
libvirt, and nothing reads it back. PROGRAM inspect has the whole truth.`

func newDumpxmlCommand(a *access) *cobra.Command {
	return a.withPod(&cobra.Command{
		Use: "dumpxml POD", Short: "Show what a VM is made of, as virsh does", Long: dumpxmlHelp, Args: exactlyOne(podArgument),
		Example: "  PROGRAM dumpxml my-vm\n  PROGRAM virsh dumpxml -- @my-vm",
	}, func(cmd *cobra.Command, p *reach.Pod, _ []string) error {
		d, err := details(cmd.Context(), p)
		if err != nil {
			return err
		}
		x, err := domainOf(d)
		if err != nil {
			return err
		}
		return x.write(cmd.OutOrStdout())
	})
}

// domain is the part of libvirt's domain XML that says something here.
type domain struct {
	XMLName     xml.Name       `xml:"domain"`
	Type        string         `xml:"type,attr"`
	ID          string         `xml:"id,attr,omitempty"`
	Name        string         `xml:"name"`
	UUID        string         `xml:"uuid"`
	Description string         `xml:"description,omitempty"`
	Memory      withUnit       `xml:"memory"`
	VCPU        int            `xml:"vcpu"`
	OS          domainOS       `xml:"os"`
	CPU         *domainCPU     `xml:"cpu,omitempty"`
	Emulator    string         `xml:"devices>emulator,omitempty"`
	Disks       []domainDisk   `xml:"devices>disk"`
	Shares      []domainShare  `xml:"devices>filesystem"`
	NICs        []domainNIC    `xml:"devices>interface"`
	Console     *domainConsole `xml:"devices>console,omitempty"`
}

type withUnit struct {
	Unit  string `xml:"unit,attr"`
	Value int64  `xml:",chardata"`
}

type domainOS struct {
	Type struct {
		Arch    string `xml:"arch,attr"`
		Machine string `xml:"machine,attr,omitempty"`
		Value   string `xml:",chardata"`
	} `xml:"type"`
}

type domainCPU struct {
	Model string `xml:"model"`
}

type driver struct {
	Name string `xml:"name,attr,omitempty"`
	Type string `xml:"type,attr,omitempty"`
}

type file struct {
	File string `xml:"file,attr,omitempty"`
	Dir  string `xml:"dir,attr,omitempty"`
}

type empty struct{}

type domainDisk struct {
	Type     string `xml:"type,attr"`
	Device   string `xml:"device,attr"`
	Driver   driver `xml:"driver"`
	Source   file   `xml:"source"`
	Backing  *file  `xml:"backingStore>source,omitempty"`
	Alias    alias  `xml:"alias"`
	ReadOnly *empty `xml:"readonly,omitempty"`
}

type alias struct {
	Name string `xml:"name,attr"`
}

type domainShare struct {
	Type     string `xml:"type,attr"`
	Source   file   `xml:"source"`
	Target   file   `xml:"target"`
	ReadOnly *empty `xml:"readonly,omitempty"`
}

type domainNIC struct {
	Type string `xml:"type,attr"`
	MAC  struct {
		Address string `xml:"address,attr"`
	} `xml:"mac"`
	Target struct {
		Dev string `xml:"dev,attr"`
	} `xml:"target"`
	MTU struct {
		Size int `xml:"size,attr"`
	} `xml:"mtu"`
	IPs []domainIP `xml:"ip"`
}

type domainIP struct {
	Address string `xml:"address,attr"`
	Prefix  string `xml:"prefix,attr"`
}

type domainConsole struct {
	Type string `xml:"type,attr"`
}

func domainOf(d api.VMDetails) (*domain, error) {
	spec, err := machineOf(d)
	if err != nil {
		return nil, err
	}
	x := &domain{Name: domainName(d.VM), UUID: d.UUID, Memory: withUnit{"KiB", d.MemoryBytes >> 10}, VCPU: d.VCPUs}
	if id := domainID(d.VM); id != "-" {
		x.ID = id
	}
	if d.Image != "" {
		x.Description = "image " + d.Image
	}
	x.OS.Type.Arch, x.OS.Type.Machine, x.OS.Type.Value = "x86_64", d.Machine, "hvm"
	if vm := spec.VM; vm != nil {
		x.Type, x.Emulator = accelOf(vm.Hypervisor.Parameters), vm.Hypervisor.Path
		if model, _, _ := strings.Cut(valueOf(vm.Hypervisor.Parameters, "-cpu"), ","); model != "" {
			x.CPU = &domainCPU{model}
		}
		x.Console = &domainConsole{"pty"}
	}
	for _, m := range spec.Mounts {
		if m.Type == "9p" {
			x.Shares = append(x.Shares, domainShare{"mount", file{Dir: m.Source}, file{Dir: m.Destination}, when(slices.Contains(m.Options, "ro"))})
		}
	}
	for _, disk := range d.Disks {
		x.Disks = append(x.Disks, diskXML(disk))
	}
	for _, nic := range d.Interfaces {
		x.NICs = append(x.NICs, nicXML(nic))
	}
	return x, nil
}

// accelOf is libvirt's type of domain: kvm, or qemu for emulation.
func accelOf(args []string) string {
	if strings.HasPrefix(valueOf(args, "-accel"), "kvm") {
		return "kvm"
	}
	return "qemu"
}

// valueOf is what follows an argument, "" if it is not there.
func valueOf(args []string, name string) string {
	if i := slices.Index(args, name); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

func when(yes bool) *empty {
	if yes {
		return &empty{}
	}
	return nil
}

func diskXML(disk api.Disk) domainDisk {
	x := domainDisk{Type: "file", Device: "disk", Driver: driver{"qemu", disk.Format}, Source: file{File: disk.File}, Alias: alias{disk.ID}, ReadOnly: when(disk.ReadOnly)}
	if strings.HasPrefix(disk.File, "/dev/") && !strings.HasPrefix(disk.File, "/dev/fdset/") {
		x.Type = "block"
	}
	if disk.Backing != "" {
		x.Backing = &file{File: disk.Backing}
	}
	return x
}

func nicXML(nic api.Interface) domainNIC {
	x := domainNIC{Type: "ethernet"}
	x.MAC.Address, x.Target.Dev, x.MTU.Size = nic.MAC, nic.Tap, nic.MTU
	for _, a := range nic.Addresses {
		address, prefix, _ := strings.Cut(a, "/")
		x.IPs = append(x.IPs, domainIP{address, prefix})
	}
	return x
}

func (x *domain) write(out io.Writer) error {
	raw, err := xml.MarshalIndent(x, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, string(raw))
	return err
}
