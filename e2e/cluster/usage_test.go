package cluster

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
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
