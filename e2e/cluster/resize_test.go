package cluster

import (
	"fmt"
	"strings"
	"testing"
)

// A VM's share of the processors is changed while it runs; that it cannot have more memory than it was started with is said.
func TestResize(t *testing.T) {
	c := theCluster(t)
	c.Apply(t, vmPod("sized", ""))
	before := c.lifeOf(t, "sized")
	resize := func(resources string) {
		c.Kubectl(t, "patch", "pod", "sized", "--subresource", "resize", "--patch", `{"spec": {"containers": [{"name": "vm", "resources": `+resources+`}]}}`)
	}
	_, id, _ := strings.Cut(before.id, "://")

	resize(`{"requests": {"cpu": "20m"}, "limits": {"cpu": "700m"}}`)
	eventually(t, bootTime, "the VM has its new limit", func() error {
		quota := strings.TrimSpace(c.Crictl(t, c.VMSocket(), "inspect", "--output", "go-template", "--template", "{{.status.resources.linux.cpuQuota}}", id))
		told := c.Kubectl(t, "get", "pod", "sized", "-o", "jsonpath={.status.containerStatuses[0].resources.limits.cpu}")
		if !strings.HasSuffix(quota, "70000") || told != "700m" { // crictl has warnings in front
			return fmt.Errorf("the runtime says %s, the pod's status %s", quota, told)
		}
		return nil
	})
	resize(`{"limits": {"memory": "512Mi"}}`)
	eventually(t, bootTime, "it is said why there is no more memory", func() error {
		told := c.Kubectl(t, "get", "pod", "sized", "-o", "jsonpath={.status.conditions[*].message}") + c.events(t, "sized")
		if !strings.Contains(told, "more only when its pod is made again") {
			return fmt.Errorf("conditions and events: %s", told)
		}
		return nil
	})
	if now := c.lifeOf(t, "sized"); now != before {
		t.Errorf("before: %+v\nafter: %+v", before, now)
	}
}
