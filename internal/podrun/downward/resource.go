package downward

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Resource is the value of a resourceFieldRef. A limit that is not there is what
// the node has, a request that is not there the limit.
func (p Pod) Resource(ref *corev1.ResourceFieldSelector) (string, error) {
	c, err := p.container(ref.ContainerName)
	if err != nil {
		return "", err
	}
	kind, name, _ := strings.Cut(ref.Resource, ".")
	switch {
	case kind != "limits" && kind != "requests", name == "":
		return "", fmt.Errorf("resourceFieldRef.resource %q: accepted are limits.RESOURCE and requests.RESOURCE, such as limits.memory", ref.Resource)
	case !known(corev1.ResourceName(name)):
		return "", fmt.Errorf("resourceFieldRef.resource %q: accepted resources are cpu, memory, ephemeral-storage and hugepages-SIZE", ref.Resource)
	}
	return divide(corev1.ResourceName(name), p.quantity(c, kind, corev1.ResourceName(name)), ref.Divisor)
}

func (p Pod) container(name string) (*corev1.Container, error) {
	for i := range p.Spec.Containers {
		if c := &p.Spec.Containers[i]; name == "" || c.Name == name {
			return c, nil
		}
	}
	return nil, fmt.Errorf("resourceFieldRef.containerName %q: the pod has no such container", name)
}

func known(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		return true
	}
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

func (p Pod) quantity(c *corev1.Container, kind string, name corev1.ResourceName) resource.Quantity {
	if kind == "requests" {
		if q, ok := c.Resources.Requests[name]; ok {
			return q
		}
	}
	if q, ok := c.Resources.Limits[name]; ok {
		return q
	}
	switch {
	case kind == "requests":
		return resource.Quantity{}
	case name == corev1.ResourceCPU:
		return *resource.NewQuantity(p.Node.CPUs, resource.DecimalSI)
	case name == corev1.ResourceMemory:
		return *resource.NewQuantity(p.Node.Memory, resource.BinarySI)
	}
	return resource.Quantity{}
}

// divide counts in whole divisors, rounded up.
func divide(name corev1.ResourceName, q, divisor resource.Quantity) (string, error) {
	if divisor.Sign() < 0 {
		return "", fmt.Errorf("resourceFieldRef.divisor %q: accepted is a quantity above 0", &divisor)
	}
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	value, unit := q.Value(), divisor.Value()
	if name == corev1.ResourceCPU {
		value, unit = q.MilliValue(), divisor.MilliValue()
	}
	return strconv.FormatInt(value/unit+min(value%unit, 1), 10), nil
}

// capacity is the machine's processors and memory, 0 where the kernel does not
// tell.
func capacity() (cpus, memory int64) {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		memory = int64(info.Totalram) * int64(info.Unit)
	}
	return int64(runtime.NumCPU()), memory
}
