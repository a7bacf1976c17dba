package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

// A VM boots from a containerDisk in a registry that asks for the pod's imagePullSecrets.
func TestContainerDisk(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	registry := &node.Registry{Repository: "team/vms", User: "joe", Password: "hunter2-right"}
	manifest := registry.Image(t, "v1", containerDisk(t, "tiny"))
	certificate := n.ServeTLS(t, registry)
	n.Translate(t, "registry.yaml", fmt.Sprintf(`translations:
- {regexp: '^disks/(\w+)$', url: 'oci://127.0.0.1/team/$1', transport: own}
transports: {own: {tls: {certificates: [{cert: %q}]}}}
`, certificate))

	for password, what := range map[string]string{"hunter2-wrong": "a wrong password", "": "no password"} {
		err := pullAs(t, n, "disks/vms:v1", "joe", password)
		if status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s: code %v", what, status.Code(err))
		}
		mentions(t, fmt.Sprint(err), "virtlet.cloud/disks/vms:v1", "oci://127.0.0.1/team/vms", "401")
		if strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
	if got := n.Crictl(t, "images", "-q"); got != "" {
		t.Errorf("there is an image without a password: %s", got)
	}
	check(t, pullAs(t, n, "disks/vms:v1", "joe", "hunter2-right"))
	// What the image is said to be is what the registry has.
	var listed struct{ Images []crictlImage }
	n.CrictlJSON(t, &listed, "images", "-o", "json")
	const repo = "virtlet.cloud/disks/vms"
	if len(listed.Images) != 1 || !slices.Equal(listed.Images[0].RepoDigests, []string{repo + "@" + manifest}) {
		t.Errorf("images: %+v", listed.Images)
	}
	n.Crictl(t, "rmi", repo+"@"+manifest)
	check(t, pullAs(t, n, "disks/vms@"+manifest, "joe", "hunter2-right"))
	check(t, pullAs(t, n, "disks/vms:v1", "joe", "hunter2-right"))
	vm := n.NewVM(t, "disk", func(vm *node.VM) {
		vm.Config.Image.Image, vm.Config.Image.UserSpecifiedImage = "virtlet.cloud/disks/vms:v1", "virtlet.cloud/disks/vms:v1"
	})
	vm.Run(t)
	vm.WaitReady(t)
	if strings.Contains(n.DaemonLog(), "hunter2") {
		t.Error("the daemon's log tells a password")
	}
	vm.Remove(t)
	n.NoLeaks(t)
}

func pullAs(t *testing.T, n *node.Node, name, user, password string) error {
	t.Helper()
	_, err := n.Images.PullImage(seconds(t, 60), &runtimeapi.PullImageRequest{
		Image: &runtimeapi.ImageSpec{Image: "virtlet.cloud/" + name},
		Auth:  &runtimeapi.AuthConfig{Username: user, Password: password, ServerAddress: "virtlet.cloud"},
	})
	return err
}

// containerDisk is a layer with a guest's disk at the place where KubeVirt looks for it.
func containerDisk(t *testing.T, guest string) []byte {
	t.Helper()
	disk, err := os.ReadFile(node.Guest(t, guest))
	check(t, err)
	var layer bytes.Buffer
	z := gzip.NewWriter(&layer)
	w := tar.NewWriter(z)
	check(t, w.WriteHeader(&tar.Header{Name: "disk/", Typeflag: tar.TypeDir, Mode: 0o755}))
	check(t, w.WriteHeader(&tar.Header{Name: "disk/disk.qcow2", Mode: 0o440, Uid: 107, Gid: 107, Size: int64(len(disk))}))
	_, err = w.Write(disk)
	check(t, err)
	check(t, w.Close())
	check(t, z.Close())
	return layer.Bytes()
}
