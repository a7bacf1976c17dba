package qemu

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkCycle starts a machine, lets it run and kills it, in turns with the same
// process with the same devices started by the least that does it. What is reported
// is the ratio of the medians: a busy host slows both.
func BenchmarkCycle(b *testing.B) {
	v := newVM(b, guestIgnores)
	compare(b, v, func() { cycle(b, v) })
}

// BenchmarkCycleInCgroup is that with a control group of its own.
func BenchmarkCycleInCgroup(b *testing.B) {
	hs := hostHierarchies(b)
	v := newVM(b, guestIgnores)
	compare(b, v, func() {
		c, err := createCgroup(hs, fmt.Sprintf("/qemulet-bench-%d", os.Getpid()), allHostLimits(1<<30))
		if err != nil {
			b.Fatal(err)
		}
		v.o.Cgroup = c
		cycle(b, v)
		if err := c.Delete(b.Context()); err != nil {
			b.Fatal(err)
		}
	})
}

func compare(b *testing.B, v *vm, ours func()) {
	var took, least []time.Duration
	for b.Loop() {
		least = append(least, clock(func() { floor(b, v) }))
		took = append(took, clock(ours))
	}
	b.ReportMetric(float64(median(took))/float64(median(least)), "x-floor")
	b.ReportMetric(float64(median(took).Microseconds())/1000, "ms")
	b.ReportMetric(0, "ns/op")
}

func clock(do func()) time.Duration {
	began := time.Now()
	do()
	return time.Since(began)
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func cycle(b *testing.B, v *vm) {
	m, err := Start(b.Context(), v.inv, v.o)
	if err != nil {
		b.Fatal(err)
	}
	if err := m.Cont(b.Context()); err != nil {
		b.Fatal(err)
	}
	m.Kill()
	<-m.Done()
}

// floor has the same arguments, but sockets that are connected already.
func floor(b *testing.B, v *vm) {
	args := slices.Clone(v.inv.Args)
	for i, a := range args {
		args[i] = strings.TrimSuffix(a, ",server=on,wait=off")
	}
	monitor, qmpFD := benchSockets(b)
	defer monitor.Close()
	console, consoleFD := benchSockets(b)
	defer console.Close()
	cmd := exec.Command(v.inv.Binary, args...)
	cmd.ExtraFiles = []*os.File{qmpFD, consoleFD, v.o.Files["disk"]}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: v.o.Credential, Setsid: true}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	qmpFD.Close()
	consoleFD.Close()
	buf := make([]byte, 4096)
	monitor.Read(buf)
	for _, command := range []string{"qmp_capabilities", "query-status", "cont"} {
		fmt.Fprintf(monitor, "{\"execute\":%q}\n", command)
		if n, err := monitor.Read(buf); err != nil || n == 0 {
			b.Fatal(err)
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
}

func benchSockets(b *testing.B) (ours, theirs *os.File) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	return os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
}

// What a machine costs the process that watches it: memory, goroutines, descriptors,
// and no thread.
func TestCostOfMachine(t *testing.T) {
	noLeaks(t)
	const machines = 6
	before := measure()
	var all []*Machine
	for range machines {
		all = append(all, newVM(t, guestIgnores).start(t))
	}
	after := measure()
	t.Logf("per machine: %d bytes of heap and stack, %.1f goroutines", (after.bytes-before.bytes)/machines, float64(after.goroutines-before.goroutines)/machines)
	if n := after.goroutines - before.goroutines; n > 2*machines {
		t.Errorf("%d goroutines for %d machines", n, machines)
	}
	if n := (after.bytes - before.bytes) / machines; n > 64<<10 {
		t.Errorf("%d bytes for each machine", n)
	}
	if n := after.threads - before.threads; n >= machines {
		t.Errorf("%d threads for %d machines", n, machines)
	}
	for _, m := range all {
		m.Kill()
	}
	for _, m := range all {
		ended(t, m)
	}
}

type cost struct {
	bytes               int64
	goroutines, threads int
}

func measure() cost {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	threads, _ := os.ReadDir("/proc/self/task")
	return cost{bytes: int64(s.HeapAlloc + s.StackInuse), goroutines: runtime.NumGoroutine(), threads: len(threads)}
}
