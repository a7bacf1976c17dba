package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func (c *Cluster) kubectl(tb testing.TB, args ...string) []string {
	tb.Helper()
	return append([]string{program(tb, "kubernetes"), "kubectl", "--kubeconfig", c.Path("kubeconfig")}, args...)
}

func (c *Cluster) crictl(tb testing.TB, socket string, args ...string) []string {
	tb.Helper()
	return append([]string{program(tb, "crictl"), "--runtime-endpoint", "unix://" + socket, "--image-endpoint", "unix://" + socket, "--timeout", "30s"}, args...)
}

// KubectlCommand is a kubectl that the test runs itself, such as one with a terminal.
func (c *Cluster) KubectlCommand(tb testing.TB, args ...string) *exec.Cmd {
	tb.Helper()
	return c.Command(c.kubectl(tb, args...)...)
}

// TryKubectl runs kubectl; what it says on stderr is in the error.
func (c *Cluster) TryKubectl(tb testing.TB, args ...string) (string, error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	argv := c.first.enter(c.kubectl(tb, args...)...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = plainEnviron()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), err
}

// Kubectl runs kubectl, which has to succeed.
func (c *Cluster) Kubectl(tb testing.TB, args ...string) string {
	tb.Helper()
	out, err := c.TryKubectl(tb, args...)
	must(tb, err)
	return out
}

// Crictl runs crictl against a socket.
func (c *Cluster) Crictl(tb testing.TB, socket string, args ...string) string {
	tb.Helper()
	return c.In(tb, c.crictl(tb, socket, args...)...)
}

// Apply creates or changes objects, given as YAML. They are deleted when the test ends, and what they own before them.
func (c *Cluster) Apply(tb testing.TB, manifest string) {
	tb.Helper()
	tb.Cleanup(func() {
		if tb.Failed() {
			c.Report(tb)
		}
		if err := c.feed(tb, manifest, "delete", "--ignore-not-found", "--wait", "--cascade=foreground", "--timeout=90s", "-f", "-"); err != nil {
			tb.Error(err)
		}
	})
	must(tb, c.feed(tb, manifest, "apply", "-f", "-"))
}

func (c *Cluster) feed(tb testing.TB, manifest string, args ...string) error {
	tb.Helper()
	cmd := c.KubectlCommand(tb, args...)
	cmd.Stdin = strings.NewReader(manifest)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// Get reads one object into a value with JSON tags.
func (c *Cluster) Get(tb testing.TB, into any, args ...string) {
	tb.Helper()
	must(tb, json.Unmarshal([]byte(c.Kubectl(tb, append(append([]string{"get"}, args...), "-o", "json")...)), into))
}

// WaitReady waits until as many pods of a label selector as wanted are Ready, and none else is left.
func (c *Cluster) WaitReady(tb testing.TB, selector string, want int, limit time.Duration) []Pod {
	tb.Helper()
	var pods []Pod
	eventually(tb, limit, fmt.Sprintf("%d pods of %s are Ready", want, selector), func() error {
		pods = c.Pods(tb, selector)
		ready := 0
		for _, p := range pods {
			if p.Ready() {
				ready++
			}
		}
		if ready != want || len(pods) != want {
			return fmt.Errorf("%d of %d pods are Ready: %s", ready, len(pods), c.Kubectl(tb, "get", "pods", "-l", selector))
		}
		return nil
	})
	return pods
}

// Pods lists the pods of a label selector.
func (c *Cluster) Pods(tb testing.TB, selector string) []Pod {
	tb.Helper()
	var list struct{ Items []Pod }
	c.Get(tb, &list, "pods", "-l", selector)
	return list.Items
}

// Pod is the part of a pod that the tests look at.
type Pod struct {
	Metadata struct {
		Name, UID         string
		Annotations       map[string]string
		DeletionTimestamp string
	}
	Status struct {
		Phase, PodIP, HostIP, QOSClass string
		Conditions                     []struct{ Type, Status, Reason, Message string }
		ContainerStatuses              []ContainerStatus
	}
}

// ContainerStatus is the part of a container's status that the tests look at.
type ContainerStatus struct {
	Name, ContainerID, ImageID string
	Ready                      bool
	RestartCount               int
	State, LastState           struct {
		Running    *struct{ StartedAt string }
		Waiting    *struct{ Reason, Message string }
		Terminated *struct {
			ExitCode        int
			Reason, Message string
		}
	}
}

// Ready tells whether the pod is, and stays.
func (p Pod) Ready() bool {
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True" && p.Metadata.DeletionTimestamp == ""
		}
	}
	return false
}

// Report logs what a person would look at first.
func (c *Cluster) Report(tb testing.TB) {
	tb.Helper()
	for _, args := range [][]string{{"get", "pods", "-A", "-o", "wide"}, {"get", "events", "--sort-by=.lastTimestamp"}} {
		out, err := c.TryKubectl(tb, args...)
		tb.Logf("== kubectl %s\n%s%v", strings.Join(args, " "), lastLines(out, 40), err)
	}
	for _, name := range []string{"qemulet", "criproxy", "kubelet"} {
		tb.Logf("== end of %s.log\n%s", name, tail(c.Path("log", name+".log"), 25))
	}
}

func lastLines(text string, n int) string {
	all := strings.Split(text, "\n")
	return strings.Join(all[max(0, len(all)-n):], "\n")
}
