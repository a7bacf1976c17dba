package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func validated(t *testing.T, manifest string, args ...string) (string, error) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	var out bytes.Buffer
	root := newRootCommand()
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetIn(strings.NewReader(manifest))
	root.SetArgs(append([]string{"validate", "--accel=tcg", "-"}, args...))
	err := root.ExecuteContext(t.Context())
	if left, _ := os.ReadDir(os.Getenv("TMPDIR")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	return out.String(), err
}

func example(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("../../examples", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func mentions(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is missing in\n%s", w, text)
		}
	}
}

// Nothing is wrong with the examples, wherever one looks at them.
func TestValidateExamples(t *testing.T) {
	files, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			text := strings.ReplaceAll(example(t, name), "/dev/loop0", "/dev/loop-none")
			out, err := validated(t, text, "-o", "json")
			var r report
			if jsonErr := json.Unmarshal([]byte(out), &r); jsonErr != nil {
				t.Fatalf("%v: %s", jsonErr, out)
			}
			if name == "raw-volume" { // whose device is nowhere
				mentions(t, strings.Join(r.Problems, "\n"), "/dev/loop-none")
				return
			}
			if err != nil || len(r.Problems) > 0 || r.VM == nil || len(r.Args) == 0 || len(r.Seed) == 0 {
				t.Errorf("%v, %s", err, out)
			}
		})
	}
}

func TestValidateShowsTheMachine(t *testing.T) {
	out, err := validated(t, example(t, "statefulset"))
	if err != nil {
		t.Error(err)
	}
	mentions(t, out, "pod default/cluster-0 is a virtual machine with the host name cluster-0\n", "virtlet.cloud/ubuntu", "pc-q35-", "2, the node's default model",
		"512 MiB", "/dev/sda", "4096 MiB", "/dev/sdb", "/dev/cluster-data", "volume data: PersistentVolume cluster-disk-0, /dev/cluster/disk0", "/dev/sr0",
		"cloud-init: meta-data", `"local-hostname":"cluster-0"`, "fqdn: cluster-0.cluster.default.svc.cluster.local", "cloud-init: user-data", "/usr/local/bin/join",
		"\n    -device '{\"driver\":\"virtio-net-pci\"", "CNI makes one interface", "StatefulSet cluster: the pod of its template is run", "nothing is wrong with it\n")

	out, err = validated(t, example(t, "cpu"))
	if err != nil {
		t.Error(err)
	}
	mentions(t, out, "2, Westmere", "at most 150% of a processor, 512 shares", "-cpu Westmere")

	out, err = validated(t, example(t, "shared-directories"))
	if err != nil {
		t.Error(err)
	}
	mentions(t, out, "/reference (read-only)", "volume data: PersistentVolume shared-vm-data, hostPath /srv/data, its shared-vm", "volume scratch: emptyDir")
}

func TestValidateShowsNoSecrets(t *testing.T) {
	const password = "correct horse battery staple"
	for _, format := range []string{"text", "json"} {
		out, err := validated(t, example(t, "config"), "-o", format)
		if err != nil {
			t.Error(err)
		}
		mentions(t, out, "DATABASE_PASSWORD", "/etc/app-credentials/password", "(secret)", "Ask the person on duty")
		for _, secret := range []string{password, base64.StdEncoding.EncodeToString([]byte(password)), "operator@example.org"} {
			if strings.Contains(out, secret) {
				t.Errorf("%s is shown as %s", secret, format)
			}
		}
	}
	// What cannot be made of masked values is not shown at all.
	text := strings.Replace(example(t, "config"), "configmap/config-vm-user-data", "secret/script\n    VirtletCloudInitUserDataSourceKey: script\n    VirtletCloudInitUserDataSourceEncoding: base64", 1) +
		"---\napiVersion: v1\nkind: Secret\nmetadata: {name: script}\nstringData: {script: " + base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\necho hidden\n")) + "}\n"
	out, err := validated(t, text)
	if err != nil {
		t.Error(err)
	}
	mentions(t, out, "the cloud-init documents are made of Secrets and cannot be shown without them")
	if strings.Contains(out, "hidden") {
		t.Error("the script is shown")
	}
}

// All that is wrong is said at once, of whichever kind it is.
func TestValidateFindsEverything(t *testing.T) {
	text := example(t, "config")
	for from, to := range map[string]string{
		"VirtletSSHKeySource: ": "VirtletDiskDriver: ide\n    VirtletVCPUCount: many\n    VirtletSSHKeySource: ",
		"defaultMode: 0400":     "defaultMod: 0400",
		"name: STAGE":           "name: STAGE\n          valueFrom: {secretKeyRef: {name: gone, key: k}}",
		"mountPath: /etc/app\n": "mountPath: /etc/app.conf\n",
		"memory: 512Mi":         "memory: 1Mi",
	} {
		if !strings.Contains(text, from) {
			t.Fatalf("the example has no %q", from)
		}
		text = strings.Replace(text, from, to, 1)
	}
	out, err := validated(t, text)
	var code exitCode
	if !errors.As(err, &code) || code != 1 {
		t.Errorf("%v", err)
	}
	mentions(t, out, "problems (", `VirtletDiskDriver = "ide"`, `VirtletVCPUCount = "many"`, `unknown field "spec.volumes[1].secret.defaultMod"`,
		`Secret "gone" is not in the file`, `mountPath "/etc/app.conf" stands there twice`)

	out, err = validated(t, strings.Replace(example(t, "cpu"), "value: Westmere", "value: Z80", 1))
	if err == nil {
		t.Error("a processor that nobody has is fine")
	}
	mentions(t, out, "VirtletLibvirtCPUSetting Model.Value", "Z80")
	out, err = validated(t, strings.Replace(example(t, "cpu"), "memory: 160Mi", "memory: 1Mi", 1))
	if err == nil {
		t.Error("1 MiB is fine")
	}
	mentions(t, out, "resources.limits.memory")
	if out, err = validated(t, "kind: Pod"); err == nil || !strings.Contains(out, "problems (1):") {
		t.Errorf("%v, %s", err, out)
	}
}

func TestValidateWithoutQEMU(t *testing.T) {
	out, err := validated(t, example(t, "cirros-vm"), "--qemu-binary=/nonexistent/qemu")
	if err != nil {
		t.Error(err)
	}
	mentions(t, out, "what a QEMU can do was not checked, and there is no command line", "/nonexistent/qemu", "1024 MiB", "nothing is wrong with it")
}

func TestValidateRefuses(t *testing.T) {
	if _, err := validated(t, "", "-o", "xml"); err == nil || !strings.Contains(err.Error(), `--output "xml": accepted are text and json`) {
		t.Errorf("%v", err)
	}
	if _, err := run(t, "validate"); err == nil || !strings.Contains(err.Error(), "takes one argument") {
		t.Errorf("%v", err)
	}
	if _, err := run(t, "validate", "/none/such.yaml"); err == nil {
		t.Error("a file that is not there is fine")
	}
	out, _ := run(t, "validate", "--help")
	mentions(t, out, "Examples:", "-o json", "exit code")
}
