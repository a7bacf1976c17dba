package podrun

import (
	"fmt"
	"strings"
	"testing"

	"github.com/qemulet/qemulet/internal/podrun/volumes"
)

const templated = `
  selector: {matchLabels: {tier: front}}
  template:
    metadata:
      labels: {tier: front}
      annotations: {kubernetes.io/target-runtime: virtlet.cloud}
    spec:
      containers:
      - name: vm
        image: virtlet.cloud/cirros
        volumeMounts: [{name: data, mountPath: /data}]
      volumes: [{name: data, emptyDir: {}}]
`

func TestWorkloads(t *testing.T) {
	for kind, group := range map[string]string{"Deployment": "apps/v1", "ReplicaSet": "apps/v1", "DaemonSet": "apps/v1", "StatefulSet": "apps/v1", "Job": "batch/v1"} {
		more := ""
		switch kind {
		case "Job":
			more = "  completions: 3\n"
		case "StatefulSet":
			more = "  serviceName: nginx\n  replicas: 3\n"
		case "DaemonSet":
		default:
			more = "  replicas: 3\n"
		}
		m := read(t, fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: web, namespace: prod}\nspec:%s%s", group, kind, templated, more))
		s := m.sandboxConfig("/l")
		if m.Pod.Name != "web-0" || m.Pod.Namespace != "prod" || s.Labels["tier"] != "front" || s.Hostname != "web-0" {
			t.Errorf("%s: %v", kind, s)
		}
		notes := strings.Join(m.Notes, "\n")
		if !strings.Contains(notes, kind+" web: the pod of its template is run, as web-0") || strings.Contains(notes, "asks for 3") != (kind != "DaemonSet") {
			t.Errorf("%s: notes %s", kind, notes)
		}
	}
}

func TestStatefulSetHasItsNameAndClaims(t *testing.T) {
	m := read(t, "apiVersion: v1\nkind: Service\nmetadata: {name: nginx}\nspec: {clusterIP: None, ports: [{port: 80}]}\n---\n"+
		"apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: fast}\nprovisioner: kubernetes.io/no-provisioner\n---\n"+
		"apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: pv}\nspec: {storageClassName: fast, accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, local: {path: "+t.TempDir()+"}}\n---\n"+
		"apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: web}\nspec:\n  serviceName: nginx"+templated+
		"  volumeClaimTemplates: [{metadata: {name: data}, spec: {storageClassName: fast, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]\n")
	if m.Claims["data-web-0"] == nil || m.Pod.Labels["statefulset.kubernetes.io/pod-name"] != "web-0" {
		t.Errorf("%v, %v", m.Claims, m.Pod.Labels)
	}
	if !strings.Contains(strings.Join(m.Notes, "\n"), "Service nginx has no effect on one machine") {
		t.Errorf("%s", m.Notes)
	}
	if !strings.Contains(string(m.hosts("10.0.0.1")), "\n10.0.0.1\tweb-0.nginx.default.svc.cluster.local\tweb-0\n") {
		t.Errorf("%s", m.hosts("10.0.0.1"))
	}
}

func TestEphemeralVolumesHaveClaims(t *testing.T) {
	_, err := ReadManifest(strings.NewReader(minimal + "  volumes: [{name: e, ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}}}]\n"))
	if err == nil || !strings.Contains(err.Error(), `PersistentVolumeClaim "web-e": there is no PersistentVolume in the file`) {
		t.Errorf("%v", err)
	}
}

func TestHostnames(t *testing.T) {
	for _, c := range []struct{ spec, kernel, line string }{
		{"", "web", "10.0.0.1\tweb\n"},
		{"  hostname: box\n", "box", "10.0.0.1\tbox\n"},
		{"  hostname: box\n  subdomain: dom\n", "box", "10.0.0.1\tbox.dom.default.svc.cluster.local\tbox\n"},
		{"  subdomain: dom\n  setHostnameAsFQDN: true\n", "web.dom.default.svc.cluster.local", "10.0.0.1\tweb.dom.default.svc.cluster.local\tweb\n"},
		{"  setHostnameAsFQDN: true\n  hostAliases: [{ip: 192.0.2.1, hostnames: [a.example, b]}]\n", "web", "192.0.2.1\ta.example\tb\n"},
	} {
		m := read(t, minimal+c.spec)
		if got := m.sandboxConfig("/l").Hostname; got != c.kernel {
			t.Errorf("%s: hostname %s, want %s", c.spec, got, c.kernel)
		}
		if hosts := string(m.hosts("10.0.0.1")); !strings.Contains(hosts, "\n"+c.line) {
			t.Errorf("%s: %s", c.spec, hosts)
		}
	}
	_, err := ReadManifest(strings.NewReader(minimal + "  hostname: A_B\n  subdomain: " + strings.Repeat("s", 60) + "\n  setHostnameAsFQDN: true\n  hostAliases: [{ip: x, hostnames: ['-']}]\n"))
	for _, want := range []string{`spec.hostname "A_B"`, "spec.setHostnameAsFQDN: the host name", `spec.hostAliases[0].ip "x"`, "spec.hostAliases[0].hostnames"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
}

func TestHostsFileIsMounted(t *testing.T) {
	m := read(t, minimal)
	made := &volumes.Made{}
	dir := t.TempDir()
	for range 2 { // the second time it is there already
		if err := m.mountHosts(dir, "10.0.0.1", made); err != nil {
			t.Fatal(err)
		}
	}
	if len(made.Mounts) != 1 || made.Mounts[0].HostPath != dir+"/etc-hosts" || made.Mounts[0].ContainerPath != "/etc/hosts" {
		t.Errorf("%v", made.Mounts)
	}
}

func TestHugepages(t *testing.T) {
	m := read(t, vm+"    resources: {limits: {memory: 64Mi, hugepages-2Mi: 128Mi, hugepages-1Gi: 1Gi}}\n")
	c, err := m.containerConfig(0, "i", "", &volumes.Made{})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(c.Linux.Resources.HugepageLimits); got != `[page_size:"1GB" limit:1073741824 page_size:"2MB" limit:134217728]` &&
		got != `[page_size:"1GB"  limit:1073741824 page_size:"2MB"  limit:134217728]` {
		t.Errorf("%s", got)
	}
}
