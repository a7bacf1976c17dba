package qemu

import "strings"

// Arch is a guest architecture, by QEMU's name of the target. Every decision
// that depends on the architecture is a method here.
type Arch string

// AMD64 is the 64-bit PC, the only architecture so far.
const AMD64 Arch = "x86_64"

// supported tells whether machines of this architecture can be built.
func (a Arch) supported() bool { return a == AMD64 }

// machineFamily is the alias of the newest machine type of the family used.
func (a Arch) machineFamily() string { return "q35" }

// versioned tells whether a machine type is a versioned one of the family. Only
// those keep what a guest sees the same over QEMU's releases.
func (a Arch) versioned(machine string) bool { return strings.HasPrefix(machine, "pc-q35-") }

// passthroughCPU is the model that shows the host's own processor.
func (a Arch) passthroughCPU() string { return "host" }

// maximalCPU is the model with all that TCG can do.
func (a Arch) maximalCPU() string { return "max" }

// kvmFlags are the flags in /proc/cpuinfo of which a processor with hardware
// virtualisation has one.
func (a Arch) kvmFlags() []string { return []string{"vmx", "svm"} }

// cpuTypeSuffix ends the names of the processor types.
func (a Arch) cpuTypeSuffix() string { return "-" + string(a) + "-cpu" }
