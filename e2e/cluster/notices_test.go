package cluster

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

// What happens inside of a pod's VM, and how it came to be, is told by kubectl describe: these Events are not kubelet's.
func TestEventsOfVMs(t *testing.T) {
	c := theCluster(t)
	c.Apply(t, strings.Replace(vmPod("told", ""), "IfNotPresent", "Always", 1))
	c.WaitReady(t, "app=told", 1, bootTime)
	c.backgroundFed(t, strings.NewReader("reboot -f\n"), "attach", "-i", "told")
	for _, pattern := range []string{
		`Normal +ImageTranslated .* qemulet +image virtlet.cloud/tiny:latest: rule .*guests.yaml: https://127.0.0.1/tiny.qcow2`,
		`Normal +GuestReset .* qemulet +the guest restarted`,
	} {
		eventually(t, time.Minute, "an Event", func() error {
			if out := c.Kubectl(t, "describe", "pod", "told"); !regexp.MustCompile(pattern).MatchString(out) {
				return fmt.Errorf("no %s in\n%s", pattern, out)
			}
			return nil
		})
	}
	c.Kubectl(t, "delete", "pod", "told", "--grace-period=1")
}
