package podrun

import (
	"errors"
	"strings"
	"testing"

	"github.com/qemulet/qemulet/internal/podrun/volumes"
)

const head = `apiVersion: v1
kind: Pod
metadata:
  name: web
  annotations:
    kubernetes.io/target-runtime: virtlet.cloud
    a: b
  labels: {tier: front}
`

const minimal = head + `spec:
  containers:
  - {name: vm, image: virtlet.cloud/cirros}
`

// vm is minimal, open for more fields of the container.
const vm = head + `spec:
  containers:
  - name: vm
    image: virtlet.cloud/cirros
`

func read(t *testing.T, text string) *Manifest {
	t.Helper()
	m, err := ReadManifest(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestManifestAsPeopleHaveThem(t *testing.T) {
	m := read(t, "---\n# only a comment\n---\n"+head+`spec:
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms:
        - matchExpressions: [{key: extraRuntime, operator: In, values: [virtlet]}]
  nodeSelector: {extraRuntime: virtlet}
  tolerations: [{operator: Exists}]
  volumes: [{name: v, emptyDir: {}}]
  containers:
  - name: vm
    image: virtlet.cloud/cirros
    tty: true
    stdin: true
    imagePullPolicy: IfNotPresent
    livenessProbe: {tcpSocket: {port: 80}}
    resources: {limits: {memory: 256Mi, cpu: 1500m}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {k: v}
`)
	notes := strings.Join(m.Notes, "\n")
	for _, field := range []string{"spec.affinity", "spec.nodeSelector", "spec.tolerations", "livenessProbe", "spec.volumes: v: nothing mounts it"} {
		if !strings.Contains(notes, field) {
			t.Errorf("%s is not named in the notes:\n%s", field, notes)
		}
	}
	if strings.Contains(notes, "imagePullPolicy") || m.ConfigMaps["c"] == nil || m.Pod.Namespace != "default" || m.Pod.UID == "" {
		t.Errorf("notes %s, pod %+v", notes, m.Pod.ObjectMeta)
	}
	c, err := m.containerConfig(2, "sha256:x", "10.0.0.1", &volumes.Made{})
	if err != nil {
		t.Fatal(err)
	}
	r := c.Linux.Resources
	if r.MemoryLimitInBytes != 256<<20 || r.CpuQuota != 150_000 || r.CpuPeriod != 100_000 || r.CpuShares != 1536 {
		t.Errorf("resources %v", r)
	}
	if c.LogPath != "vm/2.log" || !c.Tty || !c.Stdin || c.Image.Image != "sha256:x" || c.Image.UserSpecifiedImage != "virtlet.cloud/cirros" {
		t.Errorf("container %v", c)
	}
	s := m.sandboxConfig("/logs")
	if s.Hostname != "web" || s.Annotations["a"] != "b" || s.Labels["tier"] != "front" || s.Labels[labelPodName] != "web" ||
		!strings.HasPrefix(s.LogDirectory, "/logs/default_web_") {
		t.Errorf("sandbox %v", s)
	}
}

func TestManifestErrorsNameTheField(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"no pod":           {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n", "no object of kind Pod"},
		"empty":            {"", "no object of kind Pod"},
		"not yaml":         {"a: [", "document 1: it is not valid YAML"},
		"text":             {"pod please", "not a Kubernetes object"},
		"a list":           {"- a", "not a Kubernetes object"},
		"wrong type":       {strings.Replace(minimal, "name: vm", "name: vm, tty: sure", 1), "Pod: spec.containers.tty: it holds a string, a bool is accepted"},
		"not in quotes":    {strings.Replace(minimal, "a: b", "a: 1", 1), "Pod: metadata.annotations: it holds a number, a string is accepted; put it in quotes"},
		"quantity":         {strings.Replace(minimal, "name: vm", "name: vm, resources: {limits: {memory: lots}}", 1), "Pod: quantities must match"},
		"policy":           {minimal + "  restartPolicy: Sometimes\n", `spec.restartPolicy "Sometimes": accepted are Always`},
		"pull policy":      {strings.Replace(minimal, "name: vm", "name: vm, imagePullPolicy: Maybe", 1), `imagePullPolicy "Maybe": accepted are Always`},
		"name is a path":   {strings.Replace(minimal, "name: web", "name: ../../etc", 1), `metadata.name "../../etc"`},
		"uid is a path":    {strings.Replace(minimal, "name: web", "name: web\n  uid: ../etc", 1), `metadata.uid "../etc"`},
		"only the prefix":  {strings.Replace(minimal, "virtlet.cloud/cirros", "virtlet.cloud/", 1), "what follows virtlet.cloud/ is missing"},
		"no ConfigMap":     {vm + "    envFrom: [{configMapRef: {name: gone}}]\n", `ConfigMap "gone" is not in the file`},
		"other kind":       {"apiVersion: v1\nkind: Node\n", `kind "Node"`},
		"two pods":         {minimal + "---\n" + minimal, "second one"},
		"misspelt field":   {minimal + "  restartPolcy: Never\n", "restartPolcy"},
		"twice":            {minimal + strings.Repeat("---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\n", 2), "twice"},
		"no annotation":    {strings.Replace(minimal, "kubernetes.io/target-runtime: virtlet.cloud", "x: z", 1), "kubernetes.io/target-runtime: virtlet.cloud"},
		"no prefix":        {strings.Replace(minimal, "virtlet.cloud/cirros", "cirros", 1), "write virtlet.cloud/cirros"},
		"no image":         {strings.Replace(minimal, ", image: virtlet.cloud/cirros", "", 1), "image is missing"},
		"two containers":   {minimal + "  - {name: b, image: virtlet.cloud/b}\n", "has 2 entries"},
		"init containers":  {minimal + "  initContainers: [{name: setup, image: x}]\n", `"setup": a VM pod has no init containers`},
		"no name":          {strings.Replace(minimal, "name: web", "x: y", 1), ""},
		"no metadata name": {strings.Replace(minimal, "  name: web\n", "", 1), "metadata.name is missing"},
	} {
		if _, err := ReadManifest(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Who repairs a file wants to see everything at once.
func TestManifestProblemsAreReportedTogether(t *testing.T) {
	_, err := ReadManifest(strings.NewReader(`apiVersion: v1
kind: Pod
metadata: {nam: web}
spec:
  restartPolcy: Never
  containers:
  - {name: VM, imag: x, image: cirros, env: [{name: A, valueFrom: {configMapKeyRef: {name: c, key: k}}}]}
---
kind: Node
apiVersion: v1
`))
	var all *ManifestError
	if !errors.As(err, &all) || len(all.Problems) != 9 {
		t.Fatalf("%v", err)
	}
	for _, want := range []string{"9 problems:\n  document 1: Pod: unknown field", `"metadata.nam"`, `"spec.restartPolcy"`, `"spec.containers[0].imag"`,
		`document 2: apiVersion "v1", kind "Node"`, "metadata.name is missing", "annotation kubernetes.io/target-runtime", `spec.containers[0].name "VM"`,
		`image "cirros"`, `ConfigMap "c" is not in the file`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
}

func FuzzReadManifest(f *testing.F) {
	f.Add(minimal)
	f.Add(head)
	f.Add("---\n---\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ReadManifest(strings.NewReader(text))
		if err != nil {
			return
		}
		m.sandboxConfig("/l")
		_, _ = m.containerConfig(0, "i", "", &volumes.Made{})
	})
}
