package metrics

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/ids"
	"github.com/qemulet/qemulet/internal/images"
	"github.com/qemulet/qemulet/internal/runtime"
	"github.com/qemulet/qemulet/qmp"
)

type fakeVMs []runtime.Measurement

func (f fakeVMs) Measure(context.Context) []runtime.Measurement { return f }
func (f fakeVMs) Containers() []runtime.Container {
	return []runtime.Container{{State: runtimeapi.ContainerState_CONTAINER_RUNNING}, {State: runtimeapi.ContainerState_CONTAINER_EXITED}, {State: runtimeapi.ContainerState_CONTAINER_EXITED}}
}
func (f fakeVMs) Sandboxes() []runtime.Sandbox { return []runtime.Sandbox{{Ready: true}, {}} }

func number(n uint64) *uint64 { return &n }

var testID = ids.New()

// measured is a VM of which everything is known.
func measured(pod string) runtime.Measurement {
	start := time.Unix(1000, 0)
	return runtime.Measurement{
		Pod: &runtimeapi.PodSandboxMetadata{Namespace: "shop", Name: pod, Uid: "u-1"},
		Stats: runtime.Stats{
			Container: runtime.Container{ID: testID, StartedAt: start, Config: &runtimeapi.ContainerConfig{
				Metadata: &runtimeapi.ContainerMetadata{Name: "vm"}, Image: &runtimeapi.ImageSpec{UserSpecifiedImage: "virtlet.cloud/cirros"},
			}},
			Time:      start.Add(90 * time.Second),
			Usage:     runtime.Usage{CPU: 1500 * time.Millisecond, Memory: 64 << 20, OOMKills: 1},
			DiskBytes: 4096,
		},
		NICs:     []runtime.NICStats{{Name: "eth0", RxBytes: 10, TxPackets: 3}, {Name: "net1", RxBytes: 20}},
		BootTime: 2 * time.Second,
		Answers:  true,
		Sample: &runtime.Sample{
			BalloonBytes: 32 << 20,
			Disks:        []runtime.DiskStats{{Name: "root", BlockCounter: qmp.BlockCounter{ReadBytes: 512, WriteTimeNS: 2_500_000_000}}, {Name: "seed"}},
			Guest: &qmp.GuestMemory{Total: number(60 << 20), Free: number(1 << 20), Available: number(2 << 20), Caches: number(3 << 20),
				SwapIn: number(1), SwapOut: number(2), MajorFaults: number(3)},
		},
	}
}

// full has a value in every series that there can be.
func full() *Metrics {
	m := New("1")
	m.Watch(fakeImages{downloads: []images.Download{{Ref: "a", Total: 1}}})
	m.PullEnded(images.Ended{})
	m.WatchVMs(fakeVMs{measured("db-0")})
	m.Requested("RunPodSandbox", "OK", time.Second)
	m.Hypervisor("tcg", "7.2.22", true)
	m.PhaseEnded(runtime.PhaseSpawn, time.Second, nil)
	m.PhaseEnded(runtime.PhaseSpawn, time.Second, errors.New("no memory"))
	m.VMEnded("OOMKilled")
	m.VMRecovered(runtime.RecoveryAdopted)
	m.Panicked()
	return m
}

func TestVMs(t *testing.T) {
	text := scrape(t, full())
	for _, line := range []string{
		`qemulet_vm_info{container="vm",image="virtlet.cloud/cirros",namespace="shop",pod="db-0",uid="u-1",vm="` + ids.Short(testID) + `"} 1`,
		`qemulet_vms{state="running"} 1`,
		`qemulet_vms{state="exited"} 2`,
		`qemulet_vms{state="created"} 0`,
		`qemulet_sandboxes{state="notready"} 1`,
		`qemulet_vm_start_time_seconds{namespace="shop",pod="db-0"} 1000`,
		`qemulet_vm_uptime_seconds{namespace="shop",pod="db-0"} 90`,
		`qemulet_vm_boot_duration_seconds{namespace="shop",pod="db-0"} 2`,
		`qemulet_vm_cpu_seconds_total{namespace="shop",pod="db-0"} 1.5`,
		`qemulet_vm_memory_usage_bytes{namespace="shop",pod="db-0"} 6.7108864e+07`,
		`qemulet_vm_oom_kills_total{namespace="shop",pod="db-0"} 1`,
		`qemulet_vm_monitor_up{namespace="shop",pod="db-0"} 1`,
		`qemulet_vm_paused{namespace="shop",pod="db-0"} 0`,
		`qemulet_vm_guest_memory_available_bytes{namespace="shop",pod="db-0"} 2.097152e+06`,
		`qemulet_vm_disk_read_bytes_total{disk="root",namespace="shop",pod="db-0"} 512`,
		`qemulet_vm_disk_write_seconds_total{disk="root",namespace="shop",pod="db-0"} 2.5`,
		`qemulet_vm_network_receive_bytes_total{interface="net1",namespace="shop",pod="db-0"} 20`,
		`qemulet_vm_network_transmit_packets_total{interface="eth0",namespace="shop",pod="db-0"} 3`,
		`qemulet_phase_duration_seconds_count{phase="spawn"} 1`,
		`qemulet_phase_duration_seconds_count{phase="pull"} 1`,
		`qemulet_phase_duration_seconds_count{phase="console"} 0`,
		`qemulet_phase_failures_total{phase="spawn"} 1`,
		`qemulet_vm_exits_total{reason="OOMKilled"} 1`,
		`qemulet_vm_exits_total{reason="Completed"} 0`,
		`qemulet_recoveries_total{result="adopted"} 1`,
		`qemulet_cri_requests_total{code="OK",method="RunPodSandbox"} 1`,
		`qemulet_cri_request_duration_seconds_sum{method="RunPodSandbox"} 1`,
		`qemulet_panics_total 1`,
		`qemulet_hypervisor_info{accel="tcg",fallback="true",version="7.2.22"} 1`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("%s is missing:\n%s", line, text)
		}
	}
}

// What a VM does not tell is not there, rather than 0; and the rest is.
func TestSilentVM(t *testing.T) {
	vm := measured("mute")
	vm.Sample, vm.Answers, vm.NICs, vm.BootTime = nil, false, nil, 0
	m := New("1")
	m.WatchVMs(fakeVMs{vm})
	text := scrape(t, m)
	for _, absent := range []string{"qemulet_vm_disk_read", "qemulet_vm_guest", "qemulet_vm_paused", "qemulet_vm_network", "qemulet_vm_boot_duration"} {
		if strings.Contains(text, absent) {
			t.Errorf("%s is there: %s", absent, text)
		}
	}
	for _, there := range []string{`qemulet_vm_monitor_up{namespace="shop",pod="mute"} 0`, "qemulet_vm_cpu_seconds_total"} {
		if !strings.Contains(text, there) {
			t.Errorf("%s is missing: %s", there, text)
		}
	}
}

// A pod that is made again while its predecessor ends has the same name.
func TestTwoVMsOfOneName(t *testing.T) {
	old, young := measured("db-0"), measured("db-0")
	young.Container.StartedAt = young.Container.StartedAt.Add(time.Minute)
	for _, order := range []fakeVMs{{old, young}, {young, old}} {
		m := New("1")
		m.WatchVMs(order)
		if text := scrape(t, m); !strings.Contains(text, `qemulet_vm_start_time_seconds{namespace="shop",pod="db-0"} 1060`) {
			t.Errorf("the young one's numbers are missing: %s", text)
		}
	}
}

// The names and helps keep Prometheus' rules.
func TestNames(t *testing.T) {
	problems, err := testutil.GatherAndLint(full().registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
