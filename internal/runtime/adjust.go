package runtime

import "github.com/qemulet/qemulet/disks"

// Adjustable are the Options that may change while VMs run; see there. A VM keeps
// what it was started with.
type Adjustable struct {
	VhostNet        bool
	RawDevices      disks.Whitelist
	DefaultCPUModel string
}

// Adjust has all VMs that are started from now on follow these options.
func (r *Runtime) Adjust(a Adjustable) { r.adjusted.Store(&a) }

// adjustable are those in force.
func (r *Runtime) adjustable() Adjustable {
	if a := r.adjusted.Load(); a != nil {
		return *a
	}
	return Adjustable{VhostNet: r.VhostNet, RawDevices: r.RawDevices, DefaultCPUModel: r.DefaultCPUModel}
}
