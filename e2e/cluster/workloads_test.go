package cluster

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

// workload is a manifest of something that owns VM pods of the tiny guest, with the same name and label app. The guest runs script at every
// boot. head is put into the owner's spec, more below the container; both are indented as there.
func workload(kind, app, script, head, more string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: %s
metadata: {name: %s}
spec:
  selector: {matchLabels: {app: %[2]s}}
%s
  template:
    metadata:
      labels: {app: %[2]s, group: %[2]s}
      annotations: {kubernetes.io/target-runtime: virtlet.cloud, VirtletCloudInitUserDataScript: %[4]q}
    spec:
      terminationGracePeriodSeconds: 30
      nodeSelector: {extraRuntime: virtlet}
      containers:
      - name: vm
        image: virtlet.cloud/tiny
        imagePullPolicy: IfNotPresent
        stdin: true
        tty: true
        readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}
        resources: {limits: {memory: 96Mi}, requests: {cpu: 10m}}
%[5]s
`, kind, app, head, script, more)
}

// scripted is a manifest of a pod whose tiny guest runs a script at every boot; the script's $boot counts them. more is as for vmPod.
func scripted(name, script, more string) string {
	script = "#!/bin/sh\nboot=$(dd if=$(ls /dev/[sv]da) bs=512 skip=2047 count=1 2>/dev/null | tr -d '\\0')\n" + script
	return strings.Replace(vmPod(name, more), "virtlet.cloud}", fmt.Sprintf("virtlet.cloud, VirtletCloudInitUserDataScript: %q}", script), 1)
}

// webPod is a manifest of an ordinary pod that serves one page.
func webPod(name, labels, page string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %[1]s, labels: {app: %[1]s, %[2]s}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: %[3]q
    command: [sh, -c, "echo %[4]s >/www/index.html; exec httpd -f -p 80 -h /www"]
    readinessProbe: {httpGet: {port: 80}, periodSeconds: 1}
`, name, labels, BusyboxImage, page)
}

// events are what happened to an object, as "REASON: MESSAGE" lines.
func (c *Cluster) events(t *testing.T, object string) string {
	t.Helper()
	return c.Kubectl(t, "get", "events", "--field-selector", "involvedObject.name="+object, "--sort-by=.lastTimestamp",
		"-o", `jsonpath={range .items[*]}{.reason}: {.message}{"\n"}{end}`)
}

func mentions(t *testing.T, what, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("%s does not mention %q:\n%s", what, want, text)
		}
	}
}

func TestDeployment(t *testing.T) {
	c := theCluster(t)
	deployment := func(say string) string {
		return workload("Deployment", "fleet", "#!/bin/sh\necho @@S''AY "+say, "  replicas: 1\n  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}", "")
	}
	c.Apply(t, deployment("first"))
	first := c.WaitReady(t, "app=fleet", 1, bootTime)[0]
	c.Kubectl(t, "scale", "deployment/fleet", "--replicas=3")
	three := c.WaitReady(t, "app=fleet", 3, 2*bootTime)
	addresses := map[string]bool{}
	for _, p := range three {
		addresses[p.Status.PodIP] = true
		if p.Metadata.UID == first.Metadata.UID && p.Status.ContainerStatuses[0].ContainerID != first.Status.ContainerStatuses[0].ContainerID {
			t.Error("the first pod was started again")
		}
	}
	if len(addresses) != 3 {
		t.Errorf("addresses of three pods: %v", addresses)
	}
	c.Kubectl(t, "scale", "deployment/fleet", "--replicas=1")
	c.WaitReady(t, "app=fleet", 1, bootTime)

	must(t, c.feed(t, deployment("second"), "apply", "-f", "-"))
	c.Kubectl(t, "rollout", "status", "deployment/fleet", "--timeout=120s")
	last := c.WaitReady(t, "app=fleet", 1, bootTime)[0]
	eventually(t, bootTime, "the rolled pod runs its new script", func() error {
		if out := c.Kubectl(t, "logs", last.Metadata.Name); !strings.Contains(out, "@@SAY second") {
			return fmt.Errorf("log:\n%s", out)
		}
		return nil
	})
	if last.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Error("the new pod was restarted")
	}
}

// Names lead to guests, and guests know their own.
func TestStatefulSet(t *testing.T) {
	c := theCluster(t)
	script := `#!/bin/sh
for peer in web-0 web-1; do
  until nslookup $peer.web.default.svc.cluster.local >/run/answer; do usleep 300000; done
  echo "@@LOOKUP $peer $(sed -n '/^Name/,$s/^Address.*: *//p' /run/answer | tail -n 1)"
  echo "@@PEER $(wget -qO- http://$peer.web/cgi-bin/info | grep ^hostname=)"
done
echo "@@WEB $(wget -qO- http://page)"
`
	c.Apply(t, workload("StatefulSet", "web", script, "  serviceName: web\n  replicas: 2\n  podManagementPolicy: Parallel", "")+`
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: page}
spec: {selector: {app: page}, ports: [{port: 80}]}
---
`+webPod("page", "of: page", "a page from a container"))
	pods := c.WaitReady(t, "app=web", 2, bootTime)
	for _, p := range pods {
		wants := []string{"@@PEER hostname=web-0", "@@PEER hostname=web-1", "@@WEB a page from a container"}
		for _, peer := range pods {
			wants = append(wants, "@@LOOKUP "+peer.Metadata.Name+" "+peer.Status.PodIP)
		}
		eventually(t, bootTime, p.Metadata.Name+" finds its peers", func() error {
			out := c.Kubectl(t, "logs", p.Metadata.Name)
			for _, want := range wants {
				if !strings.Contains(out, want) {
					return fmt.Errorf("no %q in\n%s", want, lastLines(out, 30))
				}
			}
			return nil
		})
	}
	mentions(t, "a container's lookup", c.Kubectl(t, "exec", "page", "--", "nslookup", "web-1.web.default.svc.cluster.local"), pods[1].Status.PodIP)

	// The same name comes back, with another address.
	c.Kubectl(t, "delete", "pod", "web-1")
	again := c.WaitReady(t, "app=web", 2, bootTime)
	if again[1].Metadata.UID == pods[1].Metadata.UID {
		t.Error("web-1 is the same pod after it was deleted")
	}
	eventually(t, 20*time.Second, "web-1's name leads to the new pod", func() error {
		out, err := c.TryKubectl(t, "exec", "page", "--", "nslookup", "web-1.web.default.svc.cluster.local")
		if err == nil && !strings.Contains(out, again[1].Status.PodIP) {
			err = fmt.Errorf("%s is not among %s", again[1].Status.PodIP, out)
		}
		return err
	})
}

// A guest behind a Service is one of its servers, like any container, and can have a port of the node for itself.
func TestDaemonSet(t *testing.T) {
	c := theCluster(t)
	c.Apply(t, workload("DaemonSet", "agent", "", "", "        ports: [{containerPort: 80, hostPort: 8081}]")+`
---
apiVersion: v1
kind: Service
metadata: {name: both}
spec: {selector: {group: agent}, ports: [{port: 8000, targetPort: 80}]}
---
`+webPod("helper", "group: agent", "a container"))
	vm := c.WaitReady(t, "app=agent", 1, bootTime)[0]
	c.WaitReady(t, "app=helper", 1, bootTime)
	var service struct{ Spec struct{ ClusterIP string } }
	c.Get(t, &service, "service", "both")
	for _, from := range []struct {
		name string
		get  func(url string) (string, error)
	}{
		{"the node", c.httpGet},
		{"a container", func(url string) (string, error) {
			return c.TryKubectl(t, "exec", "helper", "--", "wget", "-qO-", url)
		}},
	} {
		answers := map[string]int{}
		eventually(t, bootTime, "both servers answer "+from.name, func() error {
			out, err := from.get("http://" + service.Spec.ClusterIP + ":8000/")
			answers[strings.TrimSpace(out)]++
			if answers["qemulet tiny guest"] == 0 || answers["a container"] == 0 {
				return fmt.Errorf("answers so far: %v (%v)", answers, err)
			}
			return nil
		})
		out, err := from.get("http://" + NodeIP + ":8081/cgi-bin/info")
		if err != nil || !strings.Contains(out, vm.Status.PodIP) {
			t.Errorf("hostPort from %s: %v: %s", from.name, err, out)
		}
	}
	// The controller replaces what is deleted, and the port is free again for the next.
	c.Kubectl(t, "delete", "pod", vm.Metadata.Name)
	c.WaitReady(t, "app=agent", 1, bootTime)
	eventually(t, bootTime, "hostPort of the next pod", func() error {
		_, err := c.httpGet("http://" + NodeIP + ":8081/")
		return err
	})
}

var bootCount = regexp.MustCompile(`@@GUEST boot .* count=(\d+)`)

// A liveness probe that fails boots the same disk again.
func TestLiveness(t *testing.T) {
	c := theCluster(t)
	c.Apply(t, scripted("lively", "[ $boot = 1 ] && { sleep 3; killall httpd; echo @@GUEST web server is gone; }",
		"    livenessProbe: {httpGet: {port: 80, path: /cgi-bin/info}, initialDelaySeconds: 1, periodSeconds: 1, failureThreshold: 20, timeoutSeconds: 2}"))
	first := c.WaitReady(t, "app=lively", 1, bootTime)[0]
	var pod Pod
	eventually(t, bootTime, "the VM is restarted", func() error {
		pod = c.Pods(t, "app=lively")[0]
		if s := pod.Status.ContainerStatuses[0]; s.RestartCount != 1 || !pod.Ready() {
			return fmt.Errorf("%d restarts, ready: %v", s.RestartCount, pod.Ready())
		}
		return nil
	})
	if pod.Status.PodIP != first.Status.PodIP {
		t.Errorf("the address was %s and is %s", first.Status.PodIP, pod.Status.PodIP)
	}
	for _, log := range []struct {
		count string
		args  []string
	}{{"1", []string{"logs", "lively", "--previous"}}, {"2", []string{"logs", "lively"}}} {
		out := c.Kubectl(t, log.args...)
		if m := bootCount.FindAllStringSubmatch(out, -1); len(m) != 1 || m[0][1] != log.count {
			t.Errorf("kubectl %v: boots %v, want only number %s", log.args, m, log.count)
		}
	}
	if last := pod.Status.ContainerStatuses[0].LastState.Terminated; last == nil || last.Reason != "Completed" || last.Message == "" {
		t.Errorf("how the first boot ended: %+v", last)
	}
	mentions(t, "the events", c.events(t, "lively"), "Unhealthy: Liveness probe failed", "Killing: Container vm failed liveness probe, will be restarted")
	time.Sleep(3 * time.Second)
	if n := c.Pods(t, "app=lively")[0].Status.ContainerStatuses[0].RestartCount; n != 1 {
		t.Errorf("%d restarts after it was healthy again", n)
	}
}

// A guest that powers off has done its work; one that crashes has not.
func TestRestartPolicy(t *testing.T) {
	c := theCluster(t)
	c.Apply(t, scripted("never", "echo done; poweroff -f", "  restartPolicy: Never")+
		"\n---\n"+scripted("on-failure", "if [ $boot = 1 ]; then echo c >/proc/sysrq-trigger; fi; poweroff -f", "  restartPolicy: OnFailure"))
	for _, want := range []struct {
		name     string
		restarts int
	}{{"never", 0}, {"on-failure", 1}} {
		var pod Pod
		eventually(t, bootTime, want.name+" succeeds", func() error {
			if pod = c.Pods(t, "app="+want.name)[0]; pod.Status.Phase != "Succeeded" {
				return fmt.Errorf("%s: %+v", pod.Status.Phase, pod.Status.ContainerStatuses)
			}
			return nil
		})
		s := pod.Status.ContainerStatuses[0]
		if end := s.State.Terminated; end == nil || end.ExitCode != 0 || end.Reason != "Completed" || s.RestartCount != want.restarts {
			t.Errorf("%s: %d restarts, ended with %+v", want.name, s.RestartCount, end)
		}
		if last := s.LastState.Terminated; want.restarts > 0 && (last == nil || last.ExitCode == 0 || last.Reason != "GuestPanic") {
			t.Errorf("%s: the first boot ended with %+v", want.name, last)
		}
	}
	mentions(t, "the log", c.Kubectl(t, "logs", "never"), "done")
}

// kubelet waits for a download that it began, and serializes downloads; a pod that was deleted meanwhile goes right after it.
func TestDeleteWhilePulling(t *testing.T) {
	c := theCluster(t)
	c.Apply(t, strings.Replace(vmPod("impatient", ""), "virtlet.cloud/tiny", "virtlet.cloud/slow-tiny", 1))
	eventually(t, bootTime, "the download begins", func() error {
		if out := c.events(t, "impatient"); !strings.Contains(out, `Pulling: Pulling image "virtlet.cloud/slow-tiny"`) {
			return fmt.Errorf("events: %s", out)
		}
		return nil
	})
	time.Sleep(2 * time.Second)
	begin := time.Now()
	c.Kubectl(t, "delete", "pod", "impatient", "--timeout=60s")
	t.Logf("deleted after %v; events:\n%s", time.Since(begin), c.events(t, "impatient"))
	c.nothingRuns(t, "impatient")
}

// nothingRuns waits until a deleted pod has neither a container nor a sandbox in use. What is left of a sandbox goes at kubelet's leisure.
func (c *Cluster) nothingRuns(t *testing.T, pod string) {
	t.Helper()
	eventually(t, bootTime, "nothing runs for "+pod, func() error {
		out := c.Crictl(t, c.VMSocket(), "pods", "--name", pod, "--state", "ready") +
			c.Crictl(t, c.VMSocket(), "ps", "-a", "--label", "io.kubernetes.pod.name="+pod)
		if strings.Contains(out, "716d6c74") {
			return fmt.Errorf("still there: %s", out)
		}
		return nil
	})
}
