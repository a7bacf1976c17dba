package vmpod

import (
	"regexp"
	"slices"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxHostname is Linux's HOST_NAME_MAX less one, and a DNS label's length.
const maxHostname = 63

// ParseSandbox reads the pod's own part: its identity and annotations. It
// finds everything that can be known to be wrong before there is a container,
// so that a pod that cannot work fails when its sandbox is made. The error is
// an *Error.
//
// Each check adds what it finds in the settings to that list. It sees every
// good annotation, and the defaults in place of bad ones.
func ParseSandbox(cfg *runtimeapi.PodSandboxConfig, checks ...func(*Pod) []Problem) (*Pod, error) {
	var bad problems
	pod := readSandbox(cfg, &bad)
	for _, check := range checks {
		bad = append(bad, check(pod)...)
	}
	if err := bad.err(); err != nil {
		return nil, err
	}
	return pod, nil
}

func readSandbox(cfg *runtimeapi.PodSandboxConfig, bad *problems) *Pod {
	meta := cfg.GetMetadata()
	pod := &Pod{
		Name:         meta.GetName(),
		Namespace:    meta.GetNamespace(),
		UID:          meta.GetUid(),
		Attempt:      meta.GetAttempt(),
		Hostname:     Hostname(cfg),
		CgroupParent: cfg.GetLinux().GetCgroupParent(),
		Settings:     defaultSettings(),
	}
	checkMetadata(meta, bad)
	if h := cfg.GetHostname(); h != "" && !identity.MatchString(h) {
		bad.add("hostname", h, "is not a host name", identityAccepted)
	}
	checkNamespaces(cfg.GetLinux().GetSecurityContext().GetNamespaceOptions(), pod, bad)
	if sysctls := cfg.GetLinux().GetSysctls(); len(sysctls) > 0 {
		pod.note("sysctls are not applied: the guest has a kernel of its own")
	}
	if cfg.GetLinux().GetSecurityContext().GetPrivileged() {
		pod.note("privileged has no effect: the guest has a kernel of its own, and never more access to the host than that")
	}
	pod.Settings.parse(cfg.GetAnnotations(), bad)
	if limit := cfg.GetLinux().GetResources().GetMemoryLimitInBytes(); limit > 0 && pod.numaMemory() > limit {
		pod.agreeNUMAMemory(limit, "the pod's memory limit", bad)
	}
	if pod.CPU != nil && len(pod.CPU.Ignored) > 0 {
		pod.note(CPUSettingAnnotation + ": keys that are not known have no effect: " + strings.Join(pod.CPU.Ignored, ", "))
	}
	pod.noteFirmware()
	pod.Notes = append(pod.Notes, unknownAnnotations(cfg.GetAnnotations())...)
	return pod
}

// Hostname is what the guest is called: the sandbox's hostname, which kubelet
// takes from spec.hostname or else the pod's name, or else the pod's name cut
// to the 63 bytes of a host name.
func Hostname(cfg *runtimeapi.PodSandboxConfig) string {
	if h := cfg.GetHostname(); h != "" {
		return h
	}
	name := cfg.GetMetadata().GetName()
	if len(name) > maxHostname {
		name = name[:maxHostname]
	}
	return strings.TrimRight(name, "-.")
}

// identity is what a name, namespace or UID looks like. It is wider than what
// Kubernetes allows, since crictl may send anything, but safe as a file's
// name, in CNI's arguments and on a command line.
var identity = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$`)

const identityAccepted = "letters, digits, '-', '_' and '.', beginning with a letter or digit, at most 253"

func checkMetadata(meta *runtimeapi.PodSandboxMetadata, bad *problems) {
	for _, f := range []struct{ field, value string }{
		{"metadata.name", meta.GetName()},
		{"metadata.namespace", meta.GetNamespace()},
		{"metadata.uid", meta.GetUid()},
	} {
		switch {
		case f.value == "":
			bad.add(f.field, "", "is missing", identityAccepted)
		case !identity.MatchString(f.value):
			bad.add(f.field, f.value, "is not a name", identityAccepted)
		}
	}
}

func checkNamespaces(n *runtimeapi.NamespaceOption, pod *Pod, bad *problems) {
	if n.GetNetwork() == runtimeapi.NamespaceMode_NODE {
		bad.add("hostNetwork", "true", "a virtual machine cannot share the host's network", "a pod with a network of its own: leave hostNetwork out")
	}
	if n.GetPid() == runtimeapi.NamespaceMode_NODE {
		pod.note("hostPID has no effect: a guest's processes are its own")
	}
	if n.GetIpc() == runtimeapi.NamespaceMode_NODE {
		pod.note("hostIPC has no effect: a guest's IPC is its own")
	}
}

func (p *Pod) note(s string) { p.Notes = append(p.Notes, s) }

// unknownAnnotations speaks of what looks like a misspelt annotation. Others
// belong to other programs.
func unknownAnnotations(all map[string]string) []string {
	var notes []string
	for name := range all {
		if strings.HasPrefix(strings.ToLower(name), "virtlet") && !known(name) {
			notes = append(notes, "annotation "+shorten(name)+" is not known and has no effect")
		}
	}
	slices.Sort(notes)
	return notes
}
