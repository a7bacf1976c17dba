package cluster

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 0.0.0.0
port: 10250
readOnlyPort: 10255
healthzBindAddress: 127.0.0.1
authentication:
  anonymous: {enabled: true}
  webhook: {enabled: false}
authorization: {mode: AlwaysAllow}
containerRuntimeEndpoint: unix://%[1]s/criproxy.sock
staticPodPath: %[1]s/manifests
podLogsDir: %[1]s/podlogs
volumePluginDir: %[1]s/flex
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: %[2]s
cgroupsPerQOS: true
enforceNodeAllocatable: [pods]
protectKernelDefaults: true
failSwapOn: false
oomScoreAdj: 0
resolvConf: ""
clusterDomain: cluster.local
clusterDNS: [%[3]s]
fileCheckFrequency: 2s
nodeStatusUpdateFrequency: 4s
nodeLeaseDurationSeconds: 20
shutdownGracePeriod: 0s
containerLogMaxSize: 256Ki
containerLogMaxFiles: 20
containerLogMonitorInterval: 3s
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 50Mi, nodefs.available: "0%%", nodefs.inodesFree: "0%%", imagefs.available: "0%%"}
logging: {verbosity: 2}
`

func (c *Cluster) startKubelet(tb testing.TB) {
	tb.Helper()
	must(tb, os.WriteFile(c.Path("kubelet.yaml"), []byte(fmt.Sprintf(kubeletConfig, c.Dir, c.cgroupRoot(), NodeIP)), 0o644))
	c.kubernetes(tb, "kubelet", "--config="+c.Path("kubelet.yaml"), "--root-dir="+c.Path("kubelet"), "--cert-dir="+c.Path("pki"),
		"--hostname-override="+NodeName, "--node-ip="+NodeIP, "--kubeconfig="+c.Path("kubeconfig"), "--node-labels=extraRuntime=virtlet").Start(tb)
	c.WaitNodeReady(tb)
	eventually(tb, 60*time.Second, "the default service account", func() error { return c.try(c.kubectl(tb, "get", "serviceaccount", "default")...) })
}

// WaitNodeReady waits until the API server calls the node Ready.
func (c *Cluster) WaitNodeReady(tb testing.TB) {
	tb.Helper()
	eventually(tb, 120*time.Second, "the node is Ready", func() error {
		out, err := c.TryKubectl(tb, "get", "node", NodeName, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status} {.status.conditions[?(@.type=="Ready")].message}`)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(out, "True") {
			return errors.New(out + "\n" + tail(c.Path("log/kubelet.log"), 3))
		}
		return nil
	})
}
