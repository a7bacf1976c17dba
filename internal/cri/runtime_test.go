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

// kubelet takes Unimplemented for "this runtime has none", and any other error
// for a failure of its own.
func TestUnimplemented(t *testing.T) {
	h := newHarness(t)
	id := h.container(t, h.sandbox(t, "a"), "vm")
	for name, call := range map[string]func() error{
		"ExecSync": func() error {
			_, err := h.ExecSync(h.ctx, &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"true"}})
			return err
		},
		"Exec": func() error {
			_, err := h.Exec(h.ctx, &runtimeapi.ExecRequest{ContainerId: id, Cmd: []string{"true"}, Stdout: true})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, call(), codes.Unimplemented) })
	}
}
