package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// bootTime is more than any small guest takes to be Ready, also on a busy machine.
const bootTime = 120 * time.Second

// grace is the time that pods have to power off. Guests that obey need some seconds of it.
const grace = 30 * time.Second

// vmPod is a manifest of a pod with the tiny guest; more is put below its container, indented as there.
func vmPod(name, more string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata:
  name: %[1]s
  labels: {app: %[1]s}
  annotations: {kubernetes.io/target-runtime: virtlet.cloud}
spec:
  terminationGracePeriodSeconds: %[3]d
  nodeSelector: {extraRuntime: virtlet}
  containers:
  - name: vm
    image: virtlet.cloud/tiny
    imagePullPolicy: IfNotPresent
    stdin: true
    tty: true
    readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}
    resources: {limits: {memory: 96Mi}, requests: {cpu: 10m}}
%[2]s`, name, more, int(grace.Seconds()))
}

func TestSideBySide(t *testing.T) {
	c := theCluster(t)
	c.Apply(t, vmPod("vm", "")+`
---
apiVersion: v1
kind: Pod
metadata: {name: ordinary, labels: {app: ordinary}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: "`+BusyboxImage+`", command: [sh, -c, "echo from a container; exec httpd -f -p 80 -h /www"], readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}}
`)
	ordinary := c.WaitReady(t, "app=ordinary", 1, bootTime)[0]
	vm := c.WaitReady(t, "app=vm", 1, bootTime)[0]
	if !strings.HasPrefix(ordinary.Status.ContainerStatuses[0].ContainerID, "containerd://") {
		t.Errorf("the ordinary pod's container is %s", ordinary.Status.ContainerStatuses[0].ContainerID)
	}
	if id := vm.Status.ContainerStatuses[0].ContainerID; !strings.Contains(id, "716d6c74") {
		t.Errorf("the VM's container is %s", id)
	}
	if out := c.Kubectl(t, "logs", "ordinary"); !strings.Contains(out, "from a container") {
		t.Errorf("log of the ordinary pod: %q", out)
	}
	if out := c.Kubectl(t, "logs", "vm"); !strings.Contains(out, "@@GUEST ready") {
		t.Errorf("log of the VM pod: %q", out)
	}
	if out := c.Kubectl(t, "exec", "ordinary", "--", "wget", "-qO-", "http://"+vm.Status.PodIP+"/cgi-bin/info"); !strings.Contains(out, "hostname") {
		t.Errorf("a container asked the guest: %q", out)
	}
	out := c.Kubectl(t, "describe", "pod", "vm")
	for _, want := range []string{"Pulled", "Created", "Started"} {
		if !strings.Contains(out, want) {
			t.Errorf("describe does not mention %s:\n%s", want, out)
		}
	}
}
