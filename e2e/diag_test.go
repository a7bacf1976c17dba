package e2e

import (
	"context"
	"encoding/base64"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

// marker is in every secret of the test.
const marker = "hunter2-marker"

// A diagnosis has what one needs to find a fault, and no secret, wherever one was.
func TestDiagnosis(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	check(t, os.WriteFile(filepath.Join(n.Dir, "cni", "99-other.conf"), []byte(`{"token": "`+marker+`"}`), 0o600))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	// It fails, for nobody is there: its error has been logged.
	_, _ = n.Images.PullImage(ctx, &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: "virtlet.cloud/127.0.0.1:9/none"},
		Auth: &runtimeapi.AuthConfig{Username: "user", Password: marker}})

	vm := n.NewVM(t, "secretive", func(vm *node.VM) {
		for name, value := range map[string]string{
			"VirtletCloudInitUserData":                         "password: " + marker,
			"VirtletCloudInitMetaData":                         "key: " + marker,
			"VirtletSSHKeys":                                   "ssh-ed25519 " + marker,
			"VirtletCloudInitUserDataSource":                   "secret/boot",
			"kubectl.kubernetes.io/last-applied-configuration": marker,
		} {
			vm.Pod.Annotations[name] = value
		}
		vm.Config.Envs = []*runtimeapi.KeyValue{{Key: "PASSWORD", Value: []byte(marker)}}
		secret := filepath.Join(n.Dir, "kubelet", "pods", vm.Pod.Metadata.Uid, "volumes", "kubernetes.io~secret", "s")
		check(t, os.MkdirAll(secret, 0o755))
		check(t, os.WriteFile(filepath.Join(secret, "key"), []byte(marker), 0o600))
		vm.Config.Mounts = []*runtimeapi.Mount{{ContainerPath: "/etc/secret", HostPath: secret, Readonly: true}}
	})
	remove := vm.BringObjects(t, node.Secret("boot", map[string]string{"more": base64.StdEncoding.EncodeToString([]byte(marker)), "write_files": "[{path: /x, content: " + marker + "}]"}))
	vm.Run(t)
	vm.WaitReady(t)
	bad := n.NewVM(t, "refused", func(vm *node.VM) {
		vm.Pod.Annotations["VirtletCloudInitUserData"] = "{ " + marker
	})
	if err := bad.TrySandbox(ctx); err == nil {
		t.Error("broken user-data was accepted")
	}

	asJSON := ctlSays(t, n, "diag", "dump", "--json")
	dir := filepath.Join(t.TempDir(), "unpacked")
	_, err := ctlWith(t, n, asJSON, "diag", "unpack", dir)
	check(t, err)
	dumped := filepath.Join(t.TempDir(), "dumped")
	ctlSays(t, n, "diag", "dump", dumped)
	for _, dir := range []string{dir, dumped} {
		lookThrough(t, dir, vm)
	}
	vm.Remove(t)
	remove()
	n.NoLeaks(t)
}

// lookThrough looks at a diagnosis on the disk.
func lookThrough(t *testing.T, dir string, vm *node.VM) {
	t.Helper()
	files := map[string]string{}
	check(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[strings.Join(strings.Split(name, "/")[2:], "/")] = string(raw) // without nodes/<node>/
		return err
	}))
	for path, text := range files {
		if strings.Contains(text, marker) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(marker))) {
			t.Errorf("%s has a secret", path)
		}
	}
	pod := "pods/default_secretive_" + vm.Pod.Metadata.Uid + "/"
	machine := pod + vm.ID[8:20] + "/"
	for path, words := range map[string]string{
		"version.txt":                 "QEMU ",
		"settings.json":               "the flag --run-dir",
		"daemon.log":                  "StartContainer",
		"goroutines.txt":              "goroutine 1 ",
		"conditions.json":             "RuntimeReady",
		"images.json":                 "virtlet.cloud/tiny",
		"cni.txt":                     "99-other.conf",
		"criproxy.txt":                "kubelet",
		"pods.json":                   `"PASSWORD"`,
		"network/addresses.txt":       "127.0.0.1",
		pod + "network/addresses.txt": "eth0",
		pod + "network/routes.txt":    "",
		machine + "qemu.log":          "starting machine",
		machine + "config.json":       `"hypervisor"`,
		machine + "argv.txt":          "\n-machine\n",
		machine + "process.txt":       "VmRSS:",
		machine + "cgroup.txt":        "memory.",
	} {
		if text, there := files[path]; !there || !strings.Contains(text, words) {
			t.Errorf("%s: no %q in %.300q", path, words, text)
		}
	}
}
