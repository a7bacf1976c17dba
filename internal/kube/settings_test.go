package kube

import (
	"context"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

const (
	configPath = "/apis/virtlet.k8s/v1/namespaces/kube-system/virtletconfigmappings"
	mapsPath   = "/api/v1/namespaces/kube-system/configmaps"
	nodePath   = "/api/v1/nodes/n"
	noMaps     = `{"apiVersion":"v1","kind":"ConfigMapList","metadata":{"resourceVersion":"7"},"items":[]}`
)

func TestSettings(t *testing.T) {
	s := newAPIServer(t)
	s.set(configPath, `{"apiVersion":"virtlet.k8s/v1","kind":"VirtletConfigMappingList","metadata":{"resourceVersion":"7"},"items":[
		{"apiVersion":"virtlet.k8s/v1","kind":"VirtletConfigMapping","metadata":{"name":"a"},"spec":{"priority":3}},
		{"apiVersion":"virtlet.k8s/v1","kind":"VirtletConfigMapping","metadata":{"name":"b"}}]}`)
	s.set(mapsPath, `{"apiVersion":"v1","kind":"ConfigMapList","metadata":{"resourceVersion":"7"},"items":[
		{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"virtlet-config"},"data":{"loglevel":"5"}}]}`)
	s.set(nodePath, `{"apiVersion":"v1","kind":"Node","metadata":{"name":"n","labels":{"a":"b"}}}`)
	a := s.api()
	got, err := a.Settings(t.Context())
	if err != nil || len(got.Mappings) != 2 || string(got.Mappings["a"]) != `{"priority":3}` || string(got.Mappings["b"]) != "null" || !maps.Equal(got.Data, map[string]string{"loglevel": "5"}) {
		t.Errorf("%+v, %v", got, err)
	}
	if labels, err := a.NodeLabels(t.Context(), "n"); err != nil || !maps.Equal(labels, map[string]string{"a": "b"}) {
		t.Errorf("%v, %v", labels, err)
	}
	if _, err := a.NodeLabels(t.Context(), "m"); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), `no node "m": is the setting node-name right?`) {
		t.Errorf("%v", err)
	}
}

// Without the resource there are none; what may not be read is said.
func TestSettingsThatAreNotThere(t *testing.T) {
	s := newAPIServer(t)
	s.set(mapsPath, noMaps)
	a := s.api()
	if got, err := a.Settings(t.Context()); err != nil || len(got.Mappings) != 0 || got.Data != nil || !got.Undefined {
		t.Errorf("%+v, %v", got, err)
	}
	s.set(configPath, "forbidden")
	if _, err := a.Settings(t.Context()); !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "list and watch for virtletconfigmappings.virtlet.k8s in namespace kube-system") {
		t.Errorf("%v", err)
	}
	s.set(configPath, "")
	s.set(mapsPath, "broken")
	if _, err := a.Settings(t.Context()); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "configmaps: ") {
		t.Errorf("%v", err)
	}
}

// Await ends with what the server tells, with the limit, and with the context.
func TestAwait(t *testing.T) {
	s := newAPIServer(t)
	s.set(mapsPath, noMaps)
	a := s.api()
	seen, err := a.Settings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.set(mapsPath, `{"type":"ADDED","object":{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"virtlet-config","resourceVersion":"8"}}}`)
	begin := time.Now()
	if err := a.Await(t.Context(), seen, time.Minute); err != nil || time.Since(begin) > 30*time.Second {
		t.Errorf("told: %v after %v", err, time.Since(begin))
	}
	s.set(mapsPath, "hang")
	if err := a.Await(t.Context(), seen, 50*time.Millisecond); err != nil {
		t.Errorf("the limit: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Await(ctx, seen, time.Minute); err != nil {
		t.Errorf("the end: %v", err)
	}
	s.set(mapsPath, "forbidden")
	if err := a.Await(t.Context(), seen, time.Minute); !errdefs.IsPermissionDenied(err) {
		t.Errorf("forbidden: %v", err)
	}
	if err := a.Await(t.Context(), &Settings{}, 10*time.Millisecond); err != nil {
		t.Errorf("nothing to wait for: %v", err)
	}
}
