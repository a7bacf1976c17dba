package runtime

import (
	"context"
	"sync"
	"time"

	"github.com/qemulet/qemulet/qemu"
	"github.com/qemulet/qemulet/qmp"
)

const (
	// sampleLimit is how long a machine may take to answer before it is taken
	// for one that hangs, and asked less often: what it is asked waits in its
	// socket until it lives again.
	sampleLimit    = 5 * time.Second
	longestSilence = 5 * time.Minute
	// guestPolling is how often a guest is asked for its memory, once somebody
	// wants to know.
	guestPolling = 10 * time.Second
	// sampleAge is how old numbers may be that are shown.
	sampleAge = time.Minute
)

// DiskStats are a disk's counters since the machine's start. They are QEMU's.
type DiskStats struct {
	// Name is the disk's serial number, which is made of its name in the manifest.
	Name string
	qmp.BlockCounter
}

// Sample is what a machine says of itself when it is asked.
type Sample struct {
	// Time is when it answered.
	Time time.Time
	// Paused is true while the guest does not run, because somebody or a full
	// disk has stopped it.
	Paused bool
	// BalloonBytes are the part of the RAM that the guest has at the moment.
	BalloonBytes int64
	Disks        []DiskStats
	// Guest is the guest's own view of its memory, nil if it has no driver for
	// the balloon, or has not been heard for a while.
	Guest *qmp.GuestMemory
}

// sampler asks a machine for a Sample, one question at a time. The zero value
// is ready.
type sampler struct {
	mu      sync.Mutex
	machine *qemu.Machine     // of which all below is
	asking  chan struct{}     // closed when the question that is under way has ended; nil without one
	last    *Sample           // nil until there is one
	serials map[string]string // of the disks, by node
	silence time.Duration     // how long not to ask after a question without answer
	next    time.Time         // when to ask again
}

// ask has the machine, if there is one, asked unless it is being asked, or hangs.
// It returns what is closed when that is over.
func (s *sampler) ask(r *Runtime, m *qemu.Machine) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.machine != m {
		s.machine, s.last, s.serials, s.silence, s.next = m, nil, nil, 0, time.Time{}
	}
	if s.asking != nil {
		return s.asking
	}
	over := make(chan struct{})
	if m == nil || !m.Responsive() || time.Now().Before(s.next) {
		close(over)
		return over
	}
	s.asking = over
	r.wg.Go(func() {
		defer close(over)
		ctx, cancel := context.WithTimeout(r.background, sampleLimit)
		defer cancel()
		s.answer(m, s.question(ctx, m.QMP()))
	})
	return over
}

// answer notes the outcome of a question, nil for none.
func (s *sampler) answer(m *qemu.Machine, got *Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asking = nil
	if s.machine != m {
		return
	}
	if got == nil {
		s.silence = min(max(2*s.silence, sampleLimit), longestSilence)
		s.next = time.Now().Add(s.silence)
		return
	}
	s.last, s.silence = got, 0
}

// sample is the last answer that is worth showing, nil if there is none, and
// whether the last question was answered.
func (s *sampler) sample() (last *Sample, answers bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil || time.Since(s.last.Time) > sampleAge {
		return nil, false
	}
	return s.last, s.asking == nil && s.silence == 0 && s.machine.Responsive()
}

// question is nil when the machine does not answer.
func (s *sampler) question(ctx context.Context, mon *qmp.Conn) *Sample {
	status, err := mon.QueryStatus(ctx)
	if err != nil {
		return nil
	}
	got := &Sample{Paused: !status.Running}
	drives, err := mon.QueryBlockStats(ctx)
	if err != nil {
		return nil
	}
	names, known := s.disks(ctx, mon, drives)
	for _, d := range drives {
		if d.NodeName != "" {
			got.Disks = append(got.Disks, DiskStats{Name: names[d.NodeName], BlockCounter: d.Stats})
		}
	}
	if !known {
		// The first question: from now on the guest is asked, too.
		_ = mon.SetGuestMemoryPolling(ctx, qemu.BalloonPath, guestPolling)
	}
	// A guest without a driver has neither.
	got.BalloonBytes, _ = mon.QueryBalloon(ctx)
	if g, err := mon.GuestMemory(ctx, qemu.BalloonPath); err == nil && g != nil && time.Since(g.Updated) < sampleAge {
		got.Guest = g
	}
	got.Time = time.Now()
	return got
}

// disks tells the serial numbers of the disks by their nodes, and whether they
// were known before. Disks do not change while a machine runs.
func (s *sampler) disks(ctx context.Context, mon *qmp.Conn, drives []qmp.BlockStats) (names map[string]string, known bool) {
	s.mu.Lock()
	names = s.serials
	s.mu.Unlock()
	if names != nil {
		return names, true
	}
	names = map[string]string{}
	for _, d := range drives {
		names[d.NodeName] = diskName(ctx, mon, d.NodeName)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serials = names
	return names, false
}
