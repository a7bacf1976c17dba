package runtime

import (
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// observed remembers what an Observer is told.
type observed struct {
	mu     sync.Mutex
	phases map[Phase]int
	failed map[Phase]int
	ends   []string
	found  []string
	panics int
}

func (o *observed) PhaseEnded(p Phase, took time.Duration, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.phases == nil {
		o.phases, o.failed = map[Phase]int{}, map[Phase]int{}
	}
	switch {
	case err != nil:
		o.failed[p]++
	case took >= 0:
		o.phases[p]++
	}
}

func (o *observed) VMEnded(reason string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ends = append(o.ends, reason)
}

func (o *observed) VMRecovered(how string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.found = append(o.found, how)
}

func (o *observed) Panicked() { o.panics++ }

func (o *observed) count(p Phase) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.phases[p]
}

// guestSpeaks prints one byte on the first serial line: mov dx,0x3f8; mov
// al,'x'; out dx,al; cli; hlt; jmp.
const guestSpeaks = "baf803b078eefaf4ebfd"

func TestEveryPhaseIsMeasured(t *testing.T) {
	n := newTestNode(t)
	o := &observed{}
	n.Observer = o
	n.image("speaks", guestSpeaks)
	sandbox, id := n.boot("speaks")
	n.eventually("the guest's first word", func() bool { return o.count(PhaseConsole) == 1 })
	n.must(n.StopContainer(t.Context(), id, 0))
	n.must(n.StopSandbox(t.Context(), sandbox))
	for _, p := range Phases() {
		want := 1
		if p == PhaseInject {
			want = 0 // the pod has no files
		}
		if got := o.count(p); got != want {
			t.Errorf("phase %s was told %d times instead of %d", p, got, want)
		}
	}
	if !slices.Equal(o.ends, []string{reasonError}) || len(o.failed) > 0 {
		t.Errorf("ends %v, failures %v", o.ends, o.failed)
	}
}

func TestFailuresAreCounted(t *testing.T) {
	n := newTestNode(t)
	o := &observed{}
	n.Observer = o
	n.image("ignores", guestIgnores)
	id := n.create(n.run(n.podConfig()), vmConfig("ignores", 0))
	n.Hypervisor = n.hypervisor(n.path("no-qemu"))
	if err := n.StartContainer(t.Context(), id); err == nil {
		t.Error("it started")
	}
	if o.failed[PhaseStart] != 1 || !slices.Equal(o.ends, []string{reasonStartError}) {
		t.Errorf("failures %v, ends %v", o.failed, o.ends)
	}
}

func TestRecoveriesAreCounted(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	_, id := n.boot("ignores")
	_, dead := n.boot("ignores")
	pid := n.pid(dead)
	n.close()
	n.must(syscall.Kill(pid, syscall.SIGKILL))
	if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	n.open()
	o := &observed{}
	n.Observer = o
	n.must(n.Recover(t.Context()))
	slices.Sort(o.found)
	if !slices.Equal(o.found, []string{RecoveryAdopted, RecoveryEnded}) {
		t.Errorf("found %v", o.found)
	}
	n.wantState(id, running, "")
	// An adopted machine is measured as well; its boot was not seen.
	n.eventually("an answer", func() bool {
		all := n.Measure(t.Context())
		return len(all) == 1 && all[0].Answers && all[0].BootTime == 0
	})
}

func TestMeasure(t *testing.T) {
	n := newTestNode(t)
	n.image("speaks", guestSpeaks)
	_, id := n.boot("speaks")
	var m Measurement
	n.eventually("a full measurement", func() bool {
		all := n.Measure(t.Context())
		if len(all) == 1 {
			m = all[0]
		}
		return len(all) == 1 && m.Answers && m.BootTime > 0 && len(m.Sample.Disks) == 2 && m.Sample.Disks[0].ReadOperations > 0
	})
	if m.Container.ID != id || m.Pod.GetName() != "vm-1" || m.Usage.RSS == 0 || len(m.NICs) != 1 {
		t.Errorf("measured %+v", m)
	}
	if d := m.Sample.Disks; d[0].Name != rootDisk || d[1].Name != seedDisk {
		t.Errorf("disks %+v", d)
	}
	if m.Sample.Paused || m.Sample.BalloonBytes != 64<<20 || m.Sample.Guest != nil {
		t.Errorf("a guest without drivers: %+v", m.Sample)
	}
	v, err := n.vm(id)
	n.must(err)
	machine, _, _ := v.running()
	n.must(machine.QMP().Stop(t.Context()))
	n.eventually("the pause", func() bool {
		all := n.Measure(t.Context())
		return len(all) == 1 && all[0].Sample != nil && all[0].Sample.Paused
	})
}

// A machine that hangs is measured from outside, and the others as always.
func TestMeasureBesideAHangingMachine(t *testing.T) {
	n := newTestNode(t)
	n.image("speaks", guestSpeaks)
	_, hung := n.boot("speaks")
	_, well := n.boot("speaks")
	n.eventually("two answers", func() bool {
		all := n.Measure(t.Context())
		return len(all) == 2 && all[0].Answers && all[1].Answers
	})
	n.signal(hung, syscall.SIGSTOP)
	defer n.signal(hung, syscall.SIGCONT)
	for range 3 {
		begin := time.Now()
		all := n.Measure(t.Context())
		if took := time.Since(begin); took > time.Second {
			t.Errorf("it took %v", took)
		}
		if len(all) != 2 {
			t.Fatalf("measured %+v", all)
		}
		for _, m := range all {
			if m.Sample == nil || m.Usage.CPU == 0 {
				t.Errorf("container %s: %+v", m.Container.ID, m)
			}
			if m.Container.ID == hung && m.Answers {
				t.Error("the machine that hangs answers")
			}
			if m.Container.ID == well && time.Since(m.Sample.Time) > time.Second {
				t.Errorf("the other's numbers are %v old", time.Since(m.Sample.Time))
			}
		}
	}
	n.signal(hung, syscall.SIGCONT)
	n.eventually("an answer again", func() bool {
		all := n.Measure(t.Context())
		return len(all) == 2 && all[0].Answers && all[1].Answers
	})
}

// One that never answers is asked less and less.
func TestSamplerGivesUpOnSilence(t *testing.T) {
	var s sampler
	var last time.Duration
	for range 12 {
		s.answer(nil, nil)
		if s.silence < last || s.silence > longestSilence || s.next.Before(time.Now()) {
			t.Fatalf("silence of %v after one of %v", s.silence, last)
		}
		last = s.silence
	}
	if last != longestSilence {
		t.Errorf("the longest silence is %v", last)
	}
	s.answer(nil, &Sample{Time: time.Now()})
	if s.silence != 0 {
		t.Errorf("silence of %v after an answer", s.silence)
	}
}

// What a request does are spans below it, down to the guest's first word, which
// comes when it has been answered.
func TestPhasesAreSpans(t *testing.T) {
	n := newTestNode(t)
	n.image("speaks", guestSpeaks)
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	ctx, call := provider.Tracer("test").Start(t.Context(), "call")
	sandbox, err := n.RunSandbox(ctx, n.podConfig(), "")
	n.must(err)
	id, err := n.CreateContainer(ctx, sandbox, vmConfig("speaks", 0), nil)
	n.must(err)
	n.must(n.StartContainer(ctx, id))
	call.End()
	parents := map[Phase]Phase{
		PhaseSandbox: "call", PhaseCNIAdd: PhaseSandbox, PhaseCreate: "call", PhaseDisks: PhaseCreate, PhaseSeed: PhaseDisks,
		PhaseStart: "call", PhaseSpawn: PhaseStart, PhaseQMP: PhaseStart, PhaseConsole: PhaseStart,
	}
	n.eventually("all spans", func() bool { return len(recorder.Ended()) == len(parents)+1 })
	names := map[trace.SpanID]string{}
	for _, s := range recorder.Ended() {
		names[s.SpanContext().SpanID()] = s.Name()
	}
	for _, s := range recorder.Ended() {
		if s.SpanContext().TraceID() != call.SpanContext().TraceID() {
			t.Errorf("%s is of another trace", s.Name())
		}
		if got := names[s.Parent().SpanID()]; got != string(parents[Phase(s.Name())]) {
			t.Errorf("%s is below %q", s.Name(), got)
		}
		if s.EndTime().Before(s.StartTime()) {
			t.Errorf("%s ends before it begins", s.Name())
		}
	}
}
