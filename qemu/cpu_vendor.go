package qemu

import (
	"cmp"
	"strings"
)

// What CPUID tells of the vendor.
const (
	vendorIntel = "GenuineIntel"
	vendorAMD   = "AuthenticAMD"
	vendorHygon = "HygonGenuine"
)

// otherVendors are how the models begin that are not Intel's; QEMU has no
// question about it that could be asked of all models at once.
var otherVendors = map[string]string{
	"EPYC": vendorAMD, "Opteron": vendorAMD, "athlon": vendorAMD, "phenom": vendorAMD,
	"qemu64": vendorAMD, "max": vendorAMD,
	"Dhyana": vendorHygon,
}

// modelVendor is the vendor of a model of QEMU's under TCG.
func modelVendor(model string) string {
	for begin, vendor := range otherVendors {
		if strings.HasPrefix(model, begin) {
			return vendor
		}
	}
	return vendorIntel
}

// ownVendor is the vendor of the processor before the guest is told another:
// KVM tells the host's, whatever the model.
func (b *builder) ownVendor() string {
	switch {
	case b.Accel == KVM:
		return b.caps.HostVendor
	case b.namedModel():
		return modelVendor(b.CPU.Model)
	}
	return modelVendor(b.caps.Arch.maximalCPU())
}

// guestVendor is the vendor that the guest reads.
func (b *builder) guestVendor() string { return cmp.Or(b.CPU.VendorID, b.ownVendor()) }

// checkVendor refuses a processor of another vendor.
func (b *builder) checkVendor() error {
	if id := b.CPU.VendorID; id != "" && (len(id) != 12 || !printableASCII(id, 12) || strings.Contains(id, ",")) {
		return bad("cpu.vendorID", id, "12 printable ASCII characters without a comma")
	}
	if want, have := b.CPU.Vendor, b.ownVendor(); want != "" && want != have {
		return bad("cpu.vendor", want, "nothing, or %s: that is the vendor %s", cmp.Or(have, "no other"), b.vendorOf())
	}
	return nil
}

func (b *builder) vendorOf() string {
	switch {
	case b.Accel == KVM:
		return "of this host"
	case b.namedModel():
		return "of the model " + b.CPU.Model
	}
	return "that TCG emulates"
}
