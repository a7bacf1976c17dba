package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The images of ordinary pods. No registry has them.
const (
	pauseImage   = "e2e.local/pause:1"
	BusyboxImage = "e2e.local/busybox:1"
)

// containerdConfig: restrict_oom_score_adj, because a sandbox asks for a value that takes a capability to set.
const containerdConfig = `version = 3
root = "%[1]s/containerd/root"
state = "%[1]s/containerd/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.erofs", "io.containerd.nri.v1.nri"]
[grpc]
  address = "%[1]s/containerd/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "%[1]s/containerd/opt"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "%[2]s"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "%[1]s/containerd/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "%[1]s/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        SystemdCgroup = false
`

const cniConfig = `{"cniVersion": "1.0.0", "name": "e2e", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "%s", "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
`

// ContainerdSocket is where containerd serves CRI.
func (c *Cluster) ContainerdSocket() string { return c.Path("containerd/containerd.sock") }

func (c *Cluster) startContainerd(tb testing.TB) {
	tb.Helper()
	must(tb, os.WriteFile(c.Path("cni/10-e2e.conflist"), []byte(fmt.Sprintf(cniConfig, c.Path("ipam"))), 0o644))
	must(tb, os.WriteFile(c.Path("containerd/config.toml"), []byte(fmt.Sprintf(containerdConfig, c.Dir, pauseImage)), 0o644))
	binary := program(tb, "containerd/containerd")
	path := "PATH=" + filepath.Dir(binary) + ":" + os.Getenv("PATH")
	c.component("containerd", []string{path}, binary, "--config", c.Path("containerd/config.toml")).Start(tb)
	ctr := []string{program(tb, "containerd/ctr"), "--address", c.ContainerdSocket(), "--namespace", "k8s.io"}
	eventually(tb, 30*time.Second, "containerd serves", func() error { return c.try(append(ctr, "version")...) })
	for _, image := range []*containerImage{pauseContainer(tb), busyboxContainer(tb)} {
		file := c.Path("image.tar")
		must(tb, image.write(file))
		c.In(tb, append(ctr, "images", "import", "--no-unpack", file)...)
		must(tb, os.Remove(file))
	}
}

// try runs a command inside for its effect.
func (c *Cluster) try(argv ...string) error {
	if out, err := c.Command(argv...).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
