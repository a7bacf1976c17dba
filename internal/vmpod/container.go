package vmpod

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// gracePeriodAnnotation is where kubelet puts terminationGracePeriodSeconds.
const gracePeriodAnnotation = "io.kubernetes.pod.terminationGracePeriod"

// Parse reads a pod and its container as a virtual machine. That there is no
// other container is for the caller to see to. The error is an *Error with
// everything that is wrong in either.
func Parse(s *runtimeapi.PodSandboxConfig, c *runtimeapi.ContainerConfig) (*VM, error) {
	var bad problems
	vm := &VM{Pod: *readSandbox(s, &bad)}
	vm.readContainer(c, &bad)
	vm.readResources(c.GetLinux().GetResources(), &bad)
	vm.noteOverhead(s.GetLinux())
	vm.readSecurity(c.GetLinux().GetSecurityContext(), &bad)
	vm.readEnv(c.GetEnvs(), &bad)
	vm.readMounts(c.GetMounts(), &bad)
	vm.readDevices(c, &bad)
	if err := bad.err(); err != nil {
		return nil, err
	}
	return vm, nil
}

func (v *VM) readContainer(c *runtimeapi.ContainerConfig, bad *problems) {
	v.ContainerName = c.GetMetadata().GetName()
	v.ContainerAttempt = c.GetMetadata().GetAttempt()
	v.Image = c.GetImage().GetImage()
	v.UserImage = c.GetImage().GetUserSpecifiedImage()
	v.TTY, v.Stdin, v.StdinOnce = c.GetTty(), c.GetStdin(), c.GetStdinOnce()
	if v.ContainerName == "" {
		bad.add("container metadata.name", "", "is missing", "the container's name")
	}
	if v.Image == "" {
		bad.add("image.image", "", "is missing", "the name or id of an image")
	}
	if v.UUID = v.SystemUUID; v.UUID == "" {
		v.UUID = PodUUID(v.UID)
	}
	if d, err := time.ParseDuration(c.GetAnnotations()[gracePeriodAnnotation] + "s"); err == nil && d > 0 {
		v.GracePeriod = d
	}
	v.noteProgram(c)
}

// noteProgram speaks of what a container runs: a machine runs what its disk says.
func (v *VM) noteProgram(c *runtimeapi.ContainerConfig) {
	var fields []string
	if len(c.GetCommand()) > 0 {
		fields = append(fields, "command")
	}
	if len(c.GetArgs()) > 0 {
		fields = append(fields, "args")
	}
	if c.GetWorkingDir() != "" {
		fields = append(fields, "workingDir")
	}
	if c.GetStopSignal() != runtimeapi.Signal_RUNTIME_DEFAULT {
		fields = append(fields, "lifecycle.stopSignal")
	}
	if len(fields) > 0 {
		v.note(strings.Join(fields, ", ") + ": no effect on a virtual machine, which boots what is on its disk and is stopped by its power button")
	}
}

// readResources takes the memory limit for the guest's RAM; without one it is
// what its NUMA cells have, or the default.
func (v *VM) readResources(r *runtimeapi.LinuxContainerResources, bad *problems) {
	v.limits = r
	v.OOMScoreAdj = r.GetOomScoreAdj()
	v.MemoryBytes = cmp.Or(v.numaMemory(), DefaultMemory)
	if limit := r.GetMemoryLimitInBytes(); limit > 0 {
		v.takeMemoryLimit(limit, bad)
	} else if v.MemoryBytes < MinMemory {
		bad.key(CPUSettingAnnotation, "Numa", fmt.Sprintf("%dMi", v.MemoryBytes/mib), "too little for a virtual machine", "cells with at least 16Mi together")
	}
	v.readHugePages(r, bad)
}

func (v *VM) takeMemoryLimit(limit int64, bad *problems) {
	v.MemoryBytes = limit / MemoryStep * MemoryStep
	if v.MemoryBytes < MinMemory {
		bad.add("resources.limits.memory", fmt.Sprint(limit), "too little for a virtual machine", "at least 16Mi, or no limit for 1Gi")
	}
	if v.numaMemory() > 0 && !bad.about(CPUSettingAnnotation) {
		v.agreeNUMAMemory(v.MemoryBytes, "resources.limits.memory", bad)
	}
	if v.MemoryBytes != limit {
		v.note(fmt.Sprintf("memory limit %d is not a multiple of 1 MiB: the guest has %d bytes", limit, v.MemoryBytes))
	}
}

// noteOverhead tells when the pod's own limit, which is the sum of the
// containers' and the RuntimeClass's overhead, has no room for QEMU beside the
// guest. The limit is raised then (see PodMemory), but the scheduler did not know.
func (v *VM) noteOverhead(pod *runtimeapi.LinuxPodSandboxConfig) {
	limit := PodMemory(pod)
	if need := v.MemoryBytes + v.Overhead("kvm", 0); limit > 0 && limit < need {
		v.note(fmt.Sprintf("the pod's memory limit of %d bytes has too little room for QEMU beside the guest's %d and is raised on the node; give its RuntimeClass an overhead of %dMi to have it counted when the pod is scheduled",
			limit, v.MemoryBytes, (need-pod.GetResources().GetMemoryLimitInBytes()+mib-1)/mib))
	}
}

// PodMemory is the memory limit in bytes that kubelet gives a pod's own cgroup,
// 0 for none: what its containers may have and the RuntimeClass's overhead.
func PodMemory(pod *runtimeapi.LinuxPodSandboxConfig) int64 {
	limit := pod.GetResources().GetMemoryLimitInBytes()
	if limit <= 0 {
		return 0
	}
	return limit + pod.GetOverhead().GetMemoryLimitInBytes()
}

// readSecurity notes what restricts a container and has no meaning for a
// machine. seccomp, apparmor and masked paths are not spoken of: kubelet always
// sends them.
func (v *VM) readSecurity(s *runtimeapi.LinuxContainerSecurityContext, bad *problems) {
	if s.GetRunAsGroup() != nil && s.GetRunAsUser() == nil && s.GetRunAsUsername() == "" {
		bad.add("securityContext.runAsGroup", fmt.Sprint(s.GetRunAsGroup().GetValue()), "is set without runAsUser", "both or none")
	}
	var fields []string
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"privileged", s.GetPrivileged()},
		{"capabilities", len(s.GetCapabilities().GetAddCapabilities())+len(s.GetCapabilities().GetDropCapabilities()) > 0},
		// kubelet sends root by itself, as the user of an image that names none.
		{"runAsUser", s.GetRunAsUser().GetValue() != 0 || s.GetRunAsUsername() != ""},
		{"supplementalGroups", len(s.GetSupplementalGroups()) > 0},
		{"readOnlyRootFilesystem", s.GetReadonlyRootfs()},
	} {
		if f.set {
			fields = append(fields, f.name)
		}
	}
	if len(fields) > 0 {
		v.note("securityContext: no effect on a virtual machine: " + strings.Join(fields, ", "))
	}
}

// readEnv takes the variables. Names are not restricted to a shell's, just to
// what one line of a file can hold.
func (v *VM) readEnv(envs []*runtimeapi.KeyValue, bad *problems) {
	for i, e := range envs {
		if name := e.GetKey(); name == "" || strings.ContainsAny(name, "=\n\r\x00") {
			bad.add(fmt.Sprintf("envs[%d].key", i), name, "is not the name of a variable", "a name without '=' and line breaks")
			continue
		}
		if bytes.IndexByte(e.GetValue(), 0) >= 0 {
			bad.add(fmt.Sprintf("envs[%d].value", i), "", "the value of "+shorten(e.GetKey())+" has a zero byte", "text")
			continue
		}
		v.Env = append(v.Env, EnvVar{Name: e.GetKey(), Value: string(e.GetValue())})
	}
}
