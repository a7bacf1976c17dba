package runtime

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/qemulet/qemulet/qemu"
)

// writeConfigJSON leaves a description of the exact machine beside its disks,
// for people: an OCI runtime-spec document whose vm section holds QEMU's path
// and full argument list. Nothing reads it back, and it holds no secrets: env
// and user-data are not in it.
func (r *Runtime) writeConfigJSON(v *vm, plan *plan) error {
	raw, err := json.MarshalIndent(r.ociSpec(v, plan), "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.vmDir(v.pod.uid(), v.id), configFile), append(raw, '\n'), 0o600)
}

func (r *Runtime) ociSpec(v *vm, plan *plan) *specs.Spec {
	spec, inv := plan.spec, plan.inv
	vcpus, memory := uint32(spec.VCPUs), uint64(spec.MemoryBytes)
	sandbox := r.sandboxOf(v.pod)
	return &specs.Spec{
		Version:  specs.Version,
		Hostname: spec.Hostname,
		Annotations: map[string]string{
			"qemulet.io/pod":       spec.Name,
			"qemulet.io/namespace": spec.Namespace,
			"qemulet.io/uid":       v.pod.uid(),
			"qemulet.io/container": v.id,
			"qemulet.io/machine":   inv.Machine,
			"qemulet.io/qmp":       commandsOf(inv),
		},
		Mounts: plan.volumes.ociMounts(),
		Linux: &specs.Linux{
			CgroupsPath: v.record().CgroupPath,
			Resources:   plan.resources,
			Namespaces:  []specs.LinuxNamespace{{Type: specs.NetworkNamespace, Path: sandbox.NetnsPath}},
		},
		VM: &specs.VM{
			Hypervisor: specs.VMHypervisor{Path: inv.Binary, Parameters: inv.Args},
			Image:      specs.VMImage{Path: plan.volumes.root.path, Format: string(plan.volumes.root.Format)},
			HwConfig:   &specs.HWConfig{VCPUs: &vcpus, Memory: &memory},
		},
	}
}

// ociMounts are the volumes' disks and shares: what is behind them on the host,
// and where the guest has them. What cloud-init copies is no mount.
func (v *volumes) ociMounts() []specs.Mount {
	var all []specs.Mount
	for _, d := range v.disks {
		m := specs.Mount{Destination: d.guest, Type: "disk", Source: d.path, Options: []string{"format=" + string(d.Format), "serial=" + d.Serial}}
		if d.RBD != nil {
			m.Source = "rbd:" + d.RBD.Pool + "/" + d.RBD.Image
		}
		if d.ReadOnly {
			m.Options = append(m.Options, "ro")
		}
		all = append(all, m)
	}
	for _, s := range v.shares {
		m := specs.Mount{Destination: s.guest, Type: "9p", Source: s.path, Options: []string{"tag=" + s.Tag}}
		if s.ReadOnly {
			m.Options = append(m.Options, "ro")
		}
		all = append(all, m)
	}
	return all
}

// commandsOf are the commands that the monitor gets before the guest runs.
func commandsOf(inv qemu.Invocation) string {
	raw, _ := json.Marshal(inv.Commands) // they are JSON already
	return string(raw)
}
