package daemon_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/config"
	"github.com/qemulet/qemulet/internal/daemon"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// settings are those of a node of its own in a short directory.
func settings(t *testing.T) *config.Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "qd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg, err := config.Load(nil, []string{
		"QEMULET_RUN_DIR=" + dir + "/run", "QEMULET_STATE_DIR=" + dir + "/state", "QEMULET_CNI_CONF_DIR=" + dir,
		"QEMULET_NETNS_DIR=" + dir + "/netns", "QEMULET_QEMU_BINARY=" + dir + "/no-qemu", "QEMULET_ACCEL=tcg",
	})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// start runs a daemon until stop is called, which returns Run's error.
func start(t *testing.T, cfg *config.Config) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- daemon.Run(ctx, cfg, slog.New(slog.NewTextHandler(t.Output(), nil)), func() { close(ready) })
	}()
	t.Cleanup(cancel)
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("the daemon ended: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("the daemon is not ready")
	}
	return func() error { cancel(); return <-done }
}

func TestRun(t *testing.T) {
	cfg := settings(t)
	for range 2 { // a second life finds nothing in its way
		stop := start(t, cfg)
		conn, err := grpc.NewClient("unix://"+cfg.CRISocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		status, err := runtimeapi.NewRuntimeServiceClient(conn).Status(t.Context(), &runtimeapi.StatusRequest{Verbose: true})
		if err != nil {
			t.Fatal(err)
		}
		checkStatus(t, status, cfg)
		checkAPI(t, cfg)
		conn.Close()
		if err := stop(); err != nil {
			t.Error(err)
		}
		for _, socket := range []string{cfg.CRISocket, cfg.APISocket} {
			if _, err := os.Stat(socket); !os.IsNotExist(err) {
				t.Errorf("%s is left behind: %v", socket, err)
			}
		}
	}
}

// Neither QEMU nor CNI is there: both conditions say so, and the daemon runs.
func checkStatus(t *testing.T, resp *runtimeapi.StatusResponse, cfg *config.Config) {
	t.Helper()
	for _, c := range resp.Status.Conditions {
		if c.Status || c.Reason == "" || c.Message == "" {
			t.Errorf("condition %v", c)
		}
		if c.Type == "RuntimeReady" && !strings.Contains(c.Message, cfg.QEMUBinary) {
			t.Errorf("the missing binary is not named: %s", c.Message)
		}
	}
	var settings map[string]string
	if err := json.Unmarshal([]byte(resp.Info["config"]), &settings); err != nil || settings["run-dir"] != cfg.RunDir {
		t.Errorf("info: %v, %v", resp.Info, err)
	}
}

func checkAPI(t *testing.T, cfg *config.Config) {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", cfg.APISocket)
	}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("http://daemon" + api.PullsPath)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var pulls []api.Pull
	if err := json.NewDecoder(resp.Body).Decode(&pulls); err != nil || len(pulls) != 0 {
		t.Errorf("%v, %v", pulls, err)
	}
}

func refused(cfg *config.Config) error {
	return daemon.Run(context.Background(), cfg, slog.New(slog.DiscardHandler), func() { panic("it must not be ready") })
}

func TestSecondDaemonIsRefused(t *testing.T) {
	cfg := settings(t)
	stop := start(t, cfg)
	if err := refused(cfg); !errdefs.IsAlreadyExists(err) || !strings.Contains(err.Error(), cfg.StateDir) {
		t.Errorf("with the same state directory: %v", err)
	}
	other := settings(t)
	other.CRISocket = cfg.CRISocket
	if err := refused(other); !errdefs.IsAlreadyExists(err) || !strings.Contains(err.Error(), cfg.CRISocket) {
		t.Errorf("with the same socket: %v", err)
	}
	if _, err := os.Stat(other.APISocket); !os.IsNotExist(err) {
		t.Errorf("the refused daemon left a socket: %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestBadSettings(t *testing.T) {
	for name, change := range map[string]func(*config.Config, string){
		"state-dir":   func(c *config.Config, file string) { c.StateDir = file },
		"run-dir":     func(c *config.Config, file string) { c.RunDir = file },
		"raw-devices": func(c *config.Config, _ string) { c.RawDevices = "loop[" },
		"107":         func(c *config.Config, _ string) { c.CRISocket = filepath.Join(c.RunDir, strings.Repeat("x", 107)) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := settings(t)
			file := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			change(cfg, file)
			if err := refused(cfg); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v", err)
			}
		})
	}
}
