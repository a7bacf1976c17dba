package cluster

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// dryRun asks the API server what it would say to objects, given as YAML, without making them.
func (c *Cluster) dryRun(tb testing.TB, manifest string) error {
	tb.Helper()
	return c.feed(tb, manifest, "apply", "--dry-run=server", "--validate=strict", "-f", "-")
}

// An API server takes all of the base, and without complaint.
func TestManifestsAreTakenByTheAPIServer(t *testing.T) {
	c := theCluster(t)
	all, kinds := base(t)
	must(t, c.dryRun(t, all))
	if strings.Count(kinds["CustomResourceDefinition"], "---") != 2 {
		t.Errorf("definitions: %s", kinds["CustomResourceDefinition"])
	}
}

func mapping(kind, namespace, spec string) string {
	return fmt.Sprintf("apiVersion: virtlet.k8s/v1\nkind: %s\nmetadata: {name: it, namespace: %s}\nspec: %s\n", kind, namespace, spec)
}

// The API server refuses what is wrong in a mapping, naming the field.
func TestDefinitionsRefuseBadObjects(t *testing.T) {
	c := theCluster(t)
	for _, bad := range []struct{ kind, spec, want string }{
		{"VirtletConfigMapping", "{config: {streamPort: 70000}}", "spec.config.streamPort"},
		{"VirtletConfigMapping", "{config: {downloadProtocol: ftp}}", "spec.config.downloadProtocol"},
		{"VirtletConfigMapping", "{config: {calicoSubnetSize: 33}}", "spec.config.calicoSubnetSize"},
		{"VirtletConfigMapping", "{config: {parallel-pulls: 0}}", "spec.config.parallel-pulls"},
		{"VirtletConfigMapping", "{config: {rawDevice: x}}", "rawDevice"},
		{"VirtletConfigMapping", "{config: {state-dir: /x}}", "state-dir"},
		{"VirtletConfigMapping", "{config: {rawDevices: a, raw-devices: b}}", "rawDevices and raw-devices are the same setting"},
		{"VirtletConfigMapping", "{priority: high}", "spec.priority"},
		{"VirtletImageMapping", "{translations: [{name: a}]}", "spec.translations[0].url"},
		{"VirtletImageMapping", "{translations: [{name: a, url: u, sha256: 1f}]}", "sha256"},
		{"VirtletImageMapping", "{translations: [{url: u}]}", "spec.translations[0]"},
	} {
		if err := c.dryRun(t, mapping(bad.kind, "kube-system", bad.spec)); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%s %s: %v, want %q", bad.kind, bad.spec, err, bad.want)
		}
	}
	for kind, spec := range map[string]string{
		"VirtletConfigMapping": "{nodeName: " + NodeName + ", nodeSelector: {a: b}, priority: 3, config: {rawDevices: 'sd*', disableKVM: true, logLevel: 5, parallel-pulls: 8, cni-bin-dir: [/opt/cni/bin]}}",
		"VirtletImageMapping":  "{prefix: p/, translations: [{regexp: 'a(.*)', url: 'http://h/$1', transport: t}], transports: {t: {timeout: 1000}}}",
	} {
		if err := c.dryRun(t, mapping(kind, "kube-system", spec)); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// The daemon's account may do what it has to, and not more.
func TestRoles(t *testing.T) {
	c := theCluster(t)
	_, kinds := base(t)
	c.Apply(t, kinds["ServiceAccount"]+kinds["ClusterRole"]+kinds["ClusterRoleBinding"]+kinds["Role"]+kinds["RoleBinding"])
	for what, want := range map[string]bool{
		"get secrets -n default":    true,
		"get configmaps -n default": true,
		"get nodes":                 true,
		"list virtletimagemappings.virtlet.k8s -n kube-system":   true,
		"watch virtletconfigmappings.virtlet.k8s -n kube-system": true,
		"watch configmaps/virtlet-config -n kube-system":         true,
		"list secrets -n default":                                false,
		"list configmaps -n kube-system":                         false,
		"list nodes":                                             false,
		"create pods -n default":                                 false,
		"watch virtletconfigmappings.virtlet.k8s -n default":     false,
	} {
		args := append([]string{"auth", "can-i", "--as=system:serviceaccount:kube-system:qemulet"}, strings.Fields(what)...)
		out, _ := c.TryKubectl(t, args...)
		if got := strings.TrimSpace(out) == "yes"; got != want {
			t.Errorf("%s: %s", what, out)
		}
	}
}

// runningSettings are those of the daemon, as value and origin, and those that wait for its restart.
func (c *Cluster) runningSettings(t *testing.T) (values map[string]string, pending []string, err error) {
	t.Helper()
	out, err := c.Command(program(t, "qemulet"), "config", "dump", "--running", "-o", "json", "--run-dir", c.Path("q")).Output()
	if err != nil {
		return nil, nil, err // it may be about to start
	}
	var d struct {
		Values, Pending []struct{ Name, Value, Origin string }
	}
	must(t, json.Unmarshal(out, &d))
	values = map[string]string{}
	for _, v := range d.Values {
		values[v.Name] = v.Value + " from " + v.Origin
	}
	for _, v := range d.Pending {
		pending = append(pending, v.Name+"="+v.Value)
	}
	return values, pending, nil
}

// waitForSetting waits until the daemon has a value from an origin.
func (c *Cluster) waitForSetting(t *testing.T, name, want string) {
	t.Helper()
	eventually(t, 60*time.Second, name+" is "+want, func() error {
		if values, _, err := c.runningSettings(t); err != nil || values[name] != want {
			return fmt.Errorf("%s is %s, %v", name, values[name], err)
		}
		return nil
	})
}

// A mapping for this node changes the running daemon, at once where that can be; the daemon's next start has the rest, also
// while the API server is away.
func TestConfigMappingChangesTheDaemon(t *testing.T) {
	c := theCluster(t)
	const origin = " from the VirtletConfigMapping kube-system/it (spec.config."
	c.Apply(t, mapping("VirtletConfigMapping", "kube-system", "{nodeName: "+NodeName+", nodeSelector: {extraRuntime: virtlet}, config: {rawDevices: 'e2e*', parallel-pulls: 9}}")+
		"---\n"+strings.ReplaceAll(mapping("VirtletConfigMapping", "kube-system", "{nodeName: another, priority: 9, config: {rawDevices: 'no*'}}"), "name: it,", "name: other,"))
	c.waitForSetting(t, "raw-devices", "e2e*"+origin+"rawDevices)")
	if _, pending, err := c.runningSettings(t); err != nil || !slices.Equal(pending, []string{"parallel-pulls=9"}) {
		t.Errorf("pending %q, %v", pending, err)
	}
	c.Component(t, "qemulet").Kill9()
	c.Component(t, "kube-apiserver").Kill9()
	restarted := false
	t.Cleanup(func() {
		if !restarted {
			c.Component(t, "kube-apiserver").Start(t)
		}
	})
	c.Component(t, "qemulet").Start(t)
	c.waitForSetting(t, "parallel-pulls", "9"+origin+"parallel-pulls)")
	restarted = true
	c.Component(t, "kube-apiserver").Start(t)
	eventually(t, 120*time.Second, "the API server is ready", func() error { return c.try(c.kubectl(t, "get", "--raw", "/readyz")...) })
	c.WaitNodeReady(t)
	c.Kubectl(t, "patch", "virtletconfigmapping", "it", "-n", "kube-system", "--type=merge", "-p", `{"spec":{"config":{"rawDevices":"f*"}}}`)
	c.waitForSetting(t, "raw-devices", "f*"+origin+"rawDevices)")
	c.Kubectl(t, "delete", "virtletconfigmapping", "it", "-n", "kube-system")
	c.waitForSetting(t, "raw-devices", "loop* from default")
}
