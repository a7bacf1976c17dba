package config

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func mapping(t *testing.T, name, spec string) Mapping {
	t.Helper()
	m, err := ParseMapping(name, []byte(spec))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func config(t *testing.T, text string) map[string]any {
	t.Helper()
	var c map[string]any
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestMappingsOfANode(t *testing.T) {
	all := []Mapping{
		mapping(t, "high", `{"priority": 10, "config": {"rawDevices": "sd*"}}`),
		mapping(t, "low", `{"priority": -1, "config": {"rawDevices": "vd*", "logLevel": 5}}`),
		mapping(t, "named", `{"nodeName": "node-1", "priority": 5, "config": {"logLevel": 1}}`),
		mapping(t, "labelled", `{"nodeSelector": {"disk": "ssd"}, "priority": 20, "config": {"parallel-pulls": 7}}`),
		mapping(t, "both", `{"nodeName": "node-1", "nodeSelector": {"disk": "ssd"}, "priority": 30, "config": {"parallel-pulls": 9}}`),
		mapping(t, "empty", `{"priority": 99}`),
	}
	for _, test := range []struct {
		node   string
		labels map[string]string
		want   []string
	}{
		{"node-2", nil, []string{"low", "high"}},
		{"node-1", map[string]string{"disk": "hdd"}, []string{"low", "named", "high"}},
		{"node-2", map[string]string{"disk": "ssd"}, []string{"low", "high", "labelled"}},
		{"node-1", map[string]string{"disk": "ssd", "x": "y"}, []string{"low", "named", "high", "labelled", "both"}},
	} {
		var got []string
		for _, o := range Select(all, test.node, test.labels) {
			got = append(got, strings.TrimPrefix(o.Name, "VirtletConfigMapping kube-system/"))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s %v: got %v, want %v", test.node, test.labels, got, test.want)
		}
	}
	if !NeedsLabels(all, "node-2") || NeedsLabels(all[:3], "node-1") || NeedsLabels(all[4:], "node-2") {
		t.Error("NeedsLabels is wrong")
	}
}

// Of two objects the later counts more, field by field; less than what the node
// itself gives.
func TestPrecedenceOfTheCluster(t *testing.T) {
	objects := []Object{
		{Name: "first", Config: config(t, `{"rawDevices": "sd*", "logLevel": 5, "cpuModel": "host-model"}`)},
		{Name: "second", Config: config(t, `{"rawDevices": "vd*", "parallel-pulls": 5}`)},
		{Name: "map", Data: map[string]string{"loglevel": "1", "image_regexp_translation": ""}},
	}
	c, err := Load(nil, []string{"QEMULET_CPU_MODEL=qemu64", "QEMULET_CONFIG="}, objects...)
	if err != nil {
		t.Fatal(err)
	}
	if c.RawDevices != "vd*" || c.ParallelPulls != 5 || c.LogLevel != "info" || c.CPUModel != "qemu64" || c.RegexpImageTranslation {
		t.Errorf("%+v", c)
	}
	if got := origin(c, "raw-devices"); got != "the second (spec.config.rawDevices)" {
		t.Errorf("origin %q", got)
	}
}

func TestVirtletsFields(t *testing.T) {
	all := config(t, `{"fdServerSocketPath": "/a", "databasePath": "/b", "downloadProtocol": "http", "imageDir": "/img", "imageTranslationConfigsDir": "/tr",
		"skipImageTranslation": true, "libvirtURI": "qemu:///system", "rawDevices": "sd*", "criSocketPath": "/run/virtlet.sock", "disableLogging": true,
		"disableKVM": true, "enableSriov": true, "cniPluginDir": "/cni/bin", "cniConfigDir": "/cni/conf", "calicoSubnetSize": 22,
		"enableRegexpImageTranslation": false, "cpuModel": "host-model", "streamPort": 10010, "kubeletRootDir": "/var/lib/k/pods", "logLevel": 3}`)
	if len(all) != 20 {
		t.Errorf("%d fields", len(all))
	}
	c, err := Load(nil, []string{"QEMULET_CONFIG="}, Object{Name: "m", Config: all})
	if err != nil {
		t.Fatal(err)
	}
	got := []any{c.DownloadProtocol, c.ImageDir, c.ImageTranslationDir, c.RawDevices, c.Accel, c.CNIBinDirs[0], c.CNIConfDir, c.RegexpImageTranslation,
		c.CPUModel, c.StreamAddress, c.KubeletRootDir, c.LogLevel}
	want := []any{"http", "/img", "/tr", "sd*", "tcg", "/cni/bin", "/cni/conf", false, "host-model", "127.0.0.1:10010", "/var/lib/k", "debug"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, field := range []string{"fdServerSocketPath", "databasePath", "skipImageTranslation", "libvirtURI", "criSocketPath", "disableLogging", "enableSriov", "calicoSubnetSize"} {
		if !slices.ContainsFunc(c.Warnings, func(w string) bool { return strings.HasPrefix(w, "m: spec.config."+field+" has no effect: ") }) {
			t.Errorf("%s: no word in %q", field, c.Warnings)
		}
	}
	if len(c.Warnings) != 8 {
		t.Errorf("%q", c.Warnings)
	}
}

// All of Virtlet's variables, one by one.
func TestVirtletsVariables(t *testing.T) {
	for env, want := range map[string]string{
		"KUBE_NODE_NAME=n1":               "node-name=n1",
		"VIRTLET_DOWNLOAD_PROTOCOL=http":  "download-protocol=http",
		"VIRTLET_DOWNLOAD_PROTOCOL=":      "download-protocol=https",
		"VIRTLET_IMAGE_DIR=/i":            "image-dir=/i",
		"VIRTLET_RAW_DEVICES=sd*":         "raw-devices=sd*",
		"VIRTLET_RAW_DEVICES=":            "raw-devices=",
		"VIRTLET_CRI_SOCKET_PATH=/v.sock": "cri-socket=/v.sock",
		"VIRTLET_DISABLE_KVM=1":           "accel=tcg",
		"VIRTLET_DISABLE_KVM=":            "accel=auto",
		"VIRTLET_DISABLE_KVM=false":       "accel=tcg",
		"VIRTLET_CNI_CONFIG_DIR=/c":       "cni-conf-dir=/c",
		"IMAGE_REGEXP_TRANSLATION=":       "regexp-image-translation=false",
		"IMAGE_REGEXP_TRANSLATION=1":      "regexp-image-translation=true",
		"VIRTLET_CPU_MODEL=host-model":    "cpu-model=host-model",
		"VIRTLET_STREAM_PORT=10":          "stream-address=127.0.0.1:10",
		"KUBELET_ROOT_DIR=/x/pods":        "kubelet-root-dir=/x",
		"VIRTLET_LOGLEVEL=5":              "log-level=debug",
		"VIRTLET_SRIOV_SUPPORT=1":         "warning",
		"VIRTLET_DISABLE_LOGGING=1":       "warning",
		"VIRTLET_CALICO_SUBNET=24":        "warning",
		"VIRTLET_LIBVIRT_URI=qemu":        "warning",
		"VIRTLET_DATABASE_PATH=/v.db":     "warning",
		"VIRTLET_FD_SERVER_SOCKET_PATH=/": "warning",
		"KUBERNETES_CLUSTER_URL=https://": "warning",
	} {
		c := mustLoad(t, "", []string{env})
		if want == "warning" {
			if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "has no effect: ") {
				t.Errorf("%s: %q", env, c.Warnings)
			}
			continue
		}
		name, value, _ := strings.Cut(want, "=")
		for _, v := range c.Values() {
			if v.Name == name && v.Value != value {
				t.Errorf("%s: %s is %q", env, name, v.Value)
			}
		}
		if hardly := strings.HasSuffix(env, "=false"); hardly != (len(c.Warnings) == 1) {
			t.Errorf("%s: warnings %q", env, c.Warnings)
		}
	}
}

// Each row of Virtlet's leads somewhere.
func TestVirtletNamesLeadSomewhere(t *testing.T) {
	settings := table(&Config{})
	for _, v := range virtletNames {
		if _, ok := findSetting(settings, v.setting); ok == (v.gone != "") {
			t.Errorf("%+v: neither a setting nor a reason", v)
		}
		if (v.translate == nil) != (v.differs == "") {
			t.Errorf("%+v: a translation is not described", v)
		}
		if v.field != "" && v.form.Type == "" {
			t.Errorf("%+v: a field without a form", v)
		}
	}
}

func TestErrorsOfObjects(t *testing.T) {
	for name, test := range map[string]struct {
		object Object
		words  []string
	}{
		"unknown field": {Object{Name: "m", Config: config(t, `{"rawDevice": "x"}`)}, []string{"m: spec.config.rawDevice", "no such setting", "raw-devices"}},
		"unknown key":   {Object{Name: "map", Data: map[string]string{"rawdevices": "x"}}, []string{"map: data.rawdevices", "no such setting"}},
		"wrong type":    {Object{Name: "m", Config: config(t, `{"logLevel": "5"}`)}, []string{"spec.config.logLevel", "a text", "integer"}},
		"a fraction":    {Object{Name: "m", Config: config(t, `{"logLevel": 1.5}`)}, []string{"spec.config.logLevel: 1.5", "integer"}},
		"own type":      {Object{Name: "m", Config: config(t, `{"parallel-pulls": "5"}`)}, []string{"parallel-pulls", "a text", "number"}},
		"null":          {Object{Name: "m", Config: config(t, `{"rawDevices": null}`)}, []string{"rawDevices", "empty", "string"}},
		"of the node":   {Object{Name: "m", Config: config(t, `{"state-dir": "/x"}`)}, []string{"state-dir", "a node's own", "QEMULET_STATE_DIR"}},
		"twice":         {Object{Name: "m", Config: config(t, `{"rawDevices": "a", "raw-devices": "b"}`)}, []string{"spec.config.raw-devices and spec.config.rawDevices", "the same setting"}},
		"port":          {Object{Name: "m", Config: config(t, `{"streamPort": 70000}`)}, []string{"streamPort", "from 1 to 65535"}},
		"kubelet's own": {Object{Name: "m", Config: config(t, `{"kubeletRootDir": "/var/lib/kubelet"}`)}, []string{"kubeletRootDir", "directory of pods"}},
		"pattern":       {Object{Name: "m", Config: config(t, `{"rawDevices": "sd["}`)}, []string{"rawDevices", "shell patterns"}},
		"number":        {Object{Name: "map", Data: map[string]string{"loglevel": "much"}}, []string{"data.loglevel", `"much"`, "from 0 on"}},
		"all at once":   {Object{Name: "m", Config: config(t, `{"accel": "hvf", "logLevel": -1}`)}, []string{"accel", "hvf", "logLevel"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(nil, []string{"QEMULET_CONFIG="}, test.object)
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range test.words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not mentioned: %v", w, err)
				}
			}
		})
	}
}

func TestErrorsOfMappings(t *testing.T) {
	for spec, want := range map[string]string{
		`null`:                        "",
		`[]`:                          "a mapping with nodeName",
		`{"nodeNames": "x"}`:          "no such field",
		`{"nodeName": 5}`:             "a text is accepted",
		`{"nodeSelector": {"a": 1}}`:  "a mapping of labels",
		`{"priority": "high"}`:        "a whole number",
		`{"config": "rawDevices=sd"}`: "a mapping of settings",
	} {
		_, err := ParseMapping("m", []byte(spec))
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "VirtletConfigMapping kube-system/m")) {
			t.Errorf("%s: %v", spec, err)
		}
	}
}

func TestFollow(t *testing.T) {
	before := mustLoad(t, "run-dir: /r", nil)
	next := mustLoad(t, "run-dir: /other\nlog-level: debug\nraw-devices: sd*", nil)
	now := before.Follow(next)
	if now.RunDir != "/r" || now.LogLevel != "debug" || now.RawDevices != "sd*" || now.CRISocket != "/r/cri.sock" {
		t.Errorf("%+v", now)
	}
	var pending []string
	for _, v := range now.Pending() {
		pending = append(pending, v.Name+"="+v.Value)
	}
	if want := []string{"run-dir=/other", "cri-socket=/other/cri.sock", "api-socket=/other/api.sock", "objects-dir=/other/objects"}; !slices.Equal(pending, want) {
		t.Errorf("pending %q", pending)
	}
	var changed []string
	for _, v := range now.Changed(before) {
		changed = append(changed, v.Name)
	}
	if !slices.Equal(changed, []string{"raw-devices", "log-level"}) || before.LogLevel != "info" {
		t.Errorf("changed %q", changed)
	}
	if back := now.Follow(before); len(back.Pending()) != 0 || back.LogLevel != "info" {
		t.Errorf("back: %v", back.Pending())
	}
}

func TestCheck(t *testing.T) {
	for name, test := range map[string]struct{ text, warning, err string }{
		"file":         {text: "accel: tcg"},
		"empty":        {text: ""},
		"bad file":     {text: "accel: hvf", err: "f.yaml: accel: hvf"},
		"mapping":      {text: "kind: VirtletConfigMapping\nmetadata: {namespace: kube-system}\nspec: {config: {rawDevices: sd*}}"},
		"elsewhere":    {text: "kind: VirtletConfigMapping\nspec: {}", warning: "kube-system"},
		"bad mapping":  {text: "kind: VirtletConfigMapping\nmetadata: {namespace: kube-system}\nspec: {config: {x: y}}", err: "f.yaml: spec.config.x"},
		"bad spec":     {text: "kind: VirtletConfigMapping\nspec: {node: y}", err: "spec.node"},
		"config map":   {text: "kind: ConfigMap\nmetadata: {name: virtlet-config, namespace: kube-system}\ndata: {loglevel: '5'}"},
		"other map":    {text: "kind: ConfigMap\nmetadata: {name: x, namespace: kube-system}\ndata: {}", warning: "virtlet-config"},
		"no effect":    {text: "kind: ConfigMap\nmetadata: {name: virtlet-config, namespace: kube-system}\ndata: {calico-subnet: '24'}", warning: "has no effect"},
		"another kind": {text: "kind: Pod", err: `kind "Pod"`},
		"twice":        {text: "kind: ConfigMap\ndata: {a: b, a: c}", err: "f.yaml"},
	} {
		warnings, err := Check("f.yaml", []byte(test.text))
		if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %v", name, err)
		}
		if got := strings.Join(warnings, "\n"); (got == "") != (test.warning == "") || !strings.Contains(got, test.warning) {
			t.Errorf("%s: warnings %q", name, got)
		}
	}
}
