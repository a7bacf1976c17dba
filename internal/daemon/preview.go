package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/disks"
	"github.com/qemulet/qemulet/internal/config"
	"github.com/qemulet/qemulet/internal/kube"
	"github.com/qemulet/qemulet/internal/runtime"
	"github.com/qemulet/qemulet/qemu"
)

// Preview is what a daemon with these settings would make of a pod.
type Preview struct {
	*runtime.Preview
	// QEMU is the binary with its version, "" when there is none. Accel is what
	// is taken to be usable.
	QEMU  string
	Accel qemu.Accel
	// Assumed says what was taken for granted, a sentence each.
	Assumed []string
}

// PreviewPod needs no daemon and no privileges, and changes nothing. The pod's volumes
// are below cfg.KubeletRootDir, its objects in cfg.ObjectsDir; no API server is
// asked. c is nil for a look at the sandbox alone. The error is about cfg.
func PreviewPod(ctx context.Context, cfg *config.Config, s *runtimeapi.PodSandboxConfig, c *runtimeapi.ContainerConfig) (*Preview, error) {
	rawDevices, err := disks.ParseWhitelist(cfg.RawDevices)
	if err != nil {
		return nil, fmt.Errorf("raw-devices: %w", err)
	}
	p := &Preview{Assumed: []string{
		"the image is not looked at: the root disk is as large as the image's, or as is asked for if that is more",
		"CNI makes one interface",
	}}
	state := p.lookAtQEMU(ctx, cfg)
	r := &runtime.Runtime{Options: runtime.Options{
		Objects:         kube.Dir(cfg.ObjectsDir),
		StateDir:        cfg.StateDir,
		KubeletPods:     filepath.Join(cfg.KubeletRootDir, "pods"),
		RawDevices:      rawDevices,
		DefaultCPUModel: cfg.CPUModel,
	}}
	p.Preview = r.Preview(ctx, s, c, state)
	return p, nil
}

// lookAtQEMU asks the binary, but starts no guest.
func (p *Preview) lookAtQEMU(ctx context.Context, cfg *config.Config) *runtime.HypervisorState {
	caps, err := qemu.Probe(ctx, qemuBinary(cfg.QEMUBinary), "")
	if err != nil {
		p.Assumed = append(p.Assumed, fmt.Sprintf("what a QEMU can do was not checked, and there is no command line: %v", err))
		return nil
	}
	p.QEMU = fmt.Sprintf("%s %s", caps.Binary, caps.Version)
	p.Accel = p.chooseAccel(qemu.AccelMode(cfg.Accel), caps)
	return &runtime.HypervisorState{Capabilities: caps, Accel: qemu.AccelDecision{Accel: p.Accel}}
}

// chooseAccel takes KVM for usable when it is there, which only a guest could tell.
func (p *Preview) chooseAccel(mode qemu.AccelMode, caps qemu.Capabilities) qemu.Accel {
	if mode != qemu.AccelAuto {
		return qemu.Accel(mode)
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if f != nil {
		_ = f.Close()
	}
	if slices.Contains(caps.Accels, qemu.KVM) && !errors.Is(err, os.ErrNotExist) {
		p.Assumed = append(p.Assumed, "KVM is usable (--accel=tcg looks at emulation instead)")
		return qemu.KVM
	}
	p.Assumed = append(p.Assumed, "there is no KVM: the VM is emulated")
	return qemu.TCG
}
