package runtime

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/internal/vmpod"
	"github.com/qemulet/qemulet/qemu"
)

// UpdateResources changes the limits of a VM that has not ended. What is zero
// in change stays as it is. CPU limits are those of the cgroup and hold at
// once. Memory is the guest's RAM: within what the machine was started with it
// is given back and taken through the balloon; more than that it can only get
// by a new start. All is done, or nothing and there is an error.
func (r *Runtime) UpdateResources(ctx context.Context, id string, change *runtimeapi.LinuxContainerResources) error {
	v, err := r.vm(id)
	if err != nil {
		return err
	}
	if err := v.pod.lock.acquire(ctx, "container "+v.id); err != nil {
		return err
	}
	defer v.pod.lock.release()
	phase := v.record().Phase
	if phase != store.ContainerCreated && phase != store.ContainerRunning {
		return fmt.Errorf("container %s is %s, limits can be changed before a VM has ended: %w", v.id, phase, errdefs.ErrFailedPrecondition)
	}
	spec, err := vmpod.Parse(v.pod.config(), v.record().Config.M)
	if err != nil {
		return err
	}
	if err := checkMemory(spec, phase, change.GetMemoryLimitInBytes(), v.pod.config().GetLinux()); err != nil {
		return fmt.Errorf("container %s: %w", v.id, err)
	}
	if phase == store.ContainerRunning {
		if err := r.applyResources(ctx, v, spec, change); err != nil {
			return fmt.Errorf("container %s: %w", v.id, err)
		}
	}
	now := merged(r.containerOf(v).Resources, change)
	return r.updateVM(v, phase, func(c *store.Container) { c.Resources = &store.Message[*runtimeapi.LinuxContainerResources]{M: now} })
}

// checkMemory refuses a memory limit, 0 for none, that the machine cannot have.
// kubelet lowers the limit of the pod's cgroup with it: where that has no room
// for QEMU by itself, the kernel would kill the machine.
func checkMemory(spec *vmpod.VM, phase store.ContainerPhase, limit int64, pod *runtimeapi.LinuxPodSandboxConfig) error {
	room := vmpod.PodMemory(pod)
	switch {
	case limit == 0:
		return nil
	case limit > spec.MemoryBytes:
		return fmt.Errorf("memory limit %d: the machine has %d bytes of RAM, and more only when its pod is made again: %w", limit, spec.MemoryBytes, errdefs.ErrFailedPrecondition)
	case limit < vmpod.MinMemory:
		return fmt.Errorf("memory limit %d: a guest needs %d bytes at least: %w", limit, vmpod.MinMemory, errdefs.ErrInvalidArgument)
	case room > 0 && limit < spec.MemoryBytes && room < spec.MemoryBytes+spec.Overhead("kvm", 0):
		return fmt.Errorf("memory limit %d: the pod's RuntimeClass has no overhead for QEMU, whose memory the pod's cgroup would then lack: %w", limit, errdefs.ErrFailedPrecondition)
	case phase != store.ContainerRunning && limit != spec.MemoryBytes:
		return fmt.Errorf("memory limit %d: a guest that does not run cannot give memory back: %w", limit, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// balloonLimit bounds how long a machine may take to be told; its pod is locked
// meanwhile.
const balloonLimit = 10 * time.Second

// applyResources changes the cgroup first, which can refuse, and puts it back
// when the balloon cannot be told.
func (r *Runtime) applyResources(ctx context.Context, v *vm, spec *vmpod.VM, change *runtimeapi.LinuxContainerResources) error {
	group, err := qemu.LoadCgroup(v.record().CgroupPath)
	if err != nil {
		return err
	}
	before := vmpod.CgroupResources(r.containerOf(v).Resources, 0)
	if err := group.Update(vmpod.CgroupResources(change, 0)); err != nil {
		_ = group.Update(before) // what was accepted before is accepted again
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	memory := change.GetMemoryLimitInBytes()
	if memory == 0 {
		return nil
	}
	m, _, _ := v.running()
	if m == nil || m.QMP() == nil {
		_ = group.Update(before)
		return fmt.Errorf("memory limit %d: the machine's monitor cannot be reached: %w", memory, errdefs.ErrUnavailable)
	}
	ctx, cancel := context.WithTimeout(ctx, balloonLimit)
	defer cancel()
	if err := m.QMP().Balloon(ctx, memory); err != nil {
		_ = group.Update(before)
		return fmt.Errorf("memory limit %d: %w", memory, err)
	}
	return nil
}

// merged is what holds after a change.
func merged(now, change *runtimeapi.LinuxContainerResources) *runtimeapi.LinuxContainerResources {
	all := &runtimeapi.LinuxContainerResources{}
	if now != nil {
		all = proto.Clone(now).(*runtimeapi.LinuxContainerResources)
	}
	unified := all.GetUnified()
	proto.Merge(all, change) // of numbers and strings those that are set win
	all.HugepageLimits = now.GetHugepageLimits()
	if len(unified)+len(change.GetUnified()) > 0 {
		all.Unified = maps.Clone(unified)
		if all.Unified == nil {
			all.Unified = map[string]string{}
		}
		maps.Copy(all.Unified, change.GetUnified())
	}
	return all
}
