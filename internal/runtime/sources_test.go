package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/qemulet/qemulet/internal/kube"
	"github.com/qemulet/qemulet/internal/vmpod"
)

func secret(name string, data map[string]string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: data}
}

// What objects hold gets into the seed and nowhere else, and is read anew for
// each container.
func TestSources(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	cfg := n.podConfig()
	cfg.Annotations = map[string]string{
		"VirtletCloudInitUserDataSource": "secret/user-data",
		"VirtletCloudInitUserData":       "packages: [from-annotation]",
		"VirtletSSHKeySource":            "secret/keys",
		"VirtletSSHKeys":                 "ssh-rsa of-annotation",
	}
	pod := kube.Pod{Namespace: "default", Name: cfg.Metadata.Name, UID: cfg.Metadata.Uid}
	n.must(n.objects().Put(pod, secret("user-data", map[string]string{"packages": "[hunter2]", "script": "a: b: c"}), secret("keys", map[string]string{"authorized_keys": "ssh-rsa hunter1"})))
	sandbox := n.run(cfg)
	id := n.create(sandbox, vmConfig("ignores", 0))
	seed := n.read(n.vmDir(cfg.Metadata.Uid, id), seedFile)
	for _, want := range []string{"- hunter2\n- from-annotation", "ssh-rsa hunter1", "ssh-rsa of-annotation"} {
		if !bytes.Contains(seed, []byte(want)) {
			t.Errorf("no %q in the seed", want)
		}
	}
	if v, _ := n.vm(id); len(v.record().Notes) != 1 || !strings.Contains(v.record().Notes[0], "the key script of Secret user-data") {
		t.Errorf("notes: %q", v.record().Notes)
	}
	n.start(id)
	if log := n.read(n.path("logs"), "vm_0.log"); !bytes.Contains(log, []byte("the key script of Secret user-data is left out")) {
		t.Errorf("the VM's log has no note:\n%s", log)
	}
	n.wantSecret(cfg.Metadata.Uid, "hunter")
	n.must(n.StopContainer(t.Context(), id, 0))

	n.must(n.objects().Put(pod, secret("user-data", nil), secret("keys", map[string]string{"authorized_keys": "ssh-rsa hunter3"})))
	id = n.create(sandbox, vmConfig("ignores", 1))
	if seed := n.read(n.vmDir(cfg.Metadata.Uid, id), seedFile); !bytes.Contains(seed, []byte("hunter3")) || bytes.Contains(seed, []byte("hunter1")) {
		t.Error("the second attempt does not have what the objects hold now")
	}
	n.must(n.StopContainer(t.Context(), id, 0))

	n.must(n.objects().Put(pod, secret("user-data", nil)))
	_, err := n.CreateContainer(t.Context(), sandbox, vmConfig("ignores", 2), nil)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), `VirtletSSHKeySource = "secret/keys": Secret default/keys is not among`) {
		t.Errorf("an object that has gone: %v", err)
	}
	n.removePod(sandbox)
}

func (n *testNode) read(elem ...string) []byte {
	n.t.Helper()
	raw, err := os.ReadFile(filepath.Join(elem...))
	n.must(err)
	return raw
}

// wantSecret fails if a text is anywhere below the node's directories but in
// the objects and in the seed.
func (n *testNode) wantSecret(uid, text string) {
	n.t.Helper()
	n.must(filepath.WalkDir(n.dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || strings.HasPrefix(path, n.path("objects")) || strings.HasPrefix(path, n.path("netns")) || e.Name() == seedFile {
			return err
		}
		raw, err := os.ReadFile(path)
		if bytes.Contains(raw, []byte(text)) {
			n.t.Errorf("%s tells a secret", path)
		}
		return err
	}))
	for _, v := range n.allVMs() {
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", n.pid(v.id)))
		if v.pod.uid() == uid && bytes.Contains(cmdline, []byte(text)) {
			n.t.Errorf("QEMU's arguments tell a secret: %q", cmdline)
		}
	}
}

// A pod that cannot work fails when its sandbox is made, with all that is
// wrong: with annotations, and with the objects that they name.
func TestBadSources(t *testing.T) {
	n := newTestNode(t)
	cfg := n.podConfig()
	pod := kube.Pod{Namespace: "default", Name: cfg.Metadata.Name, UID: cfg.Metadata.Uid}
	n.must(n.objects().Put(pod, secret("files", map[string]string{"a": "hunter2", "b": "", "b_path": "hunter2"})))
	cfg.Annotations = map[string]string{
		"VirtletVCPUCount":                  "many",
		"VirtletSSHKeySource":               "secret/none",
		"VirtletCloudInitUserDataSource":    "configmap/None",
		"VirtletCloudInitUserDataSourceKey": "k",
		"VirtletFilesFromDataSource":        "secret/files",
	}
	_, err := n.RunSandbox(t.Context(), cfg, "")
	if !errdefs.IsInvalidArgument(err) {
		t.Errorf("class of %v", err)
	}
	for _, want := range []string{
		`VirtletVCPUCount = "many": error parsing`,
		`VirtletSSHKeySource = "secret/none": Secret default/none is not among the objects that the pod brought along`,
		`VirtletCloudInitUserDataSource = "configmap/None": "None" cannot be the name of a ConfigMap`,
		`VirtletFilesFromDataSource secret/files a: is no base64`,
		`VirtletFilesFromDataSource secret/files a_path: missing path`,
		`VirtletFilesFromDataSource secret/files b_path: is not an absolute path`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("it tells a secret: %v", err)
	}
	n.wantClean()
}

func TestClassOfSources(t *testing.T) {
	gone, away, name := fmt.Errorf("x: %w", errdefs.ErrNotFound), fmt.Errorf("x: %w", errdefs.ErrUnavailable), fmt.Errorf("x: %w", errdefs.ErrInvalidArgument)
	for _, c := range []struct {
		problems int
		missing  []error
		want     error
	}{
		{1, nil, errdefs.ErrInvalidArgument},
		{1, []error{gone}, errdefs.ErrFailedPrecondition},
		{2, []error{gone, away}, errdefs.ErrUnavailable},
		{2, []error{gone, name}, errdefs.ErrInvalidArgument},
		{3, []error{gone, away}, errdefs.ErrInvalidArgument},
	} {
		err := &vmpod.Error{Problems: slices.Repeat([]vmpod.Problem{{}}, c.problems)}
		if got := (&sources{missing: c.missing}).class(err); got != c.want {
			t.Errorf("%d problems, %v: got %v, want %v", c.problems, c.missing, got, c.want)
		}
	}
	if got := (&sources{}).class(errors.New("x")); got != errdefs.ErrInvalidArgument {
		t.Errorf("got %v", got)
	}
}
