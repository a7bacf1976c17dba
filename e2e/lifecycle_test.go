package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

const sshKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP0000000000000000000000000000000000000000000 me@example.org"

// The whole life of a VM pod, by a client that was not written here.
func TestLifeByCrictl(t *testing.T) {
	n := node.Start(t, node.Options{})
	n.Web.Guest(t, "cirros", "tiny")
	vm := n.NewVM(t, "life", func(vm *node.VM) {
		vm.Pod.Annotations["VirtletSSHKeys"] = sshKey
		vm.Pod.Annotations["VirtletRootVolumeSize"] = "100Mi"
		vm.Pod.Annotations["VirtletCloudInitUserDataScript"] = "#!/bin/sh\necho user-data says hello\n"
		vm.Config.Image.Image = "virtlet.cloud/cirros"
	})

	version := n.Crictl(t, "version")
	for _, want := range []string{`(?m)^Version: +0\.1\.0$`, `(?m)^RuntimeName: +qemulet$`, `(?m)^RuntimeVersion: +\d+\.\d+\.\d+`, `(?m)^RuntimeApiVersion: +v1$`} {
		matches(t, "crictl version", version, want)
	}
	var info struct {
		Status struct {
			Conditions []struct {
				Type            string
				Status          bool
				Reason, Message string
			}
		}
	}
	n.CrictlJSON(t, &info, "info")
	if len(info.Status.Conditions) < 2 {
		t.Errorf("info: %+v", info)
	}
	for _, c := range info.Status.Conditions {
		if !c.Status {
			t.Errorf("condition %+v", c)
		}
	}

	imageID := lifeOfImage(t, n)
	vm.PodID = n.Crictl(t, "runp", vm.PodFile(t))
	matches(t, "sandbox id", vm.PodID, `^716d6c74[0-9a-f]{56}$`)
	if got := n.Crictl(t, "pods", "-q", "--name", "life", "--state", "ready", "--no-trunc"); got != vm.PodID {
		t.Errorf("pods lists %q", got)
	}
	vm.ID = n.Crictl(t, "create", vm.PodID, vm.ConfigFile(t), vm.PodFile(t))
	matches(t, "container id", vm.ID, `^716d6c74[0-9a-f]{56}$`)
	if got := n.Crictl(t, "ps", "-a", "-q", "--state", "created", "--no-trunc"); got != vm.ID {
		t.Errorf("ps lists %q", got)
	}
	n.Crictl(t, "start", vm.ID)
	started := time.Now()
	vm.WaitReady(t)
	t.Logf("the guest was ready %v after start", time.Since(started).Round(time.Millisecond))

	t.Run("status", func(t *testing.T) { statusByCrictl(t, vm, imageID) })
	t.Run("guest", func(t *testing.T) { guestSeesItsPod(t, vm) })
	t.Run("attach", func(t *testing.T) {
		c := vm.Attach(t)
		if got := c.Command("hostname"); got != "life" {
			t.Errorf("hostname typed at the console: %q", got)
		}
	})
	t.Run("logs", func(t *testing.T) {
		out := n.Crictl(t, "logs", vm.ID)
		mentions(t, out, "Linux version", "@@GUEST ready", "user-data says hello")
		if got := n.Crictl(t, "logs", "--tail", "1", vm.ID); strings.Count(got, "\n") > 0 {
			t.Errorf("logs --tail 1: %q", got)
		}
	})
	t.Run("port-forward", func(t *testing.T) { portForward(t, vm) })
	t.Run("exec", func(t *testing.T) { execWithoutAgent(t, vm) })
	t.Run("stats", func(t *testing.T) { statsByCrictl(t, vm) })

	n.Crictl(t, "stop", "--timeout", "30", vm.ID)
	s := vm.Status(t)
	if s.State != runtimeapi.ContainerState_CONTAINER_EXITED || s.ExitCode != 0 || s.FinishedAt <= s.StartedAt {
		t.Errorf("after stop: %v", s)
	}
	if len(n.QEMUs()) != 0 {
		t.Errorf("stop returned, but these run: %v", n.QEMUs())
	}
	vm.WaitLog(t, `^@@GUEST powerbutton`, time.Second)
	if got := n.Crictl(t, "ps", "-q", "--no-trunc"); got != "" {
		t.Errorf("ps lists %q after stop", got)
	}
	n.Crictl(t, "rm", "--keep-logs", vm.ID)
	n.Crictl(t, "stopp", vm.PodID)
	n.Crictl(t, "rmp", vm.PodID)
	n.NoLeaks(t)
	n.Crictl(t, "rmi", "virtlet.cloud/cirros")
	if got := n.Crictl(t, "images", "-q"); got != "" {
		t.Errorf("images lists %q after rmi", got)
	}
	if _, err := os.Stat(vm.LogPath); err != nil {
		t.Errorf("the log is the client's to remove: %v", err)
	}
}

// lifeOfImage pulls and looks at the image, and returns its id.
func lifeOfImage(t *testing.T, n *node.Node) string {
	t.Helper()
	n.Crictl(t, "pull", "virtlet.cloud/cirros")
	n.Crictl(t, "pull", "virtlet.cloud/cirros")
	id := n.Crictl(t, "images", "-q", "--no-trunc")
	matches(t, "image id", id, `^sha256:[0-9a-f]{64}$`)
	var image struct {
		Status struct {
			ID       string
			RepoTags []string
			Size     string
		}
	}
	for _, ref := range []string{id, "virtlet.cloud/cirros", "virtlet.cloud/cirros:latest"} {
		image.Status.ID = ""
		n.CrictlJSON(t, &image, "inspecti", ref)
		if image.Status.ID != id || len(image.Status.RepoTags) != 1 || image.Status.Size == "" || image.Status.Size == "0" {
			t.Errorf("inspecti %s: %+v", ref, image)
		}
	}
	var fs struct {
		Status struct {
			ImageFilesystems []struct{ UsedBytes struct{ Value string } }
		}
	}
	n.CrictlJSON(t, &fs, "imagefsinfo")
	if len(fs.Status.ImageFilesystems) == 0 || fs.Status.ImageFilesystems[0].UsedBytes.Value == "" {
		t.Errorf("imagefsinfo: %+v", fs)
	}
	return id
}

func statusByCrictl(t *testing.T, vm *node.VM, imageID string) {
	n := vm.Node
	var c struct {
		Status struct {
			ID, State, ImageRef, LogPath, ImageID string
			Metadata                              struct{ Name string }
			Labels, Annotations                   map[string]string
			CreatedAt, StartedAt                  time.Time
		}
		Info map[string]any
	}
	// A prefix is enough, as with other runtimes.
	n.CrictlJSON(t, &c, "inspect", vm.ID[:20])
	if c.Status.ID != vm.ID || c.Status.State != "CONTAINER_RUNNING" || c.Status.ImageID != imageID || c.Status.ImageRef == "" || c.Status.LogPath != vm.LogPath ||
		c.Status.Metadata.Name != "vm" || c.Status.Labels["app"] != "life" || c.Status.StartedAt.Before(c.Status.CreatedAt) {
		t.Errorf("inspect: %+v", c.Status)
	}
	var p struct {
		Status struct {
			ID, State   string
			Network     struct{ IP string }
			Annotations map[string]string
		}
	}
	n.CrictlJSON(t, &p, "inspectp", vm.PodID[:20])
	if p.Status.ID != vm.PodID || p.Status.State != "SANDBOX_READY" || !strings.HasPrefix(p.Status.Network.IP, n.Subnet) ||
		p.Status.Annotations["VirtletSSHKeys"] != sshKey {
		t.Errorf("inspectp: %+v", p.Status)
	}
	lines, err := node.ReadLog(vm.LogPath)
	check(t, err)
	if len(lines) < 100 {
		t.Errorf("only %d lines in the log of a whole boot", len(lines))
	}
}

// guestSeesItsPod compares what the guest says of itself with its pod.
func guestSeesItsPod(t *testing.T, vm *node.VM) {
	n, ip := vm.Node, vm.IP(t)
	dhcp := vm.WaitLog(t, `^@@GUEST dhcp eth0 bound (.*)`, 10*time.Second)[1]
	mentions(t, dhcp, "ip="+ip+"/24", fmt.Sprintf("mtu=%d", node.MTU), "dns=10.96.0.10", "default.svc.cluster.local", "hostname=life", n.Subnet+"1")
	info := vm.WaitInfo(t)
	if info["hostname"] != "life" || !strings.Contains(info["address"], ip+"/24") {
		t.Errorf("the guest says: %v", info)
	}
	matches(t, "routes", info["route"], `(?m)^default via `+strings.ReplaceAll(n.Subnet, ".", `\.`)+`1 `)
	matches(t, "resolv.conf", info["resolv"], `(?m)^nameserver 10\.96\.0\.10$`)
	// The peer is the node, not something in between.
	mentions(t, info["peer"], n.Subnet+"1")

	seed := vm.WaitLog(t, `^@@SEED meta-data (.*)`, time.Second)[1]
	mentions(t, seed, sshKey, `"local-hostname"`, `"life"`)
	vm.WaitLog(t, `^@@GUEST seed dev=/dev/vdb type=nocloud`, time.Second)
	vm.WaitLog(t, `^@@GUEST disk vda bytes=104857600 ro=0`, time.Second)
	vm.WaitLog(t, `^@@GUEST disk vdb .*ro=1`, time.Second)
	vm.WaitLog(t, `^user-data says hello$`, 10*time.Second)
	vm.WaitLog(t, `^@@GUEST userdata exit=0$`, 10*time.Second)
}

func portForward(t *testing.T, vm *node.VM) {
	n := vm.Node
	n.StartCrictl(t, "port-forward", vm.PodID, "18080:80")
	var body string
	node.Eventually(t, 20*time.Second, func() error {
		r, err := n.HTTPClient().Get("http://127.0.0.1:18080/")
		if err != nil {
			return err
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		body = string(b)
		return err
	})
	mentions(t, body, "tiny guest")
}

// Both disk layouts, a second NIC's worth of defaults left out: on scsi, Virtlet's default, the seed is a CD-ROM.
func TestSCSILayout(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "scsi", func(vm *node.VM) { delete(vm.Pod.Annotations, "VirtletDiskDriver") })
	vm.Run(t)
	vm.WaitReady(t)
	vm.WaitLog(t, `^@@GUEST disk sda bytes=[0-9]+ ro=0 `, time.Second)
	vm.WaitLog(t, `^@@GUEST seed dev=/dev/sr0 type=nocloud fs=iso9660`, time.Second)
	vm.WaitLog(t, `^@@GUEST hostname scsi$`, time.Second)
	vm.Remove(t)
	n.NoLeaks(t)
}

func TestConfigDrive(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "drive", func(vm *node.VM) { vm.Pod.Annotations["VirtletCloudInitImageType"] = "ConfigDrive" })
	vm.Run(t)
	vm.WaitReady(t)
	vm.WaitLog(t, `^@@GUEST seed dev=/dev/vdb type=configdrive`, time.Second)
	vm.WaitLog(t, `^@@GUEST hostname drive$`, time.Second)
	vm.Remove(t)
	n.NoLeaks(t)
}

// Calls that come twice, out of order, or for what is not there, mean what CRI says they mean.
func TestRepeatedAndUnknown(t *testing.T) {
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	ctx := seconds(t, 60)
	unknown := "716d6c74" + strings.Repeat("0", 56)
	for name, call := range map[string]func() error{
		"StopContainer": func() error {
			_, err := n.Runtime.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: unknown})
			return err
		},
		"RemoveContainer": func() error {
			_, err := n.Runtime.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: unknown})
			return err
		},
		"StopPodSandbox": func() error {
			_, err := n.Runtime.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: unknown})
			return err
		},
		"RemovePodSandbox": func() error {
			_, err := n.Runtime.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: unknown})
			return err
		},
		"RemoveImage": func() error {
			_, err := n.Images.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: "virtlet.cloud/absent"}})
			return err
		},
	} {
		if err := call(); err != nil {
			t.Errorf("%s of something unknown: %v", name, err)
		}
	}
	for name, call := range map[string]func() error{
		"ContainerStatus": func() error {
			_, err := n.Runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: unknown})
			return err
		},
		"PodSandboxStatus": func() error {
			_, err := n.Runtime.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: unknown})
			return err
		},
		"StartContainer": func() error {
			_, err := n.Runtime.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: unknown})
			return err
		},
	} {
		if err := call(); status.Code(err) != codes.NotFound {
			t.Errorf("%s of something unknown: %v, expected NotFound", name, err)
		}
	}

	vm := n.NewVM(t, "twice", nil)
	check(t, vm.TrySandbox(ctx))
	// Two at once with the same metadata, as kubelet does after a timeout: one sandbox.
	first := vm.PodID
	check(t, vm.TrySandbox(ctx))
	if vm.PodID != first {
		t.Errorf("the same request gave two sandboxes: %s and %s", first, vm.PodID)
	}
	check(t, vm.TryCreate(ctx))
	check(t, vm.TryStart(ctx))
	// Again: kubelet repeats what took too long. Whether that is an error or not, there is one machine.
	_ = vm.TryStart(ctx)
	if q := n.QEMUs(); len(q) != 1 {
		t.Errorf("QEMU processes after a second start: %v", q)
	}
	for i := 0; i < 2; i++ {
		vm.Stop(t, 0)
	}
	if err := vm.TryStart(ctx); err == nil {
		t.Error("an exited container was started")
	}
	for i := 0; i < 2; i++ {
		vm.Remove(t)
	}
	if list, err := n.Runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{}); err != nil || len(list.Items) != 0 {
		t.Errorf("after removal: %v %v", list, err)
	}
	n.NoLeaks(t)
}

func TestLogReopen(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "rotate", nil)
	vm.Run(t)
	vm.WaitReady(t)
	c := vm.Attach(t)
	c.Command("echo bef''ore the rotation")
	vm.WaitLog(t, "^before the rotation$", 5*time.Second)
	old := vm.LogPath + ".20260101-000000"
	check(t, os.Rename(vm.LogPath, old))
	// Until told otherwise the writer goes on in the file it has.
	c.Command("echo dur''ing the rotation")
	node.WaitLog(t, old, "^during the rotation$", 5*time.Second)
	_, err := n.Runtime.ReopenContainerLog(seconds(t, 10), &runtimeapi.ReopenContainerLogRequest{ContainerId: vm.ID})
	check(t, err)
	c.Command("echo af''ter the rotation")
	vm.WaitLog(t, "^after the rotation$", 5*time.Second)
	for _, f := range []string{old, vm.LogPath} {
		lines, err := node.ReadLog(f)
		check(t, err)
		for _, l := range lines {
			if (l.Text == "after the rotation") != (f == vm.LogPath) && strings.HasSuffix(l.Text, "the rotation") {
				t.Errorf("%s has %q", filepath.Base(f), l.Text)
			}
		}
	}
	vm.Stop(t, 20)
	_, err = n.Runtime.ReopenContainerLog(seconds(t, 10), &runtimeapi.ReopenContainerLogRequest{ContainerId: vm.ID})
	if err == nil {
		t.Error("the log of a container that does not run was reopened")
	}
	vm.Remove(t)
	n.NoLeaks(t)
}

// Nothing of a VM listens on the node beyond what it must: CRI's streaming server is for this machine only.
func TestStreamingListensOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "private", nil)
	vm.Run(t)
	r, err := n.Runtime.Attach(seconds(t, 10), &runtimeapi.AttachRequest{ContainerId: vm.ID, Stdout: true, Tty: true})
	check(t, err)
	matches(t, "attach URL", r.Url, `^http://127\.0\.0\.1:[0-9]+/`)
	host := strings.SplitN(strings.TrimPrefix(r.Url, "http://127.0.0.1:"), "/", 2)[0]
	if conn, err := n.Dial(seconds(t, 5), "tcp", net.JoinHostPort(n.Subnet+"1", host)); err == nil {
		conn.Close()
		t.Error("the streaming server answers on the pod network")
	}
	// A wrong token is no key.
	resp, err := n.HTTPClient().Get("http://127.0.0.1:" + host + "/attach/AAAAAAAA")
	check(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("a wrong token is answered with %s", resp.Status)
	}
	vm.Remove(t)
	n.NoLeaks(t)
}
