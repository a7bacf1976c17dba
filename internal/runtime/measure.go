package runtime

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"golang.org/x/sync/errgroup"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/store"
)

const (
	// measureParallel VMs are measured side by side.
	measureParallel = 8
	// measurePatience is how long all machines together may take to answer;
	// those that do not are shown with their last answer.
	measurePatience = 250 * time.Millisecond
)

// Measurement is all that can be measured of a running VM.
type Measurement struct {
	Stats
	// Pod is its pod's metadata.
	Pod *runtimeapi.PodSandboxMetadata
	// NICs are the pod's, as its guest would count them.
	NICs []NICStats
	// BootTime is how long the guest took to its first word on the console; 0
	// when it has said none, or when that was not seen by this daemon.
	BootTime time.Duration
	// Answers tells whether the machine's monitor has answered this time.
	Answers bool
	// Sample is its answer, or its last one of the past minute; nil for none.
	Sample *Sample
}

// Measure measures all VMs that run. A machine that hangs, and a guest that does
// nothing, delay it by a fraction of a second at most. One that ends at this
// moment is left out.
func (r *Runtime) Measure(ctx context.Context) []Measurement {
	ctx, cancel := context.WithTimeout(ctx, measurePatience)
	defer cancel()
	vms := r.runningVMs()
	over := make([]<-chan struct{}, len(vms))
	for i, v := range vms {
		over[i] = r.ask(v) // they answer while the rest is measured
	}
	all := make([]*Measurement, len(vms))
	var g errgroup.Group
	g.SetLimit(measureParallel)
	for i, v := range vms {
		g.Go(func() error {
			all[i] = r.measureVM(v)
			return nil
		})
	}
	_ = g.Wait()
	var measured []Measurement
	for i, m := range all {
		if m == nil {
			continue
		}
		select {
		case <-over[i]:
		case <-ctx.Done():
		}
		m.Sample, m.Answers = vms[i].sampler.sample()
		measured = append(measured, *m)
	}
	return measured
}

func (r *Runtime) runningVMs() []*vm {
	var running []*vm
	for _, v := range r.allVMs() {
		switch v.record().Phase {
		case store.ContainerRunning, store.ContainerStopping:
			running = append(running, v)
		}
	}
	return running
}

// ask has a VM's machine asked, and returns what is closed when that is over.
func (r *Runtime) ask(v *vm) <-chan struct{} {
	m, _, _ := v.running()
	return v.sampler.ask(r, m)
}

// measureVM measures what no machine has to be asked for; nil if there is
// nothing to measure.
func (r *Runtime) measureVM(v *vm) *Measurement {
	stats, err := r.statsOf(v)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			r.vmLog(v).Warn("a VM cannot be measured", "error", err)
		}
		return nil
	}
	m := &Measurement{Stats: stats, Pod: v.pod.config().GetMetadata(), BootTime: v.bootTime()}
	if n := v.pod.network(); n != nil {
		if m.NICs, err = n.Stats(r.background); err != nil && v.pod.record().Phase == store.SandboxReady {
			r.podLog(v.pod).Warn("a pod's network cannot be measured", "error", err)
		}
	}
	return m
}
