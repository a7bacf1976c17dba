package vmpod

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// settingsOf parses one annotation.
func settingsOf(name, value string) (Settings, error) {
	pod, err := ParseSandbox(sandbox(map[string]string{name: value}))
	if err != nil {
		return Settings{}, err
	}
	return pod.Settings, nil
}

// accept is the table of what each annotation does to the settings.
func TestAccepted(t *testing.T) {
	for _, c := range []struct {
		name, value string
		change      func(s *Settings)
	}{
		{"VirtletVCPUCount", "4", func(s *Settings) { s.VCPUs = 4 }},
		{"VirtletVCPUCount", "+4", func(s *Settings) { s.VCPUs = 4 }},
		{"VirtletVCPUCount", "007", func(s *Settings) { s.VCPUs = 7 }},
		{"VirtletVCPUCount", "255", func(s *Settings) { s.VCPUs = 255 }},
		{"VirtletVCPUCount", "0", func(*Settings) {}},
		{"VirtletVCPUCount", "-3", func(*Settings) {}},
		{"VirtletVCPUCount", "-99999999999999999999", func(*Settings) {}},
		{"VirtletCPUModel", "", func(*Settings) {}},
		{"VirtletCPUModel", "host-model", func(s *Settings) { s.CPUModel = "host-model" }},
		{"VirtletLibvirtCPUSetting", "", func(s *Settings) { s.CPU = &CPUSetting{} }},
		{"VirtletLibvirtCPUSetting", "mode: host-model", func(s *Settings) { s.CPU = &CPUSetting{Mode: "host-model"} }},
		{"VirtletDiskDriver", "", func(*Settings) {}},
		{"VirtletDiskDriver", "scsi", func(*Settings) {}},
		{"VirtletDiskDriver", "virtio", func(s *Settings) { s.DiskDriver = DiskVirtio }},
		{"VirtletRootVolumeSize", "4Gi", func(s *Settings) { s.RootVolumeSize = 4 << 30 }},
		{"VirtletRootVolumeSize", "4000M", func(s *Settings) { s.RootVolumeSize = 4000000000 }},
		{"VirtletRootVolumeSize", "1.5G", func(s *Settings) { s.RootVolumeSize = 1500000000 }},
		{"VirtletRootVolumeSize", "1.5Gi", func(s *Settings) { s.RootVolumeSize = 3 << 29 }},
		{"VirtletRootVolumeSize", "1e9", func(s *Settings) { s.RootVolumeSize = 1000000000 }},
		{"VirtletRootVolumeSize", "4294967296", func(s *Settings) { s.RootVolumeSize = 4 << 30 }},
		{"VirtletRootVolumeSize", "100Ti", func(s *Settings) { s.RootVolumeSize = 100 << 40 }},
		{"VirtletRootVolumeSize", "2Pi", func(s *Settings) { s.RootVolumeSize = 2 << 50 }},
		{"VirtletRootVolumeSize", "1000m", func(s *Settings) { s.RootVolumeSize = 1 }},
		{"VirtletRootVolumeSize", "0", func(*Settings) {}},
		{"VirtletRootVolumeSize", "-1", func(*Settings) {}},
		{"VirtletRootVolumeSize", "-5Gi", func(*Settings) {}},
		{"VirtletCloudInitImageType", "", func(*Settings) {}},
		{"VirtletCloudInitImageType", "NoCloud", func(*Settings) {}},
		{"VirtletCloudInitImageType", "CONFIGDRIVE", func(s *Settings) { s.CloudInit.ImageType = ConfigDrive }},
		{"VirtletCloudInitMetaData", "", func(*Settings) {}},
		{"VirtletCloudInitMetaData", "null", func(*Settings) {}},
		{"VirtletCloudInitMetaData", "{}", func(s *Settings) { s.CloudInit.MetaData = map[string]any{} }},
		{"VirtletCloudInitMetaData", "a: 1\nb: [x]", func(s *Settings) {
			s.CloudInit.MetaData = map[string]any{"a": json.Number("1"), "b": []any{"x"}}
		}},
		{"VirtletCloudInitUserData", "#cloud-config\nid: 12345678901234567890\nmode: 0644\nyes: 1.50\n", func(s *Settings) {
			s.CloudInit.UserData = map[string]any{"id": json.Number("12345678901234567890"), "mode": json.Number("420"), "true": json.Number("1.5")}
		}},
		{"VirtletCloudInitUserData", `{"a": {"b": null}}`, func(s *Settings) {
			s.CloudInit.UserData = map[string]any{"a": map[string]any{"b": nil}}
		}},
		{"VirtletCloudInitUserDataScript", "#!/bin/sh\n", func(s *Settings) { s.CloudInit.UserDataScript = "#!/bin/sh\n" }},
		{"VirtletCloudInitUserDataScript", "", func(*Settings) {}},
		{"VirtletSSHKeys", " ssh-rsa A a\r\n\n# note\nssh-rsa B b", func(s *Settings) {
			s.CloudInit.SSHKeys = []string{"ssh-rsa A a", "# note", "ssh-rsa B b"}
		}},
		{"VirtletSSHKeys", "", func(s *Settings) { s.CloudInit.SSHKeys = []string{} }},
		{"VirtletCloudInitUserData", "", func(s *Settings) { s.CloudInit.UserData = map[string]any{} }},
		{"VirtletForceDHCPNetworkConfig", "true", func(s *Settings) { s.CloudInit.ForceDHCP = true }},
		{"VirtletForceDHCPNetworkConfig", "True", func(*Settings) {}},
		{"VirtletForceDHCPNetworkConfig", " true", func(*Settings) {}},
		{"VirtletForceDHCPNetworkConfig", "1", func(*Settings) {}},
		{"VirtletSystemUUID", "53008994-44c0-4017-ad44-9c49758083da", func(s *Settings) { s.SystemUUID = "53008994-44c0-4017-ad44-9c49758083da" }},
		{"VirtletSystemUUID", "53008994-44C0-4017-AD44-9C49758083DA", func(s *Settings) { s.SystemUUID = "53008994-44c0-4017-ad44-9c49758083da" }},
		{"VirtletSystemUUID", "urn:uuid:{53008994-44c0-1017-ad44-9c49758083da", func(s *Settings) { s.SystemUUID = "53008994-44c0-1017-ad44-9c49758083da" }},
		{"VirtletCloudInitUserDataOverwrite", "true", func(s *Settings) { s.Sources.Overwrite = true }},
		{"VirtletCloudInitUserDataOverwrite", "yes", func(*Settings) {}},
		{"VirtletCloudInitUserDataSource", "", func(*Settings) {}},
		{"VirtletChown9pfsMounts", "true", func(s *Settings) { s.ChownShares = true }},
		{"VirtletChown9pfsMounts", "True", func(*Settings) {}},
		{"VirtletCloudInitUserDataSource", "ConfigMap/a.b", func(s *Settings) {
			s.Sources.UserData = &Ref{Object: Object{ConfigMap, "a.b"}, Annotation: "VirtletCloudInitUserDataSource", Value: "ConfigMap/a.b"}
		}},
		{"VirtletCloudInitUserDataSourceKey", "k", func(s *Settings) { s.Sources.UserDataKey = new("k") }},
		{"VirtletCloudInitUserDataSourceKey", "", func(s *Settings) { s.Sources.UserDataKey = new("") }},
		{"VirtletCloudInitUserDataSourceEncoding", "base64", func(s *Settings) { s.Sources.UserDataEncoding = Base64 }},
		{"VirtletCloudInitUserDataSourceEncoding", "rot13", func(s *Settings) { s.Sources.UserDataEncoding = "rot13" }}, // no key: no matter
		{"VirtletSSHKeySource", "secret/x", func(s *Settings) {
			s.Sources.SSHKeys = &Ref{Object: Object{Secret, "x"}, Annotation: "VirtletSSHKeySource", Value: "secret/x", Key: "authorized_keys"}
		}},
		{"VirtletSSHKeySource", "SECRET/x/k", func(s *Settings) {
			s.Sources.SSHKeys = &Ref{Object: Object{Secret, "x"}, Annotation: "VirtletSSHKeySource", Value: "SECRET/x/k", Key: "k"}
		}},
		{"VirtletSSHKeySource", "configmap/x/", func(s *Settings) {
			s.Sources.SSHKeys = &Ref{Object: Object{ConfigMap, "x"}, Annotation: "VirtletSSHKeySource", Value: "configmap/x/"}
		}},
		{"VirtletFilesFromDataSource", "secret/x", func(s *Settings) {
			s.Sources.Files = &Ref{Object: Object{Secret, "x"}, Annotation: "VirtletFilesFromDataSource", Value: "secret/x"}
		}},
	} {
		want := defaultSettings()
		c.change(&want)
		if got, err := settingsOf(c.name, c.value); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s = %q: got %+v, %v\nwant %+v", c.name, c.value, got, err, want)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, values := range map[string]map[string]string{
		"VirtletVCPUCount":               {"": "error parsing", "2.0": "error parsing", " 2": "error parsing", "x": "error parsing", "256": "max is 255", "99999999999999999999": "max is 255"},
		"VirtletCPUModel":                {"Host-Model": "unknown cpu model", "host-passthrough": "unknown cpu model"},
		"VirtletDiskDriver":              {"SCSI": "bad disk driver", " scsi": "bad disk driver", "ide": "bad disk driver"},
		"VirtletRootVolumeSize":          {"": "error parsing", "4 Gi": "error parsing", "4GB": "error parsing", "0.5": "bad root volume size", "500m": "bad root volume size", "3Pi": "too big", "9E": "too big", "1e999999999": "error parsing", "1e99": "too big", "1..5": "error parsing", "1n": "bad root volume size"},
		"VirtletCloudInitImageType":      {"cdrom": "unknown config image type", "nocloud ": "unknown config image type"},
		"VirtletCloudInitMetaData":       {"[a]": "it is a list", "a": "it is a single value", "{": "line 1", "a: b: c": "mapping values are not allowed", "x: 1\n\ny: [": "line 3"},
		"VirtletCloudInitUserData":       {"[a]": "it is a list", "7": "it is a single value", "\t": "found character that cannot start any token", "a: .inf": "cannot be read as YAML", "? [x]\n: y": "cannot be read as YAML"},
		"VirtletSystemUUID":              {"": "failed to parse", "53008994-44c0-7017-ad44-9c49758083da": "failed to parse", "00000000-0000-0000-0000-000000000000": "failed to parse", "53008994-44c0-4017-ad44-9c49758083dg": "failed to parse", " 53008994-44c0-4017-ad44-9c49758083da": "failed to parse"},
		"VirtletLibvirtCPUSetting":       {"- a": "it is a list", "7": "it is a single value", "{": "line 1"},
		"VirtletCloudInitUserDataSource": {"configmap": "not a kind and a name", "configmap/": "not a kind and a name", "configmap/a/b": "not a kind and a name", "pod/x": `unknown kind "pod"`, "/x": `unknown kind ""`, " secret/x": "unknown kind"},
		"VirtletSSHKeySource":            {"": "not a kind and a name", "secret": "not a kind and a name", "secret//k": "not a kind and a name", "secret/a/b/c": "too many parts", "secret/a/b/": "too many parts", "node/a/b": "unknown kind"},
		"VirtletFilesFromDataSource":     {"": "not a kind and a name", "secret": "not a kind and a name", "secret/a/b": "not a kind and a name", "x/y": "unknown kind"},
	} {
		for value, want := range values {
			_, err := settingsOf(name, value)
			if problems := mustFail(t, err); len(problems) != 1 || problems[0].Field != name || !problems[0].Annotation || !strings.Contains(problems[0].Reason, want) {
				t.Errorf("%s = %q: got %v, want %q", name, value, err, want)
			}
			if strings.Count(err.Error(), "\n") != 1 {
				t.Errorf("%s = %q: not one line: %v", name, value, err)
			}
		}
	}
}

// What may be a secret does not reach an error.
func TestSecretsStaySecret(t *testing.T) {
	for _, name := range []string{"VirtletCloudInitMetaData", "VirtletCloudInitUserData"} {
		for _, text := range []string{"hunter2", "[hunter2]", "a: hunter2: b", "{hunter2", "&a [*a, hunter2]", "? {hunter2: 1}\n: 2", "hunter2: !!binary x", "- hunter2\na: b", "%hunter2", "a: !!int hunter2", "a: 'hunter2", "a: \"\\hunter2\"", "1.5: hunter2\n? [hunter2]\n: 1"} {
			if _, err := settingsOf(name, text); err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s = %q: %v", name, text, err)
			}
		}
	}
}

func TestLongValueIsShortened(t *testing.T) {
	_, err := settingsOf("VirtletDiskDriver", strings.Repeat("ü", 1000))
	if len(err.Error()) > 400 {
		t.Errorf("%d bytes: %v", len(err.Error()), err)
	}
}

// The count is Atoi's, for any text.
func TestVCPUCountIsAtoi(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(rapid.StringMatching(`[+-]?[0-9_ ]{0,4}`), rapid.String()).Draw(t, "value")
		var s Settings
		err := setVCPUCount(&s, value)
		n, atoi := strconv.Atoi(value)
		switch {
		case atoi == nil && n <= 255:
			if err != nil || s.VCPUs != max(n, 1) {
				t.Fatalf("got %d, %v", s.VCPUs, err)
			}
		case err == nil && s.VCPUs != 1:
			t.Fatalf("accepted as %d", s.VCPUs)
		}
	})
}

func FuzzAnnotations(f *testing.F) {
	for _, a := range annotations() {
		f.Add(a.name, "")
		f.Add(a.name, "true")
		f.Add(a.name, "1.5Gi")
		f.Add(a.name, "a: [1, {b: c}]")
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		s, err := settingsOf(name, value)
		if err != nil {
			mustFail(t, err)
			return
		}
		if s.VCPUs < 1 || s.VCPUs > 255 || s.RootVolumeSize < 0 || s.RootVolumeSize > maxRootVolumeSize {
			t.Fatalf("accepted: %+v", s)
		}
		if _, err := json.Marshal(s.CloudInit.UserData); err != nil {
			t.Fatalf("user-data has no JSON: %v", err)
		}
	})
}

func FuzzRootVolumeSize(f *testing.F) {
	for _, s := range []string{"4Gi", "1e9", "1.5G", "-1", "0.5", "1e-9", "99999999999999999999", "1E", "1Ei", "12e6", "+1k"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		n, err := wholeBytes(value)
		if plain, atoi := strconv.ParseInt(value, 10, 64); atoi == nil && len(value) < 18 && (err != nil || n != plain) {
			t.Fatalf("%q: got %d, %v", value, n, err)
		}
	})
}

// What people are shown of annotations has no value that may be secret.
func TestShown(t *testing.T) {
	got := Shown(map[string]string{
		"VirtletDiskDriver": "virtio", "VirtletCloudInitUserData": "password: hunter2", "VirtletSSHKeys": "ssh-rsa hunter2",
		"kubectl.kubernetes.io/last-applied-configuration": "hunter2",
	})
	want := map[string]string{"VirtletDiskDriver": "virtio", "VirtletCloudInitUserData": NotShown, "VirtletSSHKeys": NotShown}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}
