package downward

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"
)

func pod(t *testing.T) Pod {
	t.Helper()
	p := &corev1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(`
metadata:
  name: web
  namespace: default
  uid: u-1
  labels: {tier: front, a: "1"}
  annotations: {text: "two\nlines"}
spec:
  containers:
  - name: vm
    resources:
      limits: {memory: 100Mi, hugepages-2Mi: 4Mi}
      requests: {cpu: 1500m}
`), p); err != nil {
		t.Fatal(err)
	}
	return Pod{Pod: p, IP: "10.0.0.9", Node: Node{Name: "machine", CPUs: 4, Memory: 8 << 30}}
}

func TestFields(t *testing.T) {
	p := pod(t)
	for path, want := range map[string]string{
		"metadata.name": "web", "metadata.namespace": "default", "metadata.uid": "u-1",
		"metadata.labels": "a=\"1\"\ntier=\"front\"", "metadata.annotations": `text="two\nlines"`,
		"metadata.labels['tier']": "front", "metadata.annotations['none']": "",
		"spec.nodeName": "machine", "spec.serviceAccountName": "default", "status.podIP": "10.0.0.9", "status.hostIP": "",
	} {
		if got, err := p.Field(path); got != want || err != nil {
			t.Errorf("%s is %q, %v, want %q", path, got, err, want)
		}
	}
	for _, wrong := range []string{"", "metadata.labels[tier]", "spec.hostname", "metadata.labels['x"} {
		if _, err := p.Field(wrong); err == nil || !strings.Contains(err.Error(), "is not known") {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	if _, err := p.EnvField("metadata.labels"); err == nil || !strings.Contains(err.Error(), "metadata.labels['KEY']") {
		t.Errorf("%v", err)
	}
	if _, err := p.FileField("status.podIP"); err == nil {
		t.Error("a file has the pod's address")
	}
}

func TestResources(t *testing.T) {
	p := pod(t)
	for _, c := range []struct{ resource, divisor, want string }{
		{"limits.memory", "0", "104857600"}, {"limits.memory", "1Mi", "100"}, {"limits.memory", "3Mi", "34"},
		{"requests.memory", "1Mi", "100"}, // what is not requested is the limit
		{"requests.cpu", "1", "2"}, {"requests.cpu", "1m", "1500"}, {"requests.cpu", "0", "2"},
		{"limits.cpu", "1", "4"}, // the machine's
		{"limits.hugepages-2Mi", "1Mi", "4"}, {"requests.ephemeral-storage", "0", "0"},
	} {
		got, err := p.Resource(&corev1.ResourceFieldSelector{ContainerName: "vm", Resource: c.resource, Divisor: resource.MustParse(c.divisor)})
		if got != c.want || err != nil {
			t.Errorf("%s in %s is %q, %v, want %s", c.resource, c.divisor, got, err, c.want)
		}
	}
	p.Spec.Containers[0].Resources.Limits = nil
	if got, err := p.Resource(&corev1.ResourceFieldSelector{Resource: "limits.memory", Divisor: resource.MustParse("1Gi")}); got != "8" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for _, wrong := range []corev1.ResourceFieldSelector{
		{Resource: "memory"}, {Resource: "limits.pens"}, {Resource: "limits.cpu", ContainerName: "other"}, {Resource: "limits.cpu", Divisor: resource.MustParse("-1")},
	} {
		if _, err := p.Resource(&wrong); err == nil || !strings.Contains(err.Error(), "resourceFieldRef.") {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
}

func TestThisNode(t *testing.T) {
	if n := ThisNode(); n.Name == "" || n.CPUs < 1 || n.Memory < 1<<20 {
		t.Errorf("%+v", n)
	}
}
