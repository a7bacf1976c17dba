package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/qemulet/qemulet/internal/config"
)

const configCRD = "base/crd-config.yaml"

// head is the definition but for the fields of config.
const head = `# Written from the table of settings: cd deploy && go test . -run TestConfigCRD -update
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: virtletconfigmappings.virtlet.k8s
  labels:
    virtlet.cloud: ""
spec:
  group: virtlet.k8s
  scope: Namespaced
  names:
    kind: VirtletConfigMapping
    listKind: VirtletConfigMappingList
    plural: virtletconfigmappings
    singular: virtletconfigmapping
    shortNames: [vcm]
  versions:
    - name: v1
      served: true
      storage: true
      additionalPrinterColumns:
        - name: Node
          type: string
          jsonPath: .spec.nodeName
        - name: Selector
          type: string
          jsonPath: .spec.nodeSelector
        - name: Priority
          type: integer
          jsonPath: .spec.priority
      schema:
        openAPIV3Schema:
          type: object
          description: Settings for some of the nodes, or all. Only those in kube-system count, and less than what a node itself gives.
          required: [spec]
          properties:
            apiVersion:
              type: string
            kind:
              type: string
            metadata:
              type: object
            spec:
              type: object
              properties:
                nodeName:
                  type: string
                  maxLength: 253
                  description: The node that it is for. Together with nodeSelector both must match, without either it is for all nodes.
                nodeSelector:
                  type: object
                  description: Labels of the nodes that it is for.
                  additionalProperties:
                    type: string
                priority:
                  type: integer
                  format: int32
                  description: Of two that give a setting to a node, that with the higher priority counts.
                config:
                  type: object
                  description: The settings, by Virtlet's names or qemulet's.
`

// configDefinition is the whole definition.
func configDefinition(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(head)
	b.WriteString("                  x-kubernetes-validations:\n")
	for _, pair := range config.SameSettings() {
		fmt.Fprintf(&b, "                    - rule: '!(has(self.%s) && has(self.%s))'\n", cel(pair[0]), cel(pair[1]))
		fmt.Fprintf(&b, "                      message: %s and %s are the same setting, one of them is accepted\n", pair[0], pair[1])
	}
	b.WriteString("                  properties:\n")
	fields := config.MappingSchema()
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		text, err := json.Marshal(fields[name])
		if err != nil {
			t.Fatal(err)
		}
		props, err := yaml.JSONToYAML(text)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "                    %s:\n", name)
		for line := range strings.Lines(string(props)) {
			b.WriteString("                      " + line)
		}
	}
	return b.Bytes()
}

// cel is how a field is called in a rule.
func cel(field string) string { return strings.ReplaceAll(field, "-", "__dash__") }

func TestConfigCRDIsThatOfTheTable(t *testing.T) {
	want := configDefinition(t)
	has, err := os.ReadFile(configCRD)
	switch {
	case err == nil && bytes.Equal(has, want):
	case *update:
		if err := os.WriteFile(configCRD, want, 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Fatalf("%s is not up to date (%v): go test . -run TestConfigCRD -update", configCRD, err)
	}
}

// An API server takes it, and its names and fields are those of Virtlet.
func TestConfigCRDIsAccepted(t *testing.T) {
	accepted(t, "VirtletConfigMapping", "vcm")
	props := schema(t, "VirtletConfigMapping").Properties["spec"]
	for _, field := range []string{"nodeName", "nodeSelector", "priority", "config"} {
		if _, ok := props.Properties[field]; !ok {
			t.Errorf("no %s", field)
		}
	}
	if has := len(props.Properties["config"].Properties); has != len(config.MappingSchema()) {
		t.Errorf("%d fields of config", has)
	}
}

func TestConfigCRDTakesGoodMappings(t *testing.T) {
	for name, spec := range map[string]string{
		"empty":       "{}",
		"Virtlet's":   "{nodeName: node-1, nodeSelector: {a: b}, priority: 10, config: {rawDevices: 'sd*', disableKVM: true, streamPort: 10010, logLevel: 5, downloadProtocol: http, calicoSubnetSize: 24, kubeletRootDir: /var/lib/kubelet/pods}}",
		"ours":        "{config: {parallel-pulls: 5, accel: tcg, cni-bin-dir: [/a, /b], cni-timeout: 2m, vhost-net: false, stream-address: '127.0.0.1:0'}}",
		"empty texts": "{config: {rawDevices: '', imageDir: '', image-file-dir: ''}}",
	} {
		problems, unknown := check(t, "VirtletConfigMapping", spec)
		if problems != "" || len(unknown) > 0 {
			t.Errorf("%s: %s, unknown %q", name, problems, unknown)
		}
		takes(t, name, spec, true)
	}
}

// What the API server refuses, the daemon would refuse too.
func TestConfigCRDRefusesBadMappings(t *testing.T) {
	for name, c := range map[string]struct{ spec, want string }{
		"priority":   {"{priority: high}", "spec.priority"},
		"port":       {"{config: {streamPort: 70000}}", "spec.config.streamPort"},
		"protocol":   {"{config: {downloadProtocol: ftp}}", "spec.config.downloadProtocol"},
		"verbosity":  {"{config: {logLevel: -1}}", "spec.config.logLevel"},
		"type":       {"{config: {disableKVM: 'yes'}}", "spec.config.disableKVM"},
		"choice":     {"{config: {accel: hvf}}", "spec.config.accel"},
		"range":      {"{config: {parallel-pulls: 65}}", "spec.config.parallel-pulls"},
		"path":       {"{config: {cni-conf-dir: etc}}", "spec.config.cni-conf-dir"},
		"empty list": {"{config: {cni-bin-dir: []}}", "spec.config.cni-bin-dir"},
		"duration":   {"{config: {cni-timeout: long}}", "spec.config.cni-timeout"},
		"no address": {"{config: {stream-address: 'host:1'}}", "spec.config.stream-address"},
	} {
		if problems, _ := check(t, "VirtletConfigMapping", c.spec); !strings.Contains(problems, c.want) {
			t.Errorf("%s: got %q, want %q", name, problems, c.want)
		}
		takes(t, name, c.spec, false)
	}
	for _, field := range []string{"state-dir", "kubeconfig", "raw_devices", "rawdevices"} {
		if _, unknown := check(t, "VirtletConfigMapping", "{config: {"+field+": /x}}"); !slices.Equal(unknown, []string{"spec.config." + field}) {
			t.Errorf("%s: unknown %q", field, unknown)
		}
	}
}

// takes compares with what the daemon says.
func takes(t *testing.T, name, spec string, good bool) {
	t.Helper()
	_, err := config.Check(name, []byte("kind: VirtletConfigMapping\nmetadata: {namespace: kube-system}\nspec: "+spec+"\n"))
	if (err == nil) != good {
		t.Errorf("%s: the daemon: %v", name, err)
	}
}
