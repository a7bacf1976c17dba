package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/kube"
	"github.com/qemulet/qemulet/qemu"
)

func previewed(t *testing.T, edit func(*runtimeapi.PodSandboxConfig, *runtimeapi.ContainerConfig)) *Preview {
	t.Helper()
	s := &runtimeapi.PodSandboxConfig{
		Metadata:    &runtimeapi.PodSandboxMetadata{Name: "web", Namespace: "default", Uid: "u-1"},
		Annotations: map[string]string{},
	}
	c := &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "vm"},
		Image:    &runtimeapi.ImageSpec{Image: "virtlet.cloud/x"},
	}
	edit(s, c)
	dir := t.TempDir()
	r := &Runtime{Options: Options{Objects: kube.Dir(dir), StateDir: dir, KubeletPods: dir}}
	return r.Preview(t.Context(), s, c, nil)
}

// What is shown is what CreateContainer and StartContainer work with.
func TestPreview(t *testing.T) {
	share, disk := t.TempDir(), filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, 1<<20)); err != nil {
		t.Fatal(err)
	}
	p := previewed(t, func(s *runtimeapi.PodSandboxConfig, c *runtimeapi.ContainerConfig) {
		s.Annotations["VirtletRootVolumeSize"] = "4Gi"
		c.Args = []string{"x"}
		c.Mounts = []*runtimeapi.Mount{{HostPath: share, ContainerPath: "/share", Readonly: true}}
		c.Devices = []*runtimeapi.Device{{HostPath: disk, ContainerPath: "/dev/data", Permissions: "mrw"}}
	})
	if len(p.Problems) > 0 || p.Invocation != nil || p.Label != "cidata" || len(p.Seed) < 2 {
		t.Fatalf("%+v", p)
	}
	var got []string
	for _, d := range p.Disks {
		got = append(got, fmt.Sprintf("%s %q %d %q %v", d.Serial, d.Guest, d.Bytes, d.Path, d.Bus == qemu.BusSCSI))
	}
	want := []string{`root "" 4294967296 "" true`, fmt.Sprintf(`data "/dev/data" 0 %q true`, disk), `seed "" 0 "" true`}
	if !slices.Equal(got, want) {
		t.Errorf("disks %q, want %q", got, want)
	}
	if s := p.Shares; len(s) != 1 || s[0] != (PreviewShare{Tag: "share", Path: share, Guest: "/share", ReadOnly: true}) {
		t.Errorf("shares %+v", s)
	}
	if len(p.Config.NICs) != 1 || p.Config.NICs[0].MAC != PreviewMAC || !strings.Contains(strings.Join(p.Notes, "\n"), "args: no effect") {
		t.Errorf("%+v, %q", p.Config.NICs, p.Notes)
	}
}

// Problems of the pod and of the container are told once each.
func TestPreviewFindsAllProblems(t *testing.T) {
	p := previewed(t, func(s *runtimeapi.PodSandboxConfig, c *runtimeapi.ContainerConfig) {
		s.Annotations["VirtletDiskDriver"] = "ide"
		s.Annotations["VirtletSSHKeySource"] = "secret/gone"
		c.Image = nil
	})
	if len(p.Problems) != 3 {
		t.Errorf("%d problems: %q", len(p.Problems), p.Problems)
	}
	for _, want := range []string{`VirtletDiskDriver = "ide"`, "VirtletSSHKeySource", "image.image: is missing"} {
		if !strings.Contains(strings.Join(p.Problems, "\n"), want) {
			t.Errorf("%q is missing in %q", want, p.Problems)
		}
	}
	p = previewed(t, func(_ *runtimeapi.PodSandboxConfig, c *runtimeapi.ContainerConfig) {
		c.Mounts = []*runtimeapi.Mount{{HostPath: "/none/a", ContainerPath: "/a"}, {HostPath: "/none/b", ContainerPath: "/b"}}
	})
	if len(p.Problems) != 2 || strings.Contains(p.Problems[0], errdefs.ErrFailedPrecondition.Error()) {
		t.Errorf("%q", p.Problems)
	}
}
