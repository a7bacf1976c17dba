package vmpod

// CPUSetting is VirtletLibvirtCPUSetting: libvirt's <cpu> element. Words are
// as libvirt writes them and known to be of its grammar; whether a processor
// of that kind can be had is for the hypervisor to say.
type CPUSetting struct {
	// Mode is one of CPUCustom, CPUHostModel and CPUHostPassthrough; CPUCustom
	// when only Model says what is wanted, and empty when nothing does.
	Mode string
	// Check is how a guest that gets less is treated: "none", "partial",
	// "full", or empty for the default.
	Check string
	// Model is the processor of CPUCustom, by its name.
	Model string
	// VendorID is what the guest reads as the vendor, 12 characters, or empty
	// for the model's own.
	VendorID string
	// Vendor is the vendor that the processor has to be of, in CPUID's 12
	// characters, or empty.
	Vendor string
	// Topology, when nil, is the hypervisor's.
	Topology *CPUTopology
	// Cache is what the guest is told about the third-level cache: "emulate",
	// "passthrough", "disable", or empty.
	Cache string
	// Features are named at most once each, in the manifest's order.
	Features []CPUFeature
	// NUMA are the guest's NUMA nodes; the index is the node's number.
	NUMA []NUMACell
	// Ignored are the keys that mean nothing to libvirt, by their paths, sorted.
	Ignored []string
}

// The modes of a processor.
const (
	CPUCustom          = "custom"
	CPUHostModel       = "host-model" // what comes closest to the host's
	CPUHostPassthrough = "host-passthrough"
)

// CPUTopology lays virtual processors out; all three are positive.
type CPUTopology struct{ Sockets, Cores, Threads int }

// CPUFeature is a processor's feature by libvirt's name, and what libvirt calls
// its policy: "force", "require", "optional", "disable" or "forbid".
type CPUFeature struct{ Name, Policy string }

// NUMACell is a NUMA node of the guest.
type NUMACell struct {
	// CPUs are the indices of its virtual processors, ascending.
	CPUs []int
	// MemoryBytes is a multiple of MemoryStep: libvirt rounds up to it.
	MemoryBytes int64
	// Shared memory is mapped so that other processes could share it.
	Shared bool
	// Distances to each node in their order, nil for all cells when none
	// has any.
	Distances []int
}

// CPUSettingAnnotation is the name of the annotation about the processor.
const CPUSettingAnnotation = "VirtletLibvirtCPUSetting"

// CPUModelAnnotation is the name of the short annotation about the processor.
const CPUModelAnnotation = "VirtletCPUModel"

// VCPUCountAnnotation is the name of the annotation about the number of
// virtual processors.
const VCPUCountAnnotation = "VirtletVCPUCount"

// setCPUSetting reads the annotation. What it has to agree on with others is
// checked when all are read.
func setCPUSetting(s *Settings, value string) error {
	d, err := readTree(CPUSettingAnnotation, value)
	if err != nil {
		return err
	}
	c := readCPU(d)
	c.Ignored = d.ignored()
	if err := d.bad.err(); err != nil {
		return err
	}
	s.CPU = c
	return nil
}

func readCPU(t *tree) *CPUSetting {
	c := &CPUSetting{
		Mode:   t.word("Mode", CPUCustom, CPUHostModel, CPUHostPassthrough),
		Check:  t.word("Check", "none", "partial", "full"),
		Vendor: readVendor(t),
	}
	readMatch(t)
	c.readModel(t)
	c.Topology = readTopology(t.mapping("Topology"))
	c.readCache(t.mapping("Cache"))
	c.Features = readFeatures(t.mappings("Features"))
	c.NUMA = readNUMA(t.mapping("Numa"))
	return c
}

// readMatch takes what QEMU does anyway: a guest has the model as it is, and
// the features beside it that are named.
func readMatch(t *tree) {
	switch m := t.word("Match", "minimum", "exact", "strict"); m {
	case "minimum":
		t.refuse("Match", m, "QEMU has no model that is at least another", "exact; or, for all that the host has, Mode host-model without Model")
	case "strict":
		t.refuse("Match", m, "QEMU has no model that the host must not surpass", "exact, or Mode host-passthrough without Model")
	}
}

// vendors are the names by which libvirt knows what CPUID says.
var vendors = map[string]string{"Intel": "GenuineIntel", "AMD": "AuthenticAMD", "Hygon": "HygonGenuine"}

func readVendor(t *tree) string {
	name := t.text("Vendor")
	if name == "" {
		return ""
	}
	for libvirts, cpuid := range vendors {
		if name == libvirts || name == cpuid {
			return cpuid
		}
	}
	t.refuse("Vendor", name, "unknown vendor", "Intel, AMD or Hygon")
	return ""
}

// readModel reads the model, and what the mode has to do with it.
func (c *CPUSetting) readModel(t *tree) {
	m := t.mapping("Model")
	m.word("Fallback", "allow", "forbid") // no other model is taken, which suits both
	c.Model, c.VendorID = m.text("Value"), m.text("VendorID")
	if c.VendorID != "" && !isVendorID(c.VendorID) {
		m.refuse("VendorID", c.VendorID, "not a vendor id", "12 printable ASCII characters without a comma")
	}
	if c.Mode == "" && c.Model != "" {
		c.Mode = CPUCustom
	}
	switch {
	case c.Mode == CPUCustom && c.Model == "":
		m.refuse("Value", "", "is missing: Mode custom names a model", "the name of a model, such as Westmere")
	case c.Mode != CPUCustom && c.Model != "":
		m.refuse("Value", c.Model, "Mode "+c.Mode+" takes no model", "Mode custom, or no Model.Value")
	}
}

func isVendorID(s string) bool {
	for _, b := range []byte(s) {
		if b < ' ' || b > '~' || b == ',' {
			return false
		}
	}
	return len(s) == 12
}

func readTopology(t *tree) *CPUTopology {
	if !t.there() {
		return nil
	}
	const accepted = "a number from 1 to 255"
	return &CPUTopology{
		Sockets: int(t.number("Sockets", 1, maxVCPUs, accepted)),
		Cores:   int(t.number("Cores", 1, maxVCPUs, accepted)),
		Threads: int(t.number("Threads", 1, maxVCPUs, accepted)),
	}
}

// readCache follows libvirt: only the third level can be emulated, and only
// the host's own processor has the host's caches.
func (c *CPUSetting) readCache(t *tree) {
	if !t.there() {
		return
	}
	c.Cache = t.word("Mode", "emulate", "passthrough", "disable")
	level := int64(0)
	if t.has("Level") {
		level = t.number("Level", 0, 3, "3, with Mode emulate only")
	}
	switch {
	case c.Cache == "":
		if !t.has("Mode") {
			t.refuse("Mode", "", "is missing", "emulate, passthrough or disable")
		}
	case c.Cache == "emulate" && level != 3:
		t.refuse("Level", t.shown("Level"), "QEMU emulates the third level only", "3")
	case c.Cache != "emulate" && level != 0:
		t.refuse("Level", t.shown("Level"), "goes with Mode emulate only", "no Level")
	case c.Cache == "passthrough" && c.Mode != CPUHostPassthrough:
		t.refuse("Mode", c.Cache, "only the host's own processor has its caches", "emulate or disable, or the processor's Mode host-passthrough")
	}
}

func readFeatures(list []*tree) []CPUFeature {
	var all []CPUFeature
	seen := map[string]bool{}
	for _, t := range list {
		f := CPUFeature{Name: t.text("Name"), Policy: t.word("Policy", "force", "require", "optional", "disable", "forbid")}
		switch {
		case f.Name == "" && !t.failed("Name"):
			t.refuse("Name", "", "is missing", "the name of a feature, such as avx2")
		case seen[f.Name]:
			t.refuse("Name", f.Name, "is given twice", "each feature once")
		}
		if f.Policy == "" {
			f.Policy = "require" // libvirt's default
		}
		seen[f.Name] = f.Name != ""
		all = append(all, f)
	}
	return all
}
