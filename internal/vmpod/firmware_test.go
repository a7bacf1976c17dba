package vmpod

import (
	"slices"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestRootDisksThatTheBIOSCannotCount(t *testing.T) {
	for _, c := range []struct {
		driver, size, note string
	}{
		{"scsi", "2047Gi", ""},
		{"scsi", "2Ti", "VirtletDiskDriver: virtio"},
		{"scsi", "5Ti", "VirtletDiskDriver: virtio"},
		{"virtio", "2047Gi", ""},
		{"virtio", "2Ti", "here 0 bytes"},
		{"virtio", "2049Gi", "here 1073741824 bytes"},
		{"virtio", "5Ti", ""},
		{"virtio", "100Ti", "here 0 bytes"},
	} {
		pod, err := ParseSandbox(&runtimeapi.PodSandboxConfig{
			Metadata:    &runtimeapi.PodSandboxMetadata{Name: "vm", Namespace: "default", Uid: "u"},
			Annotations: map[string]string{"VirtletDiskDriver": c.driver, "VirtletRootVolumeSize": c.size},
		})
		if err != nil {
			t.Fatal(err)
		}
		told := slices.ContainsFunc(pod.Notes, func(n string) bool { return strings.Contains(n, c.note) })
		if c.note == "" && len(pod.Notes) > 0 || c.note != "" && !told {
			t.Errorf("%s of %s: %q, want %q", c.driver, c.size, pod.Notes, c.note)
		}
	}
}
