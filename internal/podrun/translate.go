package podrun

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/podrun/volumes"
)

// Labels that kubelet gives to sandboxes and containers.
const (
	labelPodName       = "io.kubernetes.pod.name"
	labelPodNamespace  = "io.kubernetes.pod.namespace"
	labelPodUID        = "io.kubernetes.pod.uid"
	labelContainerName = "io.kubernetes.container.name"

	// labelRun marks the pods of the one-machine mode.
	labelRun = "qemulet.io/run"

	annotationGracePeriod = "io.kubernetes.pod.terminationGracePeriod"
)

// defaultGracePeriod is Kubernetes' own, in seconds.
const defaultGracePeriod = 30

// complete fills in what the API server would: namespace, UID, the tag of
// the image.
func (m *Manifest) complete() {
	pod := m.Pod
	pod.Namespace = cmp.Or(pod.Namespace, "default")
	pod.UID = types.UID(cmp.Or(string(pod.UID), uuid.NewString()))
}

func (m *Manifest) gracePeriod() int64 {
	if s := m.Pod.Spec.TerminationGracePeriodSeconds; s != nil {
		return max(*s, 0)
	}
	return defaultGracePeriod
}

func (m *Manifest) labels() map[string]string {
	labels := maps.Clone(m.Pod.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[labelPodName] = m.Pod.Name
	labels[labelPodNamespace] = m.Pod.Namespace
	labels[labelPodUID] = string(m.Pod.UID)
	labels[labelRun] = "true"
	return labels
}

// sandboxConfig is what kubelet would send with RunPodSandbox.
func (m *Manifest) sandboxConfig(logDir string) *runtimeapi.PodSandboxConfig {
	pod := m.Pod
	annotations := maps.Clone(pod.Annotations)
	annotations[annotationGracePeriod] = fmt.Sprint(m.gracePeriod())
	return &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{
			Name: pod.Name, Namespace: pod.Namespace, Uid: string(pod.UID),
		},
		Hostname:     m.kernelHostname(),
		LogDirectory: filepath.Join(logDir, pod.Namespace+"_"+pod.Name+"_"+string(pod.UID)),
		DnsConfig:    dnsConfig(pod.Spec.DNSConfig),
		PortMappings: portMappings(&pod.Spec.Containers[0]),
		Labels:       m.labels(),
		Annotations:  annotations,
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{
				Network: networkMode(pod.Spec.HostNetwork),
			}},
		},
	}
}

func networkMode(host bool) runtimeapi.NamespaceMode {
	if host {
		return runtimeapi.NamespaceMode_NODE
	}
	return runtimeapi.NamespaceMode_POD
}

func dnsConfig(c *corev1.PodDNSConfig) *runtimeapi.DNSConfig {
	if c == nil {
		return nil
	}
	dns := &runtimeapi.DNSConfig{Servers: c.Nameservers, Searches: c.Searches}
	for _, o := range c.Options {
		option := o.Name
		if o.Value != nil {
			option += ":" + *o.Value
		}
		dns.Options = append(dns.Options, option)
	}
	return dns
}

func portMappings(c *corev1.Container) []*runtimeapi.PortMapping {
	var all []*runtimeapi.PortMapping
	for _, p := range c.Ports {
		all = append(all, &runtimeapi.PortMapping{
			Protocol:      runtimeapi.Protocol(runtimeapi.Protocol_value[strings.ToUpper(string(p.Protocol))]),
			ContainerPort: p.ContainerPort,
			HostPort:      p.HostPort,
			HostIp:        p.HostIP,
		})
	}
	return all
}

// containerConfig is what kubelet would send with CreateContainer.
func (m *Manifest) containerConfig(attempt uint32, imageRef, podIP string, made *volumes.Made) (*runtimeapi.ContainerConfig, error) {
	env, err := m.environment(podIP)
	if err != nil {
		return nil, err
	}
	c := &m.Pod.Spec.Containers[0]
	labels := m.labels()
	labels[labelContainerName] = c.Name
	return &runtimeapi.ContainerConfig{
		Metadata:   &runtimeapi.ContainerMetadata{Name: c.Name, Attempt: attempt},
		Image:      &runtimeapi.ImageSpec{Image: imageRef, UserSpecifiedImage: c.Image},
		Command:    c.Command,
		Args:       c.Args,
		WorkingDir: c.WorkingDir,
		Envs:       env,
		Mounts:     made.Mounts,
		Devices:    made.Devices,
		Labels:     labels,
		Annotations: map[string]string{
			annotationGracePeriod: fmt.Sprint(m.gracePeriod()),
		},
		LogPath:   filepath.Join(c.Name, fmt.Sprintf("%d.log", attempt)),
		Stdin:     c.Stdin,
		StdinOnce: c.StdinOnce,
		Tty:       c.TTY,
		Linux:     &runtimeapi.LinuxContainerConfig{Resources: resources(c)},
	}, nil
}

const (
	cpuPeriod    = 100_000 // microseconds
	minCPUQuota  = 1_000
	minCPUShares = 2
)

// resources computes cgroup values from requests and limits, as kubelet does.
func resources(c *corev1.Container) *runtimeapi.LinuxContainerResources {
	r := &runtimeapi.LinuxContainerResources{}
	if limit, ok := c.Resources.Limits[corev1.ResourceMemory]; ok {
		r.MemoryLimitInBytes = limit.Value()
	}
	if limit, ok := c.Resources.Limits[corev1.ResourceCPU]; ok {
		r.CpuPeriod = cpuPeriod
		r.CpuQuota = max(limit.MilliValue()*cpuPeriod/1000, minCPUQuota)
	}
	request, ok := c.Resources.Requests[corev1.ResourceCPU]
	if !ok {
		request, ok = c.Resources.Limits[corev1.ResourceCPU]
	}
	if ok {
		r.CpuShares = cpuShares(request)
	}
	r.HugepageLimits = hugepageLimits(c)
	return r
}

// hugepageLimits names sizes as cgroups do: hugepages-2Mi is "2MB".
func hugepageLimits(c *corev1.Container) (all []*runtimeapi.HugepageLimit) {
	for _, name := range slices.Sorted(maps.Keys(c.Resources.Limits)) {
		size, is := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix)
		if !is {
			continue
		}
		limit := c.Resources.Limits[name]
		all = append(all, &runtimeapi.HugepageLimit{
			PageSize: strings.TrimSuffix(size, "i") + "B",
			Limit:    uint64(max(limit.Value(), 0)),
		})
	}
	return all
}

func cpuShares(q resource.Quantity) int64 { return max(q.MilliValue()*1024/1000, minCPUShares) }
