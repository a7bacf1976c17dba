package cluster

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// What keeps a VM from starting is told where a person looks first, in words that say what to change.
func TestEvents(t *testing.T) {
	c := theCluster(t)
	c.Apply(t, strings.Replace(vmPod("misspelt", ""), "virtlet.cloud}", `virtlet.cloud, VirtletVCPUCount: "many", VirtletDiskDriver: tape}`, 1)+
		"\n---\n"+strings.Replace(vmPod("imageless", ""), "virtlet.cloud/tiny", "virtlet.cloud/nosuch", 1)+
		"\n---\n"+strings.Replace(vmPod("too-small", ""), "memory: 96Mi", "memory: 1Mi", 1))
	for _, want := range []struct{ pod, pattern string }{
		{"misspelt", `FailedCreatePodSandBox: .*VirtletVCPUCount = "many".* VirtletDiskDriver = "tape".*accepted: scsi or virtio\n`},
		{"imageless", `Failed: Failed to pull image "virtlet.cloud/nosuch": .*https://127.0.0.1/nosuch.qcow2.*404`},
		{"imageless", `BackOff: Back-off pulling image`},
		{"too-small", `Failed.*: .*memory`},
	} {
		eventually(t, bootTime, want.pod+" tells what is wrong", func() error {
			if out := c.events(t, want.pod); !regexp.MustCompile(want.pattern).MatchString(out) {
				return fmt.Errorf("no %s in\n%s", want.pattern, out)
			}
			return nil
		})
	}
	for _, pod := range []string{"misspelt", "imageless", "too-small"} {
		t.Logf("%s:\n%s", pod, c.events(t, pod))
	}
	t.Logf("%s", c.Kubectl(t, "get", "pods"))
}
