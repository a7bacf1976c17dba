package runtime

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Phase is a part of a VM's way that is measured by itself.
type Phase string

// The phases. One may be a part of another.
const (
	PhaseSandbox Phase = "sandbox"    // RunPodSandbox, all of it
	PhaseCNIAdd  Phase = "cni_add"    // its network: namespace, CNI plugins, taps
	PhaseCNIDel  Phase = "cni_del"    // the undoing of that
	PhaseCreate  Phase = "create"     // CreateContainer, all of it
	PhaseDisks   Phase = "disks"      // its disks, side by side
	PhaseSeed    Phase = "cloud_init" // one of them: the cloud-init disk
	PhaseInject  Phase = "files"      // files written into the root disk, by a machine of its own
	PhaseStart   Phase = "start"      // StartContainer, all of it
	PhaseSpawn   Phase = "spawn"      // the QEMU process
	PhaseQMP     Phase = "qmp"        // QEMU's greeting, until the paused machine is ready to run
	PhaseConsole Phase = "console"    // from there to the first byte on the guest's console
	PhaseStop    Phase = "stop"       // StopContainer, the guest's own time included
)

// Phases are all there are.
func Phases() []Phase {
	return []Phase{PhaseSandbox, PhaseCNIAdd, PhaseCNIDel, PhaseCreate, PhaseDisks, PhaseSeed, PhaseInject,
		PhaseStart, PhaseSpawn, PhaseQMP, PhaseConsole, PhaseStop}
}

// Observer is told what happens, to count it. Its methods are called
// concurrently and must not block.
type Observer interface {
	// PhaseEnded tells how long a phase took, and why it failed if it did.
	PhaseEnded(phase Phase, took time.Duration, err error)
	// VMEnded tells the reason of an end; see Reasons.
	VMEnded(reason string)
	// VMRecovered tells what the start of the daemon did with a VM that was
	// recorded as running; see Recoveries.
	VMRecovered(how string)
	// Panicked tells of a defect that was survived.
	Panicked()
}

// What becomes of a VM at the start of the daemon.
const (
	RecoveryAdopted = "adopted" // it runs on
	RecoveryEnded   = "ended"   // it had ended, which was recorded
	RecoveryFailed  = "failed"  // it is shown as UNKNOWN
)

// Recoveries are all there are.
func Recoveries() []string { return []string{RecoveryAdopted, RecoveryEnded, RecoveryFailed} }

// nobody observes nothing.
type nobody struct{}

func (nobody) PhaseEnded(Phase, time.Duration, error) {}
func (nobody) VMEnded(string)                         {}
func (nobody) VMRecovered(string)                     {}
func (nobody) Panicked()                              {}

// phase does a part of a VM's way and measures it. If the request belongs to a
// trace, the part becomes a span of it.
func (r *Runtime) phase(ctx context.Context, phase Phase, do func(context.Context) error) error {
	ctx, span := tracer(ctx).Start(ctx, string(phase))
	begin := time.Now()
	err := do(ctx)
	r.Observer.PhaseEnded(phase, time.Since(begin), err)
	endSpan(span, err)
	return err
}

// phaseEnded is for a part that somebody else has done.
func (r *Runtime) phaseEnded(ctx context.Context, phase Phase, begin, end time.Time, err error) {
	_, span := tracer(ctx).Start(ctx, string(phase), trace.WithTimestamp(begin))
	r.Observer.PhaseEnded(phase, end.Sub(begin), err)
	endSpan(span, err, trace.WithTimestamp(end))
}

// tracer is that of the span which the context is in. Without one it makes
// spans that are nothing and cost nothing.
func tracer(ctx context.Context) trace.Tracer {
	return trace.SpanFromContext(ctx).TracerProvider().Tracer("github.com/qemulet/qemulet/internal/runtime")
}

func endSpan(span trace.Span, err error, o ...trace.SpanEndOption) {
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, "")
	}
	span.End(o...)
}

// traceVM says in the span of a request which VM it has made or is about.
func traceVM(ctx context.Context, v *vm) {
	trace.SpanFromContext(ctx).SetAttributes(attribute.String("container.id", v.id))
}

// firstWord notes when the guest begins to speak.
func (r *Runtime) firstWord(ctx context.Context, v *vm) {
	begin, end := v.record().Started, time.Now()
	if begin.IsZero() {
		return // it does not run yet: what is there is of no guest
	}
	v.mu.Lock()
	v.booted = end.Sub(begin)
	v.mu.Unlock()
	r.phaseEnded(ctx, PhaseConsole, begin, end, nil)
}

func (v *vm) bootTime() time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.booted
}
