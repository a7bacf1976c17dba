package cluster

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"
)

type podUsage struct {
	PodRef  struct{ Name string }
	CPU     *struct{ UsageNanoCores, UsageCoreNanoSeconds uint64 }
	Memory  *struct{ WorkingSetBytes, RSSBytes uint64 }
	Network *struct {
		Name             string
		RxBytes, TxBytes uint64
	}
	Containers []struct {
		CPU    *struct{ UsageNanoCores, UsageCoreNanoSeconds uint64 }
		Memory *struct{ WorkingSetBytes, RSSBytes uint64 }
		Rootfs *struct{ UsedBytes uint64 }
		Logs   *struct{ UsedBytes uint64 }
	}
}

// usage is what "kubectl top" and autoscalers see.
func (c *Cluster) usage(t *testing.T, pod string) podUsage {
	t.Helper()
	var u podUsage
	eventually(t, bootTime, "kubelet knows what the VM uses", func() error {
		var summary struct{ Pods []podUsage }
		raw, err := c.TryKubectl(t, "get", "--raw", "/api/v1/nodes/"+NodeName+"/proxy/stats/summary")
		if err != nil {
			return err
		}
		must(t, json.Unmarshal([]byte(raw), &summary))
		i := slices.IndexFunc(summary.Pods, func(p podUsage) bool { return p.PodRef.Name == pod })
		if i < 0 || len(summary.Pods[i].Containers) != 1 {
			return fmt.Errorf("the pod or its container is missing in %s", raw)
		}
		u = summary.Pods[i]
		if vm := u.Containers[0]; vm.CPU == nil || vm.CPU.UsageCoreNanoSeconds < 1e9 || vm.Memory == nil || vm.Memory.WorkingSetBytes < 40<<20 ||
			vm.Rootfs == nil || vm.Rootfs.UsedBytes == 0 || vm.Logs == nil || vm.Logs.UsedBytes == 0 ||
			u.CPU == nil || u.CPU.UsageCoreNanoSeconds < 1e9 || u.Memory == nil || u.Memory.WorkingSetBytes < 40<<20 {
			text, _ := json.Marshal(u)
			return fmt.Errorf("incomplete: %s", text)
		}
		return nil
	})
	text, _ := json.Marshal(u)
	t.Logf("usage: %s", text)
	metrics := c.Kubectl(t, "get", "--raw", "/api/v1/nodes/"+NodeName+"/proxy/metrics/resource")
	for _, name := range []string{"container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_start_time_seconds"} {
		if !regexp.MustCompile(name + `\{container="vm",namespace="default",pod="` + pod + `"\} [1-9]`).MatchString(metrics) {
			t.Errorf("/metrics/resource has no %s of the VM:\n%s", name, metrics)
		}
	}
	return u
}

// With this feature kubelet leaves all measuring to the runtimes. Only then does it know a VM's network.
func TestUsageFromCRI(t *testing.T) {
	c := theCluster(t)
	c.changed(t, "kubelet", nil, "--feature-gates=PodAndContainerStatsFromCRI=true")
	c.WaitNodeReady(t)
	c.Apply(t, vmPod("measured", "")+"\n---\n"+webPod("helper", "of: helper", "something"))
	vm := c.WaitReady(t, "app=measured", 1, bootTime)[0]
	if _, err := c.httpGet("http://" + vm.Status.PodIP + "/"); err != nil {
		t.Error(err)
	}
	eventually(t, bootTime, "the VM's network is measured", func() error {
		if u := c.usage(t, "measured"); u.Network == nil || u.Network.RxBytes < 1000 || u.Network.TxBytes < 1000 {
			return fmt.Errorf("network: %+v", u.Network)
		}
		return nil
	})
	metrics := c.Kubectl(t, "get", "--raw", "/api/v1/nodes/"+NodeName+"/proxy/metrics/cadvisor")
	for _, name := range []string{"container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_network_receive_bytes_total"} {
		for _, pod := range []string{"measured", "helper"} {
			if !regexp.MustCompile(name + `\{[^}]*pod="` + pod + `"[^}]*\} [0-9.e+]+`).MatchString(metrics) {
				t.Errorf("/metrics/cadvisor has no %s of pod %s", name, pod)
			}
		}
	}
}

// changed lets a daemon run with more environment and flags until the test ends.
func (c *Cluster) changed(t *testing.T, name string, env []string, flags ...string) {
	t.Helper()
	k := c.Component(t, name)
	plainEnv, plainArgv := k.env, k.argv
	t.Cleanup(func() {
		k.env, k.argv = plainEnv, plainArgv
		k.Restart(t)
		c.WaitNodeReady(t)
	})
	k.env, k.argv = slices.Concat(plainEnv, env), slices.Concat(plainArgv, flags)
	k.Restart(t)
}

// metricsAPI makes the API server hand questions for metrics.k8s.io on to metrics-server, by a Service as it would be with one in a pod. It
// asks in nobody's name here, so nobody may know.
const metricsAPI = `apiVersion: v1
kind: Service
metadata: {name: metrics-server, namespace: kube-system}
spec: {ports: [{name: https, port: 443, targetPort: 4443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: metrics-server, namespace: kube-system, labels: {kubernetes.io/service-name: metrics-server}}
addressType: IPv4
ports: [{name: https, port: 4443}]
endpoints: [{addresses: [` + NodeIP + `]}]
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.metrics.k8s.io}
spec:
  group: metrics.k8s.io
  version: v1beta1
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {name: metrics-server, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: metrics-reader}
rules: [{apiGroups: [metrics.k8s.io], resources: [pods, nodes], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: metrics-reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: metrics-reader}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:anonymous"}]
`

// startMetricsServer runs it until the test ends.
func (c *Cluster) startMetricsServer(t *testing.T) {
	t.Helper()
	config := c.Path("kubeconfig")
	m := c.kubernetes(t, "metrics-server", "--kubeconfig="+config, "--authentication-kubeconfig="+config, "--authorization-kubeconfig="+config,
		"--authorization-always-allow-paths=/apis*,/openapi*", "--cert-dir="+c.Path("pki"), "--secure-port=4443", "--metric-resolution=10s", "--kubelet-request-timeout=5s",
		"--kubelet-preferred-address-types=InternalIP", "--kubelet-insecure-tls")
	m.Start(t)
	t.Cleanup(m.Stop)
	c.Apply(t, metricsAPI)
	t.Cleanup(func() {
		c.Kubectl(t, "delete", "apiservice/v1beta1.metrics.k8s.io", "clusterrolebinding/metrics-reader", "clusterrole/metrics-reader")
		c.Kubectl(t, "delete", "-n", "kube-system", "service/metrics-server", "endpointslice/metrics-server")
	})
}

var topLine = regexp.MustCompile(`(?m)^(\S+) +(?:\S+ +)?(\d+)m +(?:\d+% +)?(\d+)Mi`)

// top is what kubectl prints of each thing: thousandths of processors, and MiB.
func (c *Cluster) top(t *testing.T, of ...string) (map[string][2]int, error) {
	out, err := c.TryKubectl(t, append([]string{"top"}, of...)...)
	if err != nil {
		return nil, err
	}
	uses := map[string][2]int{}
	for _, line := range topLine.FindAllStringSubmatch(out, -1) {
		cpu, _ := strconv.Atoi(line[2])
		memory, _ := strconv.Atoi(line[3])
		uses[line[1]] = [2]int{cpu, memory}
	}
	return uses, nil
}

func TestTop(t *testing.T) {
	c := theCluster(t)
	c.startMetricsServer(t)
	c.Apply(t, vmPod("topped", "")+"\n---\n"+webPod("beside", "of: beside", "something"))
	c.WaitReady(t, "app=topped", 1, bootTime)
	eventually(t, bootTime, "kubectl top knows both pods", func() error {
		uses, err := c.top(t, "pod")
		if err != nil {
			return err
		}
		if _, ok := uses["beside"]; !ok || uses["topped"][1] < 40 {
			return fmt.Errorf("uses: %v", uses)
		}
		return nil
	})
	vms, err := c.top(t, "pod", "topped", "--containers")
	if use := vms["topped"]; err != nil || use[1] < 40 || use[1] > 400 {
		t.Errorf("kubectl top pod --containers: %v, %v", vms, err)
	}
	nodes, err := c.top(t, "node")
	if err != nil || nodes[NodeName][1] < vms["topped"][1] {
		t.Errorf("kubectl top node: %v, %v; the VM alone: %v", nodes, err, vms)
	}
}
