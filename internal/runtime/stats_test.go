package runtime

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func all(Container) bool { return true }

func TestStats(t *testing.T) {
	n := newTestNode(t)
	n.image("spins", "faebfe") // cli; jmp
	_, id := n.boot("spins")
	created := n.create(n.run(n.podConfig()), vmConfig("spins", 0))
	first, err := n.Stats(id)
	n.must(err)
	n.eventually("the guest's processor time", func() bool {
		s, err := n.Stats(id)
		return err == nil && s.Usage.CPU > first.Usage.CPU+20*time.Millisecond
	})
	if u := first.Usage; u.RSS < 10<<20 || u.WorkingSet < u.RSS/2 || u.Memory < u.WorkingSet {
		t.Errorf("usage of a running VM: %+v", u)
	}
	if first.Usage.Processes != 1 || first.DiskBytes == 0 || first.Inodes < 3 {
		t.Errorf("%d processes, %d bytes in %d files", first.Usage.Processes, first.DiskBytes, first.Inodes)
	}
	if s, err := n.Stats(created); err != nil || s.Usage != (Usage{}) || s.DiskBytes == 0 {
		t.Errorf("of a VM that was not started: %+v, %v", s, err)
	}
	if _, err := n.Stats("ff"); !errdefs.IsNotFound(err) {
		t.Errorf("of none: %v", err)
	}
	n.signal(id, syscall.SIGSTOP)
	defer n.signal(id, syscall.SIGCONT)
	begin := time.Now()
	if got := n.RunningStats(all); len(got) != 1 || got[0].Container.ID != id {
		t.Errorf("running: %+v", got)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("a VM that is stopped delays the list by %v", took)
	}
}

func TestUpdateResources(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	_, id := n.boot("ignores")
	update := func(r *runtimeapi.LinuxContainerResources) error { return n.UpdateResources(t.Context(), id, r) }
	n.must(update(&runtimeapi.LinuxContainerResources{CpuShares: 300, CpuPeriod: 100_000, CpuQuota: 50_000}))
	n.must(update(&runtimeapi.LinuxContainerResources{CpusetCpus: "0", MemoryLimitInBytes: 32 << 20}))
	c, err := n.Container(id)
	n.must(err)
	want := &runtimeapi.LinuxContainerResources{CpuShares: 300, CpuPeriod: 100_000, CpuQuota: 50_000, CpusetCpus: "0", MemoryLimitInBytes: 32 << 20}
	if c.Resources.String() != want.String() {
		t.Errorf("resources %v, want %v", c.Resources, want)
	}
	for name, bad := range map[string]struct {
		r     *runtimeapi.LinuxContainerResources
		class func(error) bool
		word  string
	}{
		"more memory":  {&runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 128 << 20}, errdefs.IsFailedPrecondition, "67108864 bytes of RAM"},
		"no memory":    {&runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 4096}, errdefs.IsInvalidArgument, "needs 16777216 bytes"},
		"no processor": {&runtimeapi.LinuxContainerResources{CpusetCpus: "4000", CpuShares: 2}, errdefs.IsInvalidArgument, "4000"},
	} {
		if err := update(bad.r); !bad.class(err) || !strings.Contains(err.Error(), bad.word) {
			t.Errorf("%s: %v", name, err)
		}
	}
	n.crash(nil)
	if c, err := n.Container(id); err != nil || c.Resources.String() != want.String() {
		t.Errorf("after a restart: %v, %v", c.Resources, err)
	}
	n.must(update(&runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 64 << 20}))
	n.must(n.StopContainer(t.Context(), id, 0))
	if err := update(want); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("of a VM that has ended: %v", err)
	}
}

func TestEvents(t *testing.T) {
	n := newTestNode(t)
	n.image("obeys", guestObeys)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan Event, 100)
	done := make(chan error, 1)
	ready := n.listeners()
	go func() { done <- n.Events(ctx, func(e Event) error { got <- e; return nil }) }()
	n.eventually("a listener", func() bool { return n.listeners() > ready })
	sandbox, id := n.boot("obeys")
	n.must(n.StopContainer(ctx, id, 30*time.Second))
	n.must(n.RemoveContainer(ctx, id))
	n.removePod(sandbox)
	for _, want := range []struct {
		id   string
		what runtimeapi.ContainerEventType
	}{
		{sandbox, runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT},
		{sandbox, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT},
		{id, runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT},
		{id, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT},
		{id, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT},
		{id, runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT},
		{sandbox, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT},
		{sandbox, runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT},
	} {
		e := <-got
		if e.ID != want.id || e.Type != want.what || e.SandboxID != sandbox || e.Metadata.GetName() == "" || e.Time.IsZero() {
			t.Errorf("%+v, want %v of %s", e, want.what, want.id)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func (n *testNode) listeners() int {
	n.events.mu.Lock()
	defer n.events.mu.Unlock()
	return len(n.events.listeners)
}

// Who does not listen holds nobody up, and sees the newest when it does.
func TestSlowConsumerOfEvents(t *testing.T) {
	n := newTestNode(t)
	ch := n.events.listen()
	defer n.events.leave(ch)
	p, err := n.pod(n.run(n.podConfig()))
	n.must(err)
	for range 3 * maxPending {
		n.events.tell(p, "old", 0)
	}
	n.events.tell(p, "new", 0)
	var last Event
	for len(ch) > 0 {
		last = <-ch
	}
	if last.ID != "new" {
		t.Errorf("the last event is %q", last.ID)
	}
}
