package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := newRootCommand()
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func TestVersionCommand(t *testing.T) {
	out, err := run(t, "version")
	if err != nil || !strings.HasPrefix(out, "qemulet 0.") {
		t.Errorf("%q, %v", out, err)
	}
}

// The help teaches: examples, and where each setting can be given.
func TestServeHelp(t *testing.T) {
	out, err := run(t, "serve", "--help")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Examples:", "crictl --runtime-endpoint", "QEMULET_RUN_DIR", "/etc/qemulet/config.yaml", "--accel", "--cni-bin-dir"} {
		if !strings.Contains(out, want) {
			t.Errorf("the help lacks %q:\n%s", want, out)
		}
	}
}

func TestServeRefusesBadSettings(t *testing.T) {
	t.Setenv("QEMULET_ACCEL", "hvf")
	if _, err := run(t, "serve"); err == nil || !strings.Contains(err.Error(), "QEMULET_ACCEL") {
		t.Errorf("got %v", err)
	}
	if _, err := run(t, "serve", "extra"); err == nil {
		t.Error("an argument is ignored")
	}
}

// Every command says what it is for.
func TestCommandsAreDescribed(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" {
			t.Errorf("%s has no description", c.CommandPath())
		}
		if c.Long == "" || c.Runnable() && !c.Hidden && c.Example == "" && c.Name() != "version" {
			t.Errorf("%s: the help has no text or no examples", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRootCommand())
}
