package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/cloudinit"
	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/internal/vmpod"
	"github.com/qemulet/qemulet/qemu"
)

// Preview is the VM that a pod would have. What depends on its image and on its
// network is not known: the root disk has the size that is asked for, and there
// is one NIC, PreviewMAC.
type Preview struct {
	VM *vmpod.VM
	// Config is the machine; Invocation is what starts it, nil without a QEMU.
	Config     qemu.Config
	Invocation *qemu.Invocation
	Resources  *specs.LinuxResources
	Disks      []PreviewDisk
	Shares     []PreviewShare
	// Label and Seed are the cloud-init disk's, without its network
	// configuration.
	Label string
	Seed  []cloudinit.File
	// Problems are all that is wrong.
	Problems []string
	// Notes say what has no effect, or another than one may think.
	Notes []string
}

// PreviewDisk is a disk in the guest's order.
type PreviewDisk struct {
	qemu.Disk
	// Path is what it is made of, "" for what is not on this host.
	Path string
	// Bytes is the size of a disk that is made for the pod, 0 if that is the
	// image's, or that of what is there already.
	Bytes int64
	// Guest is the manifest's path or name for it.
	Guest string
}

// PreviewShare is a directory that the guest mounts.
type PreviewShare struct {
	Tag, Path, Guest string
	ReadOnly         bool
}

// PreviewMAC stands in for the address of a NIC that CNI would make.
const PreviewMAC = "02:00:00:00:00:01"

// Preview finds out what the VM of a pod would be, and changes nothing. It needs no
// more of r than Objects, KubeletPods, RawDevices, StateDir and DefaultCPUModel.
// state is nil where there is no QEMU, and c where there is no container to speak
// of: then just the sandbox is looked at.
func (r *Runtime) Preview(ctx context.Context, s *runtimeapi.PodSandboxConfig, c *runtimeapi.ContainerConfig, state *HypervisorState) *Preview {
	p := &Preview{}
	p.bad(r.preview(ctx, p, s, c, state))
	return p
}

func (r *Runtime) preview(ctx context.Context, p *Preview, s *runtimeapi.PodSandboxConfig, c *runtimeapi.ContainerConfig, state *HypervisorState) error {
	checks := []func(*vmpod.Pod) []vmpod.Problem{r.checkSources(ctx, &sources{})}
	if state != nil {
		checks = append(checks, func(p *vmpod.Pod) []vmpod.Problem { return r.cpuProblems(&p.Settings, state) })
	}
	_, err := vmpod.ParseSandbox(s, checks...)
	p.bad(err)
	if c == nil {
		return nil
	}
	spec, err := vmpod.Parse(s, c)
	if err != nil {
		return err
	}
	p.VM, p.Notes = spec, spec.Notes
	if len(p.Problems) > 0 {
		return nil
	}
	notes, err := r.takeSources(ctx, spec)
	if err != nil {
		return err
	}
	p.Notes = append(p.Notes, notes...)
	return r.previewMachine(p, s, c, state)
}

// bad takes what is wrong apart. A pod's problems are its container's too, and
// are told once.
func (p *Preview) bad(err error) {
	var of *vmpod.Error
	switch {
	case err == nil:
	case errors.As(err, &of):
		for _, problem := range of.Problems {
			p.problem(problem.String())
		}
	case isList(err):
		for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
			p.bad(e)
		}
	default:
		p.problem(withoutClass(err.Error()))
	}
}

// isList tells errors.Join's errors from those that have a class.
func isList(err error) bool {
	all, several := err.(interface{ Unwrap() []error })
	if !several {
		return false
	}
	var parts []string
	for _, e := range all.Unwrap() {
		parts = append(parts, e.Error())
	}
	return err.Error() == strings.Join(parts, "\n")
}

// withoutClass leaves out what only tells programs something.
func withoutClass(text string) string {
	for _, class := range []error{errdefs.ErrInvalidArgument, errdefs.ErrFailedPrecondition, errdefs.ErrUnavailable, errdefs.ErrNotFound} {
		text = strings.TrimSuffix(text, ": "+class.Error())
	}
	return text
}

func (p *Preview) problem(text string) {
	if !slices.Contains(p.Problems, text) {
		p.Problems = append(p.Problems, text)
	}
}

func (r *Runtime) previewMachine(p *Preview, s *runtimeapi.PodSandboxConfig, c *runtimeapi.ContainerConfig, state *HypervisorState) error {
	v := newVM(newPod(&store.Sandbox{Config: store.Message[*runtimeapi.PodSandboxConfig]{M: s}}),
		&store.Container{Config: store.Message[*runtimeapi.ContainerConfig]{M: c}})
	vols, err := r.volumesOf(v, p.VM)
	if err != nil {
		return err
	}
	p.take(vols)
	seedErr := p.previewSeed(v.pod, vols)
	if state == nil {
		state = &HypervisorState{}
	}
	p.Config = r.machineConfig(v, p.VM, vols, state)
	p.Config.NICs = []qemu.NIC{{ID: "net0", MAC: PreviewMAC, MTU: 1500, Queues: 1}}
	p.Resources = p.VM.Resources(string(state.Accel.Accel), tbSizeMiB)
	if state.Capabilities.Binary == "" {
		return seedErr
	}
	inv, err := qemu.Build(p.Config, state.Capabilities)
	if err == nil {
		p.Invocation = &inv
	}
	return errors.Join(seedErr, err)
}

// take shows the volumes.
func (p *Preview) take(vols *volumes) {
	p.Notes = append(p.Notes, vols.notes...)
	for _, d := range vols.machineDisks() {
		shown := PreviewDisk{Disk: d}
		if v := vols.byID(d.ID); v != nil {
			shown.Path, shown.Bytes, shown.Guest = v.path, v.capacity, v.guest
		}
		if d.ID == rootDisk && !vols.persistent {
			shown.Path, shown.Bytes = "", p.VM.RootVolumeSize
		}
		if d.ID == seedDisk {
			shown.Path = ""
		}
		p.Disks = append(p.Disks, shown)
	}
	for _, s := range vols.shares {
		p.Shares = append(p.Shares, PreviewShare{Tag: s.Tag, Path: s.path, Guest: s.guest, ReadOnly: s.ReadOnly})
	}
}

func (p *Preview) previewSeed(pod *pod, vols *volumes) error {
	copies, err := vols.readCopies()
	if err != nil {
		return err
	}
	seed := seedOf(pod, p.VM, vols, copies)
	p.Label = seed.Type.Label()
	if p.Seed, err = seed.Render(); err != nil {
		return fmt.Errorf("cloud-init disk: %w", err)
	}
	return nil
}
