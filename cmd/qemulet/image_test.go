package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestImageHelpTeaches(t *testing.T) {
	for _, command := range []string{"pull", "ls", "inspect", "rm", "gc", "resolve"} {
		out, err := run(t, "image", command, "--help")
		if err != nil || !strings.Contains(out, "Examples:\n  qemulet image "+command) {
			t.Errorf("image %s: %v\n%s", command, err, out)
		}
		if strings.Contains(out, "--qemu-user") {
			t.Errorf("image %s shows settings that are none of its business:\n%s", command, out)
		}
	}
	out, err := run(t, "image")
	if err != nil || !strings.Contains(out, "resolve") || !strings.Contains(out, "Examples:") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestImageCommandsSayWhatIsMissing(t *testing.T) {
	for _, command := range []string{"pull", "inspect", "rm", "resolve"} {
		if _, err := run(t, "image", command); err == nil || !strings.Contains(err.Error(), "qemulet image "+command) {
			t.Errorf("%s without a name: %v", command, err)
		}
	}
	for args, word := range map[string]string{
		"ls -o yaml": "text, json", "gc x": "x", "pull --username joe a": "password-stdin", "nonsense": "nonsense",
	} {
		if _, err := run(t, append([]string{"image"}, strings.Fields(args)...)...); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("image %s: %v", args, err)
		}
	}
}

// It needs no daemon, and makes nothing.
func TestResolveWithoutDaemon(t *testing.T) {
	cfg := settings(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte("translations: [{name: vm, url: https://host/vm}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("QEMULET_IMAGE_TRANSLATION_DIR", dir)
	out, err := run(t, "image", "resolve", "--run-dir="+cfg.RunDir, "--state-dir="+cfg.StateDir, "virtlet.cloud/vm")
	if err != nil || !strings.Contains(out, "https://host/vm") || !strings.Contains(out, dir+"/a.yaml") {
		t.Errorf("%v\n%s", err, out)
	}
	for _, args := range [][]string{{"ls"}, {"pull", "x"}, {"rm", "x"}, {"inspect", "x"}, {"gc"}} {
		_, err := run(t, append([]string{"image"}, append(args, "--run-dir="+cfg.RunDir, "--state-dir="+cfg.StateDir)...)...)
		if err == nil || !strings.Contains(err.Error(), "no daemon listens on "+cfg.CRISocket) {
			t.Errorf("%v: %v", args, err)
		}
	}
	if _, err := os.Stat(cfg.StateDir); err == nil {
		t.Error("looking makes directories")
	}
}

func TestImageCompletion(t *testing.T) {
	cfg := settings(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte("translations: [{name: vm, url: https://host/vm}, {name: other, url: https://host/o}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("QEMULET_IMAGE_TRANSLATION_DIR", dir)
	t.Setenv("QEMULET_RUN_DIR", cfg.RunDir)
	for _, command := range []string{"pull", "resolve"} {
		if out, _ := run(t, "__complete", "image", command, "virtlet.cloud/v"); !strings.HasPrefix(out, "virtlet.cloud/vm\n") || strings.Contains(out, "other") {
			t.Errorf("%s: %s", command, out)
		}
	}
	if out, _ := run(t, "__complete", "image", "rm", "v"); strings.Contains(out, "vm") {
		t.Errorf("without a daemon: %s", out)
	}
}
