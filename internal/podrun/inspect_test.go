package podrun

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestInspect(t *testing.T) {
	f, c := newFake(t)
	f.addPod("default", "web", "716d6c74aaaa0001")
	var out bytes.Buffer
	if err := c.Inspect(t.Context(), "web", &out); err != nil || strings.Contains(out.String(), `"vm"`) {
		t.Errorf("without a VM: %v, %s", err, out.String())
	}
	f.addContainer("vm", runtimeapi.ContainerState_CONTAINER_RUNNING)
	out.Reset()
	if err := c.Inspect(t.Context(), "web", &out); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Pod struct {
			Status struct{ Network struct{ IP string } }
			Info   struct {
				Counters []struct{ RxBytes int }
				Odd      string
			}
		}
		VM struct{ Status struct{ State string } }
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if got.Pod.Status.Network.IP != "10.1.2.3" || got.Pod.Info.Counters[0].RxBytes != 7 || got.Pod.Info.Odd != "not JSON" || got.VM.Status.State != "CONTAINER_RUNNING" {
		t.Errorf("%s", out.String())
	}
	if err := c.Inspect(t.Context(), "db", &out); err == nil || !strings.Contains(err.Error(), "not there") {
		t.Errorf("%v", err)
	}
	f.fail["PodSandboxStatus"] = errors.New("no")
	if err := c.Inspect(t.Context(), "web", &out); err == nil || !strings.Contains(err.Error(), "pod's status") {
		t.Errorf("%v", err)
	}
}
