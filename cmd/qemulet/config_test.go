package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// settings runs a command of `qemulet config` and returns all it said.
func runConfig(t *testing.T, input string, args ...string) (out, log string, err error) {
	t.Helper()
	cmd := newRootCommand()
	var o, l bytes.Buffer
	cmd.SetIn(strings.NewReader(input))
	cmd.SetOut(&o)
	cmd.SetErr(&l)
	cmd.SetArgs(append([]string{"config"}, args...))
	err = cmd.ExecuteContext(t.Context())
	return o.String(), l.String(), err
}

func TestConfigDump(t *testing.T) {
	t.Setenv("QEMULET_CONFIG", filepath.Join(t.TempDir(), "config.yaml"))
	if err := os.WriteFile(os.Getenv("QEMULET_CONFIG"), []byte("raw-devices: foobar*\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("VIRTLET_LOGLEVEL", "5")
	t.Setenv("VIRTLET_SRIOV_SUPPORT", "1")
	for format, want := range map[string]string{
		"text":  "raw-devices               foobar*",
		"yaml":  "- name: raw-devices\n  origin: the file ",
		"shell": "\nexport VIRTLET_RAW_DEVICES=foobar\\*\n",
		"json":  `"value": "foobar*"`,
	} {
		out, log, err := runConfig(t, "", "dump", "-o", format, "--accel", "tcg")
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v, no %q in\n%s", format, err, want, out)
		}
		if !strings.Contains(log, "VIRTLET_SRIOV_SUPPORT has no effect") {
			t.Errorf("%s: log %s", format, log)
		}
	}
	out, _, _ := runConfig(t, "", "dump", "-o", "json", "--accel", "tcg")
	var d dump
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		t.Fatal(err)
	}
	origins := map[string]string{}
	for _, v := range d.Values {
		origins[v.Name] = v.Value + " of " + string(v.Origin)
	}
	for name, want := range map[string]string{
		"accel": "tcg of the flag --accel", "log-level": "debug of the environment (VIRTLET_LOGLEVEL)", "log-format": "text of default",
	} {
		if origins[name] != want {
			t.Errorf("%s: %q", name, origins[name])
		}
	}
	if _, _, err := runConfig(t, "", "dump", "-o", "xml"); err == nil || !strings.Contains(err.Error(), "text, json, yaml and shell") {
		t.Errorf("got %v", err)
	}
}

func TestConfigCheck(t *testing.T) {
	if out, _, err := runConfig(t, "accel: tcg\n", "check", "-"); err != nil || out != "standard input: understood\n" {
		t.Errorf("%q, %v", out, err)
	}
	_, log, err := runConfig(t, "kind: VirtletConfigMapping\nspec: {config: {libvirtURI: x, accel: hvf}}\n", "check", "-")
	if err == nil || !strings.Contains(err.Error(), "auto, kvm, tcg") || !strings.Contains(log, "only those in the namespace kube-system") {
		t.Errorf("%q, %v", log, err)
	}
	if _, _, err := runConfig(t, "", "check", "/does/not/exist"); err == nil {
		t.Error("no error")
	}
}

func TestShellQuote(t *testing.T) {
	for text, want := range map[string]string{"": "''", "/a/b-c_1": "/a/b-c_1", "foobar*": `foobar\*`, "a b'c": `a\ b\'c`, "a\nb": "'a\nb'", "é": `\é`} {
		if got := shellQuote(text); got != want {
			t.Errorf("%q: %s", text, got)
		}
	}
}
