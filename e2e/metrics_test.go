package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

// scrape asks for the metrics as Prometheus does, and takes their values by name
// and labels.
func scrape(t *testing.T, n *node.Node) map[string]float64 {
	t.Helper()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", n.APISocket())
		}}}
	resp, err := client.Get("http://daemon/metrics")
	check(t, err)
	defer resp.Body.Close()
	values := map[string]float64{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		at := strings.LastIndexByte(lines.Text(), ' ')
		if at < 0 || strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		if v, err := strconv.ParseFloat(lines.Text()[at+1:], 64); err == nil {
			values[lines.Text()[:at]] = v
		}
	}
	return values
}

// ofVM is the series of a VM; more are labels that sort before "namespace".
func ofVM(name, pod, more string) string {
	return fmt.Sprintf(`qemulet_vm_%s{%snamespace="default",pod=%q}`, name, more, pod)
}

const rootDisk = `disk="root",`

// awaitMetrics scrapes until ok is content.
func awaitMetrics(t *testing.T, n *node.Node, what string, ok func(map[string]float64) bool) map[string]float64 {
	t.Helper()
	var got map[string]float64
	node.Eventually(t, node.BootLimit, func() error {
		if got = scrape(t, n); !ok(got) {
			return fmt.Errorf("not yet: %s", what)
		}
		return nil
	})
	return got
}

func TestMetricsOfVMs(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	one, two := n.NewVM(t, "one", nil), n.NewVM(t, "two", nil)
	one.Run(t)
	first := n.QEMUs()
	two.Run(t)
	one.WaitReady(t)
	two.WaitReady(t)
	before := awaitMetrics(t, n, "the guests' own view of their memory", func(m map[string]float64) bool {
		return m[ofVM("guest_memory_total_bytes", "one", "")] > 0 && m[ofVM("guest_memory_total_bytes", "two", "")] > 0
	})
	for series, least := range map[string]float64{
		ofVM("cpu_seconds_total", "one", ""):                                  0.1,
		ofVM("memory_rss_bytes", "one", ""):                                   20 << 20,
		ofVM("boot_duration_seconds", "one", ""):                              0.001,
		ofVM("uptime_seconds", "one", ""):                                     1,
		ofVM("guest_memory_available_bytes", "one", ""):                       10 << 20,
		ofVM("disk_read_bytes_total", "one", rootDisk):                        1 << 20,
		ofVM("disk_reads_total", "two", `disk="seed",`):                       1,
		ofVM("monitor_up", "two", ""):                                         1,
		`qemulet_vms{state="running"}`:                                        2,
		`qemulet_phase_duration_seconds_count{phase="console"}`:               2,
		`qemulet_phase_duration_seconds_count{phase="qmp"}`:                   2,
		`qemulet_phase_duration_seconds_count{phase="pull"}`:                  1,
		`qemulet_cri_requests_total{code="OK",method="Version"}`:              1,
		`qemulet_cri_request_duration_seconds_count{method="StartContainer"}`: 2,
	} {
		if before[series] < least {
			t.Errorf("%s is %v, not at least %v", series, before[series], least)
		}
	}
	if total := before[ofVM("guest_memory_total_bytes", "one", "")]; total > 96<<20 {
		t.Errorf("a guest of 96 MiB has %v", total)
	}
	// The numbers follow what the guest does.
	one.WaitInfo(t)
	one.Attach(t).Command("dd if=/dev/vda of=/dev/null bs=1M count=16 skip=2 2>/dev/null; dd if=/dev/vda of=/dev/null bs=1M count=16 iflag=direct 2>/dev/null")
	after := scrape(t, n)
	for series, more := range map[string]float64{
		ofVM("disk_read_bytes_total", "one", rootDisk):                   8 << 20,
		ofVM("cpu_seconds_total", "one", ""):                             0.01,
		ofVM("network_receive_bytes_total", "one", `interface="eth0",`):  100,
		ofVM("network_transmit_bytes_total", "one", `interface="eth0",`): 100,
	} {
		if after[series] < before[series]+more {
			t.Errorf("%s was %v and is %v", series, before[series], after[series])
		}
	}
	hangingQEMU(t, n, first[0].PID)
	one.Stop(t, 0)
	two.Attach(t).Send("poweroff -f\n")
	two.WaitExited(t, node.BootLimit)
	end := scrape(t, n)
	if end[`qemulet_vm_exits_total{reason="Error"}`] != 1 || end[`qemulet_vm_exits_total{reason="Completed"}`] != 1 || end[`qemulet_vms{state="exited"}`] != 2 {
		t.Errorf("ends: %v", end)
	}
	if _, there := end[ofVM("cpu_seconds_total", "one", "")]; there {
		t.Error("a VM that has ended is measured")
	}
}

// hangingQEMU stops the process of the VM "one" for a while: no collection waits
// for it, and the other VM's numbers are fresh.
func hangingQEMU(t *testing.T, n *node.Node, pid int) {
	t.Helper()
	check(t, syscall.Kill(pid, syscall.SIGSTOP))
	defer syscall.Kill(pid, syscall.SIGCONT)
	last := scrape(t, n)
	for range 5 {
		begin := time.Now()
		now := scrape(t, n)
		if took := time.Since(begin); took > time.Second {
			t.Errorf("beside a QEMU that hangs, metrics took %v", took)
		}
		if now[ofVM("monitor_up", "one", "")] != 0 || now[ofVM("memory_rss_bytes", "one", "")] == 0 {
			t.Errorf("the one that hangs: %v", now)
		}
		if now[ofVM("uptime_seconds", "two", "")] <= last[ofVM("uptime_seconds", "two", "")] {
			t.Error("the other's numbers stand still")
		}
		last = now
	}
	check(t, syscall.Kill(pid, syscall.SIGCONT))
	awaitMetrics(t, n, "answers of both", func(m map[string]float64) bool {
		return m[ofVM("monitor_up", "one", "")] == 1 && m[ofVM("monitor_up", "two", "")] == 1
	})
}

// A guest whose disk cannot grow is paused, its owner is told, and it goes on
// when there is room.
func TestDiskFullIsTold(t *testing.T) {
	t.Parallel()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	n := node.New(t, node.Options{Args: []string{"--debug-commands", "all", "--kubeconfig", kubeconfig}})
	a := n.APIServer(t, kubeconfig)
	n.SmallState(t, 40<<20)
	n.StartDaemon(t)
	n.Web.Guest(t, "tiny", "tiny")
	vm := n.NewVM(t, "full", nil)
	_, err := n.Images.PullImage(seconds(t, 60), &runtimeapi.PullImageRequest{Image: vm.Config.Image, SandboxConfig: vm.Pod})
	check(t, err)
	vm.Run(t)
	vm.WaitReady(t)
	filler := filepath.Join(n.Dir, "state", "filler")
	n.Fill(t, filler)
	console := vm.Attach(t)
	console.Send("dd if=/dev/urandom of=/dev/vda bs=1M seek=4 count=8 oflag=direct; echo wri''tten\n")
	awaitMetrics(t, n, "the pause", func(m map[string]float64) bool { return m[ofVM("paused", "full", "")] == 1 })
	e := waitEvent(t, a, "DiskFull")
	if e.Type != "Warning" || e.InvolvedObject.Name != "full" || e.InvolvedObject.UID != vm.Pod.Metadata.Uid || !strings.Contains(e.Message, "disk root") {
		t.Errorf("the Event %+v", e)
	}
	check(t, os.Remove(filler))
	n.DialDebug(t, vm).Execute(t, "cont")
	console.Expect("written", node.BootLimit)
	console.Send("poweroff -f\n")
	if e := waitEvent(t, a, "GuestPoweredOff"); e.Type != "Normal" {
		t.Errorf("the Event %+v", e)
	}
	if e := waitEvent(t, a, "ImageTranslated"); !strings.Contains(e.Message, "rule ") || !strings.Contains(e.Message, "virtlet.cloud/tiny") {
		t.Errorf("the Event %+v", e)
	}
}

type event struct {
	Type, Reason, Message string
	InvolvedObject        struct{ Name, UID string }
}

func waitEvent(t *testing.T, a *node.APIServer, reason string) (found event) {
	t.Helper()
	node.Eventually(t, 20*time.Second, func() error {
		for _, raw := range a.Written("/api/v1/namespaces/default/events") {
			var e event
			if err := json.Unmarshal(raw, &e); err != nil {
				t.Fatal(err)
			}
			if e.Reason == reason {
				found = e
				return nil
			}
		}
		return fmt.Errorf("no Event %s", reason)
	})
	return found
}
