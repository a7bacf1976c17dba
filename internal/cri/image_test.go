package cri_test

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/cri"
	"github.com/qemulet/qemulet/internal/images"
)

func (h *harness) pull(t *testing.T, name string) string {
	t.Helper()
	resp, err := h.images.PullImage(h.ctx, &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: name}})
	if err != nil {
		t.Fatal(err)
	}
	return resp.ImageRef
}

func (h *harness) image(t *testing.T, name string) *runtimeapi.Image {
	t.Helper()
	resp, err := h.images.ImageStatus(h.ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: name}})
	if err != nil {
		t.Fatal(err)
	}
	return resp.Image
}

func (h *harness) list(t *testing.T, filter *runtimeapi.ImageFilter) []*runtimeapi.Image {
	t.Helper()
	resp, err := h.images.ListImages(h.ctx, &runtimeapi.ListImagesRequest{Filter: filter})
	if err != nil {
		t.Fatal(err)
	}
	return resp.Images
}

// Everybody calls the image by the same id.
func TestImageIdentity(t *testing.T) {
	h := newHarness(t)
	id := h.pull(t, "virtlet.cloud/cirros")
	if again := h.pull(t, "cirros:latest"); again != id {
		t.Errorf("the same image has the ids %s and %s", id, again)
	}
	cfg := containerConfig("vm")
	cfg.Image = &runtimeapi.ImageSpec{Image: id, UserSpecifiedImage: "virtlet.cloud/cirros"}
	created, err := h.CreateContainer(h.ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: h.sandbox(t, "a"), Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	status := h.status(t, created.ContainerId)
	listed, err := h.ListContainers(h.ctx, &runtimeapi.ListContainersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for what, got := range map[string]string{
		"ImageStatus":     h.image(t, "virtlet.cloud/cirros:latest").Id,
		"ListImages":      h.list(t, nil)[0].Id,
		"ContainerStatus": status.ImageId,
		"ListContainers":  listed.Containers[0].ImageId,
	} {
		if got != id {
			t.Errorf("%s says %s, want %s", what, got, id)
		}
	}
	if status.Image.Image != "virtlet.cloud/cirros" {
		t.Errorf("people see %q", status.Image.Image)
	}
	if want := h.image(t, id).RepoDigests[0]; status.ImageRef != want {
		t.Errorf("image_ref is %q, want %q", status.ImageRef, want)
	}
}

// crictl gives the name itself where kubelet gives the id.
func TestContainerStatusImageName(t *testing.T) {
	h := newHarness(t)
	id := h.pull(t, "virtlet.cloud/cirros")
	cfg := containerConfig("vm")
	cfg.Image = &runtimeapi.ImageSpec{Image: id}
	created, err := h.CreateContainer(h.ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: h.sandbox(t, "a"), Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	if got := h.status(t, created.ContainerId).Image.Image; got != "virtlet.cloud/cirros:latest" {
		t.Errorf("people see %q", got)
	}
}

func TestImageStatus(t *testing.T) {
	h := newHarness(t)
	id := h.pull(t, "virtlet.cloud/cirros")
	want := h.image(t, id)
	if want.Size == 0 || want.Uid == nil || len(want.RepoTags) != 1 || len(want.RepoDigests) != 1 {
		t.Errorf("got %v", want)
	}
	for _, ref := range []string{"virtlet.cloud/cirros", "virtlet.cloud/cirros:latest", "cirros", want.RepoDigests[0]} {
		if got := h.image(t, ref); !proto.Equal(got, want) {
			t.Errorf("%s: %v", ref, got)
		}
	}
	if got := h.image(t, "virtlet.cloud/none"); got != nil {
		t.Errorf("an image that is absent: %v", got)
	}
	verbose, err := h.images.ImageStatus(h.ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: id}, Verbose: true})
	if err != nil || verbose.Info["info"] == "" {
		t.Errorf("verbose: %v, %v", verbose, err)
	}
}

func TestListAndRemoveImages(t *testing.T) {
	h := newHarness(t)
	a, b := h.pull(t, "virtlet.cloud/a"), h.pull(t, "virtlet.cloud/b")
	h.pull(t, "virtlet.cloud/other/a")
	if got := len(h.list(t, nil)); got != 2 {
		t.Errorf("%d images, want 2", got)
	}
	byName := h.list(t, &runtimeapi.ImageFilter{Image: &runtimeapi.ImageSpec{Image: "virtlet.cloud/b"}})
	if len(byName) != 1 || byName[0].Id != b {
		t.Errorf("filter by name: %v", byName)
	}
	if got := h.list(t, &runtimeapi.ImageFilter{Image: &runtimeapi.ImageSpec{Image: "virtlet.cloud/none"}}); len(got) != 0 {
		t.Errorf("filter that matches nothing: %v", got)
	}
	for range 2 { // the second time it is gone already
		_, err := h.images.RemoveImage(h.ctx, &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: "virtlet.cloud/other/a"}})
		wantCode(t, err, codes.OK)
	}
	if left := h.list(t, nil); len(left) != 1 || left[0].Id != b || h.image(t, a) != nil {
		t.Errorf("left are %v", left)
	}
}

func TestPullImagePassesCredentials(t *testing.T) {
	h := newHarness(t)
	var got *images.Auth
	h.store.Before = func(_ context.Context, _ string, auth *images.Auth) error { got = auth; return nil }
	pull := func(a *runtimeapi.AuthConfig) error {
		got = nil
		_, err := h.images.PullImage(h.ctx, &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: "x"}, Auth: a})
		return err
	}
	wantCode(t, pull(nil), codes.OK)
	if got != nil {
		t.Errorf("credentials from nowhere: %v", got)
	}
	wantCode(t, pull(&runtimeapi.AuthConfig{ServerAddress: "registry"}), codes.OK)
	if got != nil {
		t.Errorf("credentials from nowhere: %v", got)
	}
	wantCode(t, pull(&runtimeapi.AuthConfig{Username: "joe", Password: "p", Auth: "a", RegistryToken: "r"}), codes.OK)
	if want := (images.Auth{Username: "joe", Password: "p", Auth: "a", RegistryToken: "r"}); got == nil || *got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	wantCode(t, pull(&runtimeapi.AuthConfig{IdentityToken: "i", ServerAddress: "registry"}), codes.OK)
	if want := (images.Auth{IdentityToken: "i", ServerAddress: "registry"}); got == nil || *got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestPullImageFails(t *testing.T) {
	h := newHarness(t)
	h.store.Before = func(context.Context, string, *images.Auth) error { return errors.New("404 from the server") }
	_, err := h.images.PullImage(h.ctx, &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: "x"}})
	wantCode(t, err, codes.Unknown, "404 from the server")
}

func TestImageCallsNeedAName(t *testing.T) {
	h := newHarness(t)
	_, pull := h.images.PullImage(h.ctx, &runtimeapi.PullImageRequest{})
	_, status := h.images.ImageStatus(h.ctx, &runtimeapi.ImageStatusRequest{})
	_, remove := h.images.RemoveImage(h.ctx, &runtimeapi.RemoveImageRequest{})
	for _, err := range []error{pull, status, remove} {
		wantCode(t, err, codes.InvalidArgument, "image.image")
	}
}

// kubelet uses these numbers without looking whether they are there.
func TestImageFsInfo(t *testing.T) {
	h := newHarness(t)
	got, err := h.images.ImageFsInfo(h.ctx, &runtimeapi.ImageFsInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.ImageFilesystems) != 1 {
		t.Fatalf("got %v", got)
	}
	fs := got.ImageFilesystems[0]
	if fs.UsedBytes == nil || fs.InodesUsed == nil || fs.Timestamp <= 0 || fs.GetFsId().GetMountpoint() == "" {
		t.Errorf("got %v", fs)
	}
}

// Who pulls for a pod is told which rule led to the image.
func TestPullIsTold(t *testing.T) {
	var told []string
	h := newHarness(t, func(o *cri.Options) {
		o.Pulled = func(pod *runtimeapi.PodSandboxMetadata, name string, _ images.Image) {
			told = append(told, pod.Name+" "+name)
		}
	})
	for _, cfg := range []*runtimeapi.PodSandboxConfig{sandboxConfig("a"), nil} {
		if _, err := h.images.PullImage(h.ctx, &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: "virtlet.cloud/cirros"}, SandboxConfig: cfg}); err != nil {
			t.Fatal(err)
		}
	}
	if len(told) != 1 || told[0] != "a virtlet.cloud/cirros" {
		t.Errorf("told %q", told)
	}
}
