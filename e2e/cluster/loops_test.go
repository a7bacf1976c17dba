package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// kills is how often each daemon is killed.
const kills = 100

const bystander = `
---
apiVersion: v1
kind: Pod
metadata: {name: bystander, labels: {app: bystander}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: "` + BusyboxImage + `", command: [sh, -c, "exec httpd -f -p 80 -h /www"], readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}}
`

// life is what of a pod must not change while daemons come and go.
type life struct {
	pod      string // its UID
	id       string // its container
	restarts int
	bootID   string // of the guest
}

func (c *Cluster) lifeOf(t *testing.T, app string) life {
	t.Helper()
	p := c.WaitReady(t, "app="+app, 1, bootTime)[0]
	s := p.Status.ContainerStatuses[0]
	l := life{pod: p.Metadata.UID, id: s.ContainerID, restarts: s.RestartCount}
	if strings.Contains(s.ContainerID, "716d6c74") {
		l.bootID = c.guestInfo(t, p.Status.PodIP)["boot_id"]
	}
	return l
}

// guestInfo asks a tiny guest about itself.
func (c *Cluster) guestInfo(t *testing.T, ip string) map[string]string {
	t.Helper()
	info := map[string]string{}
	for _, line := range strings.Split(c.In(t, "busybox", "wget", "-qO-", "http://"+ip+"/cgi-bin/info"), "\n") {
		if key, value, found := strings.Cut(line, "="); found {
			info[key] = value
		}
	}
	return info
}

// Daemons that are killed all the time: nobody misses a pod, and no pod is touched.
func TestKill9(t *testing.T) {
	c := theCluster(t)
	c.Apply(t, vmPod("survivor", "")+bystander)
	before := []life{c.lifeOf(t, "survivor"), c.lifeOf(t, "bystander")}
	for _, test := range []struct {
		name, socket string
		away         string // what a list may fail with meanwhile; "" nothing
	}{
		{"qemulet", c.VMSocket(), ""},
		{"criproxy", c.ProxySocket(), "connect|reading from server|closing"},
		{"containerd", c.ContainerdSocket(), "primary|containerd|connect"},
	} {
		t.Run(test.name, func(t *testing.T) {
			watch, begin := c.WatchLists(t), time.Now()
			k := c.Component(t, test.name)
			for i := range kills {
				k.Restart(t)
				if i%2 == 0 { // the others are killed while they start
					waitServed(t, test.socket)
					watch.WaitAnswers(t, 2)
				}
			}
			waitServed(t, test.socket)
			watch.WaitAnswers(t, 2)
			watch.Stop()
			t.Logf("%d kills in %v, %d lists meanwhile, %d kinds of errors: %q", kills, time.Since(begin).Round(time.Second), watch.Answers.Load(), len(watch.Errors), watch.ErrorTexts())
			if len(watch.Missing) > 0 {
				t.Errorf("%d lists were not whole, the first: %s", len(watch.Missing), watch.Missing[0])
			}
			if test.away == "" && len(watch.Errors) > 0 {
				t.Error("lists failed")
			}
			if now := []life{c.lifeOf(t, "survivor"), c.lifeOf(t, "bystander")}; fmt.Sprint(now) != fmt.Sprint(before) {
				t.Errorf("before: %+v\nafter: %+v", before, now)
			}
		})
	}
	// By their UIDs: pods of other tests have had these names.
	for _, pod := range before {
		if out := c.Kubectl(t, "get", "events", "--field-selector", "reason=Killing,involvedObject.uid="+pod.pod, "-o", "name"); out != "" {
			t.Errorf("kubelet killed something:\n%s", out)
		}
	}
}

func TestRestartOfKubelet(t *testing.T) {
	c := theCluster(t)
	c.Apply(t, vmPod("steady", ""))
	before := c.lifeOf(t, "steady")
	k := c.Component(t, "kubelet")
	k.Stop()
	k.Start(t)
	c.WaitNodeReady(t)
	if now := c.lifeOf(t, "steady"); now != before {
		t.Errorf("before: %+v\nafter: %+v", before, now)
	}
}

// After the plug was pulled, the VM boots again, as the same pod, from the same disk.
func TestReboot(t *testing.T) {
	c := theCluster(t)
	c.Apply(t, vmPod("phoenix", "")+bystander)
	pod := c.WaitReady(t, "app=phoenix", 1, bootTime)[0]
	before := c.guestInfo(t, pod.Status.PodIP)
	c.Reboot(t)
	eventually(t, 2*bootTime, "the VM has booted again", func() error {
		for _, p := range c.Pods(t, "app=phoenix") {
			if p.Metadata.UID == pod.Metadata.UID && p.Ready() && p.Status.ContainerStatuses[0].RestartCount == 1 {
				pod = p
				return nil
			}
		}
		return fmt.Errorf("%+v", c.Pods(t, "app=phoenix"))
	})
	after := c.guestInfo(t, pod.Status.PodIP)
	if after["boot_id"] == "" || after["boot_id"] == before["boot_id"] {
		t.Errorf("before: %v\nafter: %v", before, after)
	}
	if out := c.Kubectl(t, "logs", "phoenix"); !strings.Contains(out, "count=2") {
		t.Errorf("it was not the same disk that booted: %q", out)
	}
	if out := c.Kubectl(t, "logs", "--previous", "phoenix"); !strings.Contains(out, "@@GUEST ready") {
		t.Errorf("the log of the first boot is lost: %q", out)
	}
	last := pod.Status.ContainerStatuses[0].LastState.Terminated
	if last == nil || last.Reason != "NodeReboot" {
		t.Errorf("the end of the first boot is %+v, want the reason NodeReboot", last)
	}
	c.WaitReady(t, "app=bystander", 1, bootTime)
}
