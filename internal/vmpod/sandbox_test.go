package vmpod

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// sandbox is a pod as kubelet sends it, with some annotations.
func sandbox(annotations map[string]string) *runtimeapi.PodSandboxConfig {
	return &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: "vm", Namespace: "default", Uid: "c2a5c1c7-4f0e-4a3c-8f0a-0d7f5d6a1f11", Attempt: 2},
		Hostname:     "vm",
		LogDirectory: "/var/log/pods/default_vm",
		Annotations:  annotations,
		Linux:        &runtimeapi.LinuxPodSandboxConfig{CgroupParent: "/kubepods/pod1", SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{}}},
	}
}

// mustFail returns the problems of an error that has to be an *Error.
func mustFail(t testing.TB, err error) []Problem {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || len(e.Problems) == 0 {
		t.Fatalf("got %v, want an *Error", err)
	}
	return e.Problems
}

func TestParseSandboxDefaults(t *testing.T) {
	pod, err := ParseSandbox(sandbox(map[string]string{"kubernetes.io/target-runtime": "virtlet.cloud", "cni": "calico", "other": "x"}))
	if err != nil {
		t.Fatal(err)
	}
	want := &Pod{
		Name: "vm", Namespace: "default", UID: "c2a5c1c7-4f0e-4a3c-8f0a-0d7f5d6a1f11", Attempt: 2, Hostname: "vm", CgroupParent: "/kubepods/pod1",
		Settings: Settings{VCPUs: 1, DiskDriver: DiskSCSI, CloudInit: CloudInit{ImageType: NoCloud}, Sources: Sources{UserDataEncoding: Plain}},
	}
	if !reflect.DeepEqual(pod, want) {
		t.Errorf("got %+v\nwant %+v", pod, want)
	}
}

// All problems come together, each on a line that names what, its value and
// what is accepted.
func TestAllProblemsAtOnce(t *testing.T) {
	cfg := sandbox(map[string]string{
		"VirtletVCPUCount":          "many",
		"VirtletDiskDriver":         "SCSI",
		"VirtletCPUModel":           "qemu64",
		"VirtletRootVolumeSize":     "4GB",
		"VirtletSystemUUID":         "x",
		"VirtletCloudInitImageType": "floppy",
		"VirtletCloudInitUserData":  "- a\n- b",
		"VirtletSSHKeySource":       "keys",
		"VirtletLibvirtCPUSetting":  "{mode: native, features: [{name: avx, policy: on}, {policy: force}]}",
	})
	_, err := ParseSandbox(cfg)
	if n := len(mustFail(t, err)); n != 11 {
		t.Errorf("%d problems, want 11", n)
	}
	want := `bad virtlet annotations:
  VirtletLibvirtCPUSetting Mode = "native": is not known; accepted: custom, host-model or host-passthrough
  VirtletLibvirtCPUSetting Features[0].Policy = "true": is not known; accepted: force, require, optional, disable or forbid
  VirtletLibvirtCPUSetting Features[1].Name: is missing; accepted: the name of a feature, such as avx2
  VirtletCPUModel = "qemu64": unknown cpu model type; accepted: "host-model", or empty for the node's default
  VirtletSSHKeySource = "keys": is not a kind and a name; accepted: configmap/<name> or secret/<name>, and /<key> behind it if the key is not authorized_keys
  VirtletVCPUCount = "many": error parsing cpu count; accepted: a whole number up to 255
  VirtletCloudInitUserData: failed to unmarshal cloud-init userdata: it is a list; accepted: a mapping in YAML or JSON
  VirtletCloudInitImageType = "floppy": unknown config image type; accepted: nocloud or configdrive, in any case
  VirtletDiskDriver = "SCSI": bad disk driver; accepted: scsi or virtio
  VirtletRootVolumeSize = "4GB": error parsing the root volume size; accepted: a whole number of bytes as a Kubernetes quantity, such as 4Gi or 1500M, up to 2Pi
  VirtletSystemUUID = "x": failed to parse as a UUID; accepted: a UUID of version 1 to 5, such as 53008994-44c0-4017-ad44-9c49758083da`
	if err.Error() != want {
		t.Errorf("got\n%s\nwant\n%s", err, want)
	}
	cfg.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
	_, err = ParseSandbox(cfg)
	if n := len(mustFail(t, err)); n != 12 || !strings.HasPrefix(err.Error(), "this pod cannot be a virtual machine:\n  hostNetwork = \"true\": ") {
		t.Errorf("%d problems: %v", n, err)
	}
}

// What others find wrong with the settings comes in the same message.
func TestChecks(t *testing.T) {
	cfg := sandbox(map[string]string{"VirtletVCPUCount": "3", "VirtletDiskDriver": "x"})
	_, err := ParseSandbox(cfg, func(p *Pod) []Problem {
		if p.VCPUs != 3 || p.DiskDriver != DiskSCSI {
			t.Errorf("the check sees %+v", p.Settings)
		}
		return []Problem{{Annotation: true, Field: "VirtletVCPUCount", Value: "3", Reason: "odd"}}
	})
	if n := len(mustFail(t, err)); n != 2 || !strings.Contains(err.Error(), `VirtletVCPUCount = "3": odd`) {
		t.Errorf("%v", err)
	}
}

func TestMetadata(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*runtimeapi.PodSandboxMetadata)
		want string
	}{
		"no name":      {func(m *runtimeapi.PodSandboxMetadata) { m.Name = "" }, "metadata.name: is missing"},
		"no namespace": {func(m *runtimeapi.PodSandboxMetadata) { m.Namespace = "" }, "metadata.namespace: is missing"},
		"no uid":       {func(m *runtimeapi.PodSandboxMetadata) { m.Uid = "" }, "metadata.uid: is missing"},
		"uid a path":   {func(m *runtimeapi.PodSandboxMetadata) { m.Uid = "../../etc" }, `metadata.uid = "../../etc": is not a name`},
		"uid a dot":    {func(m *runtimeapi.PodSandboxMetadata) { m.Uid = "." }, "metadata.uid"},
		"CNI argument": {func(m *runtimeapi.PodSandboxMetadata) { m.Name = "a;K8S_POD_UID=b" }, "metadata.name"},
		"line break":   {func(m *runtimeapi.PodSandboxMetadata) { m.Name = "a\nb" }, "metadata.name"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := sandbox(nil)
			c.edit(cfg.Metadata)
			if _, err := ParseSandbox(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	cfg := sandbox(nil)
	cfg.Hostname = "a b"
	if _, err := ParseSandbox(cfg); err == nil || !strings.Contains(err.Error(), `hostname = "a b": is not a host name`) {
		t.Errorf("got %v", err)
	}
	for _, cfg := range []*runtimeapi.PodSandboxConfig{nil, {}} {
		_, err := ParseSandbox(cfg)
		mustFail(t, err)
	}
}

func TestHostname(t *testing.T) {
	long := strings.Repeat("a", 62) + ".b.c"
	for _, c := range []struct{ hostname, name, want string }{
		{"", "vm", "vm"},
		{"other", "vm", "other"},
		{"", long, strings.Repeat("a", 62)},
		{"", "a.b", "a.b"},
	} {
		cfg := &runtimeapi.PodSandboxConfig{Hostname: c.hostname, Metadata: &runtimeapi.PodSandboxMetadata{Name: c.name}}
		if got := Hostname(cfg); got != c.want {
			t.Errorf("hostname %q, name %q: got %q, want %q", c.hostname, c.name, got, c.want)
		}
	}
}

func TestSandboxNotes(t *testing.T) {
	cfg := sandbox(map[string]string{"VirtletVCPUcount": "2", "virtletDiskDriver": "scsi"})
	cfg.Linux.Sysctls = map[string]string{"net.core.somaxconn": "1"}
	cfg.Linux.SecurityContext.Privileged = true
	cfg.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_NODE
	cfg.Linux.SecurityContext.NamespaceOptions.Ipc = runtimeapi.NamespaceMode_NODE
	pod, err := ParseSandbox(cfg)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(pod.Notes, "\n")
	for _, want := range []string{"VirtletVCPUcount is not known", "virtletDiskDriver is not known", "sysctls", "privileged", "hostPID", "hostIPC"} {
		if !strings.Contains(all, want) {
			t.Errorf("no note about %s in\n%s", want, all)
		}
	}
}
