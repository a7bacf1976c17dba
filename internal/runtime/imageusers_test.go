package runtime

import (
	"reflect"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/store"
)

// A pod uses the image below its root disk also when its VM is gone, and may use
// another with its next VM.
func TestImageUsers(t *testing.T) {
	newPodOf := func(id, name, base string) *pod {
		rec := &store.Sandbox{ID: id, Base: base}
		rec.Config.M = &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "ns"}}
		return newPod(rec)
	}
	a, b, bare := newPodOf("a", "a", "one"), newPodOf("b", "b", "one"), newPodOf("c", "c", "")
	r := &Runtime{
		pods: map[string]*pod{"a": a, "b": b, "c": bare},
		vms: map[string]*vm{
			"1": newVM(a, &store.Container{ID: "1", ImageDigest: "one"}),
			"2": newVM(b, &store.Container{ID: "2", ImageDigest: "two"}),
		},
	}
	want := map[string][]string{"one": {"ns/a", "ns/b"}, "two": {"ns/b"}}
	if got := r.ImageUsers(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := r.imagesInUse(); !reflect.DeepEqual(got, map[string]bool{"one": true, "two": true}) {
		t.Errorf("in use: %v", got)
	}
}
