package cri_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	healthapi "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestVersion(t *testing.T) {
	h := newHarness(t)
	got, err := h.Version(h.ctx, &runtimeapi.VersionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := &runtimeapi.VersionResponse{Version: "0.1.0", RuntimeName: "qemulet", RuntimeVersion: "0.1.0-dev", RuntimeApiVersion: "v1"}
	if !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestStatus(t *testing.T) {
	h := newHarness(t)
	for _, verbose := range []bool{false, true} {
		got, err := h.Status(h.ctx, &runtimeapi.StatusRequest{Verbose: verbose})
		if err != nil {
			t.Fatal(err)
		}
		conditions := map[string]*runtimeapi.RuntimeCondition{}
		for _, c := range got.Status.Conditions {
			conditions[c.Type] = c
		}
		if c := conditions["RuntimeReady"]; !c.GetStatus() {
			t.Errorf("RuntimeReady is %v", c)
		}
		if c := conditions["NetworkReady"]; c.GetStatus() || c.GetReason() != "CNINotReady" || c.GetMessage() == "" {
			t.Errorf("NetworkReady is %v", c)
		}
		if (len(got.Info) > 0) != verbose {
			t.Errorf("verbose %v: info is %v", verbose, got.Info)
		}
		if len(got.RuntimeHandlers) != 2 || got.RuntimeHandlers[0].Name != "" || got.RuntimeHandlers[1].Name != "qemulet" {
			t.Errorf("handlers are %v", got.RuntimeHandlers)
		}
		for _, handler := range got.RuntimeHandlers {
			if f := handler.Features; f == nil || f.RecursiveReadOnlyMounts || f.UserNamespaces {
				t.Errorf("handler %q advertises %v", handler.Name, f)
			}
		}
	}
}

func TestRuntimeConfig(t *testing.T) {
	h := newHarness(t)
	got, err := h.RuntimeConfig(h.ctx, &runtimeapi.RuntimeConfigRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got.GetLinux().GetCgroupDriver() != runtimeapi.CgroupDriver_CGROUPFS || got.Linux == nil {
		t.Errorf("got %v", got)
	}
	_, err = h.UpdateRuntimeConfig(h.ctx, &runtimeapi.UpdateRuntimeConfigRequest{
		RuntimeConfig: &runtimeapi.RuntimeConfig{NetworkConfig: &runtimeapi.NetworkConfig{PodCidr: "10.0.0.0/24"}},
	})
	wantCode(t, err, codes.OK)
}

func TestHealth(t *testing.T) {
	h := newHarness(t)
	got, err := healthapi.NewHealthClient(h.conn).Check(h.ctx, &healthapi.HealthCheckRequest{})
	if err != nil || got.Status != healthapi.HealthCheckResponse_SERVING {
		t.Errorf("got %v, %v", got, err)
	}
}

// A probe of a guest that boots has no result. A hook, which has no limit, waits.
func TestExecSyncWaitsForTheAgent(t *testing.T) {
	h := newHarness(t)
	h.runtime.Boots = make(chan struct{})
	id := h.container(t, h.sandbox(t, "a"), "vm")
	_, err := h.ExecSync(h.ctx, &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"true"}, Timeout: 1})
	wantCode(t, err, codes.Unavailable)
	hooked := make(chan error, 1)
	go func() {
		_, err := h.ExecSync(h.ctx, &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"true"}})
		hooked <- err
	}()
	close(h.runtime.Boots)
	if err := <-hooked; err != nil {
		t.Error(err)
	}
}

// What cannot be known is an error, and what took too long is a failed probe:
// neither is an exit code.
func TestExecSync(t *testing.T) {
	h := newHarness(t)
	id := h.container(t, h.sandbox(t, "a"), "vm")
	exec := func(timeout int64, cmd ...string) (*runtimeapi.ExecSyncResponse, error) {
		return h.ExecSync(h.ctx, &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: cmd, Timeout: timeout})
	}
	got, err := exec(0, "echo", "one")
	if err != nil || got.ExitCode != 0 || string(got.Stdout) != "echo one" || string(got.Stderr) != "said" {
		t.Errorf("%v, %v", got, err)
	}
	if got, err = exec(0, "false"); err != nil || got.ExitCode != 1 {
		t.Errorf("%v, %v", got, err)
	}
	_, err = exec(0, "agentless")
	wantCode(t, err, codes.Unavailable)
	_, err = exec(1, "sleep")
	wantCode(t, err, codes.DeadlineExceeded)
	_, err = h.ExecSync(h.ctx, &runtimeapi.ExecSyncRequest{ContainerId: "ff", Cmd: []string{"x"}})
	wantCode(t, err, codes.NotFound)
	_, err = h.Exec(h.ctx, &runtimeapi.ExecRequest{ContainerId: id, Cmd: []string{"sh"}, Tty: true, Stdout: true})
	wantCode(t, err, codes.InvalidArgument)
	url, err := h.Exec(h.ctx, &runtimeapi.ExecRequest{ContainerId: id, Cmd: []string{"true"}, Stdout: true})
	if err != nil || url.Url == "" {
		t.Errorf("%v, %v", url, err)
	}
}
