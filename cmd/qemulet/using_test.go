package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/qemulet/qemulet/internal/config"
)

func settings(t *testing.T) *config.Config {
	t.Helper()
	dir := t.TempDir()
	cfg, err := config.Load(nil, []string{"QEMULET_STATE_DIR=" + dir + "/state", "QEMULET_RUN_DIR=" + dir + "/run", "QEMULET_CNI_CONF_DIR=" + dir + "/net.d", "QEMULET_ACCEL=tcg"})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// The marker is removed by the last of its users only.
func TestMarker(t *testing.T) {
	cfg := settings(t)
	if m, err := findMarker(cfg.StateDir); m != nil || err != nil {
		t.Fatalf("found %v, %v", m, err)
	}
	first, err := mark(cfg)
	if err != nil {
		t.Fatal(err)
	}
	got, err := first.settings()
	if err != nil || got["accel"] != "tcg" || got["state-dir"] != cfg.StateDir || got["cri-socket"] != cfg.CRISocket {
		t.Errorf("settings %v, %v", got, err)
	}
	second, err := findMarker(cfg.StateDir)
	if err != nil || second == nil {
		t.Fatalf("found %v, %v", second, err)
	}
	if first.alone() {
		t.Error("the first is alone")
	}
	if err := first.release(); err != nil {
		t.Error(err)
	}
	if !second.alone() {
		t.Error("the second is not alone")
	}
	if err := second.remove(); err != nil {
		t.Error(err)
	}
	if m, err := findMarker(cfg.StateDir); m != nil || err != nil {
		t.Errorf("found %v, %v", m, err)
	}
}

func TestChooseNetwork(t *testing.T) {
	cfg := settings(t)
	asked := cfg.CNIConfDir
	var said bytes.Buffer
	if err := chooseNetwork(cfg, &said); err != nil || cfg.CNIConfDir == asked || !strings.Contains(said.String(), asked) {
		t.Errorf("%v, %s, %q", err, cfg.CNIConfDir, said.String())
	}
	if err := os.MkdirAll(asked, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(asked, "10.conflist"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	cfg.CNIConfDir = asked
	if err := chooseNetwork(cfg, &said); err != nil || cfg.CNIConfDir != asked {
		t.Errorf("%v, %s", err, cfg.CNIConfDir)
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A terminal that is closed sends several hangups; they ask once.
func TestWishes(t *testing.T) {
	ctx, w := hearWishes(t.Context())
	for range 3 {
		w.signals <- syscall.SIGHUP
	}
	<-w.end
	if closed(ctx.Done()) {
		t.Error("hangups force the end")
	}
	w.signals <- syscall.SIGINT
	<-ctx.Done()
	w.stop()

	ctx, w = hearWishes(t.Context())
	if closed(w.end) || closed(ctx.Done()) {
		t.Error("nobody asked")
	}
	w.stop()
	if !closed(ctx.Done()) {
		t.Error("the context outlives its owner")
	}
}

func TestNoDaemonIsSaid(t *testing.T) {
	cfg := settings(t)
	for _, args := range [][]string{{"ps"}, {"attach", "x"}, {"logs", "x"}, {"stop", "x"}, {"rm", "x"}} {
		_, err := run(t, append(args, "--run-dir="+cfg.RunDir, "--state-dir="+cfg.StateDir)...)
		if err == nil || !strings.Contains(err.Error(), "no daemon listens on "+cfg.CRISocket) {
			t.Errorf("%v: %v", args, err)
		}
	}
	if _, err := os.Stat(cfg.StateDir); err == nil {
		t.Error("looking makes directories")
	}
	if _, err := run(t, "stop", "--time=-1s", "x"); err == nil || !strings.Contains(err.Error(), "--time -1s") {
		t.Error("a negative time is accepted")
	}
}

func TestRunHelpTeaches(t *testing.T) {
	out, err := run(t, "run", "--help")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Examples:", "Ctrl-]", "--detach", "restartPolicy", "exit", "qemulet ps"} {
		if !strings.Contains(out, want) {
			t.Errorf("the help lacks %q:\n%s", want, out)
		}
	}
	out, _ = run(t, "ps", "--help")
	if strings.Contains(out, "--accel") || !strings.Contains(out, "--run-dir") {
		t.Errorf("the help of ps shows the wrong settings:\n%s", out)
	}
}
