package cluster

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// kubelet collects images when it starts, and then every five minutes. Its first look at how full the file system is comes too early, but the age
// of images it can tell: what no pod uses is too old here at once.
func TestUnusedImagesAreCollected(t *testing.T) {
	c := theCluster(t)
	// It keeps the image of the other tests' containers.
	c.Apply(t, vmPod("user", "")+"\n---\n"+strings.ReplaceAll(vmPod("gone", ""), "virtlet.cloud/tiny", "virtlet.cloud/tiny-9p")+
		"\n---\n"+webPod("keeper", "of: keeper", "something"))
	c.WaitReady(t, "app=user", 1, bootTime)
	c.WaitReady(t, "of=keeper", 1, bootTime)
	c.Kubectl(t, "wait", "pod/gone", "--for=jsonpath={.status.phase}=Running", "--timeout=60s")
	c.Kubectl(t, "delete", "pod", "gone", "--force", "--grace-period=0")
	eventually(t, bootTime, "the pod is gone", func() error {
		if left := c.Crictl(t, c.ProxySocket(), "pods", "--name", "gone", "-q"); strings.Contains(left, "716d6c74") {
			return fmt.Errorf("sandbox %s", left)
		}
		return nil
	})
	if images := c.images(t); !strings.Contains(images, "virtlet.cloud/tiny-9p") {
		t.Fatalf("the image of a pod that was there is gone already:\n%s", images)
	}

	config := string(read(t, c.Path("kubelet.yaml"))) + "imageMinimumGCAge: 1ns\nimageMaximumGCAge: 2ns\n"
	must(t, os.WriteFile(c.Path("collecting.yaml"), []byte(config), 0o644))
	c.changed(t, "kubelet", nil, "--config="+c.Path("collecting.yaml"))
	eventually(t, bootTime, "the image that nobody uses is removed", func() error {
		if images := c.images(t); strings.Contains(images, "virtlet.cloud/tiny-9p") {
			return fmt.Errorf("images:\n%s", images)
		}
		return nil
	})
	c.WaitNodeReady(t)
	for _, used := range []string{"virtlet.cloud/tiny", BusyboxImage[:strings.LastIndex(BusyboxImage, ":")]} {
		if images := c.images(t); !strings.Contains(images, used) {
			t.Errorf("%s is in use and was removed:\n%s", used, images)
		}
	}
	if vm := c.WaitReady(t, "app=user", 1, bootTime)[0]; vm.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Errorf("the VM was restarted: %+v", vm.Status.ContainerStatuses[0])
	}
}

// images is what both runtimes have, as crictl prints it.
func (c *Cluster) images(t *testing.T) string {
	t.Helper()
	return c.Crictl(t, c.ProxySocket(), "images")
}
