package podrun

import (
	"bytes"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestFind(t *testing.T) {
	f, c := newFake(t)
	if _, err := c.Find(t.Context(), "web"); err == nil || !strings.Contains(err.Error(), "there are no pods") {
		t.Errorf("%v", err)
	}
	f.addPod("default", "web", "716d6c74aaaa0001")
	f.addPod("other", "web", "716d6c74aaaa0002")
	f.addPod("default", "db", "716d6c74bbbb0003")
	for name, want := range map[string]string{
		"db": "716d6c74bbbb0003", "default/web": "716d6c74aaaa0001", "other/web": "716d6c74aaaa0002",
		"716d6c74bbbb": "716d6c74bbbb0003", "716d6c74aaaa0002": "716d6c74aaaa0002",
	} {
		if p, err := c.Find(t.Context(), name); err != nil || p.Sandbox.Id != want {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	for name, want := range map[string]string{
		"web": "there are several: default/web, other/web", "716d6c74aaaa": "there are several", "716d6c74": "not there", "we": "not there",
	} {
		if _, err := c.Find(t.Context(), name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.FindVM(t.Context(), "db"); err == nil || !strings.Contains(err.Error(), "has no VM") {
		t.Errorf("%v", err)
	}
}

func TestStopRoundsUp(t *testing.T) {
	f, c := newFake(t)
	f.addPod("default", "web", "716d6c74aaaa0001")
	f.addContainer("vm", runtimeapi.ContainerState_CONTAINER_RUNNING)
	for grace, want := range map[time.Duration]int64{0: 0, time.Millisecond: 1, time.Second: 1, 1500 * time.Millisecond: 2} {
		var said bytes.Buffer
		if err := c.Stop(t.Context(), "web", grace, &said); err != nil || f.grace != want || !strings.Contains(said.String(), "the guest powered off") {
			t.Errorf("%v: %v, grace %d, %q", grace, err, f.grace, said.String())
		}
	}
}

func TestRemoveRefusesARunningVM(t *testing.T) {
	f, c := newFake(t)
	f.addPod("default", "web", "716d6c74aaaa0001")
	f.addContainer("vm", runtimeapi.ContainerState_CONTAINER_RUNNING)
	var said bytes.Buffer
	if err := c.Remove(t.Context(), "web", false, &said); err == nil || f.changes() != "" {
		t.Errorf("%v, calls: %s", err, f.changes())
	}
	if err := c.Remove(t.Context(), "web", true, &said); err != nil || said.String() != "removed pod default/web\n" {
		t.Errorf("%v, %q", err, said.String())
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		5 * time.Second: "5s", 119 * time.Second: "119s", 3 * time.Minute: "3m", 119 * time.Minute: "119m", 5 * time.Hour: "5h", 72 * time.Hour: "3d",
	} {
		if got := Age(time.Now().Add(-d).UnixNano()); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}

func TestSettingsAreTheDaemons(t *testing.T) {
	_, c := newFake(t)
	if got := c.Settings(t.Context())["state-dir"]; got != "/s" {
		t.Errorf("state-dir %q", got)
	}
	if pid, err := DaemonPID(c.socket); err != nil || pid == 0 {
		t.Errorf("process %d, %v", pid, err)
	}
	if yes, err := Listening(c.socket); !yes || err != nil {
		t.Errorf("listening %v, %v", yes, err)
	}
	if yes, err := Listening(c.socket + "x"); yes || err != nil {
		t.Errorf("on no socket: %v, %v", yes, err)
	}
}
