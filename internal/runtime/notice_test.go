package runtime

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	goqemu "github.com/digitalocean/go-qemu/qmp"

	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/qemu"
)

// told remembers what owners of pods were told.
type told struct {
	mu  sync.Mutex
	all []Notice
}

func (o *told) tell(n Notice) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, n)
}

func (o *told) find(reason string) (Notice, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := slices.IndexFunc(o.all, func(n Notice) bool { return n.Reason == reason })
	if i < 0 {
		return Notice{}, false
	}
	return o.all[i], true
}

// guestResets writes 6 to port 0xcf9 again and again, which resets the machine.
const guestResets = "baf90cb006eeebfd"

func TestOwnersAreTold(t *testing.T) {
	n := newTestNode(t)
	o := &told{}
	n.Tell = o.tell
	n.image("off", guestPowersOff)
	n.image("resets", guestResets)
	_, id := n.boot("off")
	n.awaitEnd(id)
	if got, ok := o.find(NoticePoweredOff); !ok || got.Warning || got.Pod.GetName() != "vm-1" || got.Pod.GetUid() == "" {
		t.Errorf("a guest that powered off: %+v", o.all)
	}
	if _, ok := o.find(NoticeEmulated); ok {
		t.Error("TCG was asked for, and is told of as a fallback")
	}
	_, id = n.boot("resets")
	n.eventually("the restart of the guest", func() bool { _, ok := o.find(NoticeReset); return ok })
	n.must(n.StopContainer(t.Context(), id, 0))
	if len(o.all) == 0 || slices.ContainsFunc(o.all, func(n Notice) bool { return n.Reason == reasonError }) {
		t.Errorf("the end that was asked for is told of: %+v", o.all)
	}
}

// SeaBIOS resets once more after a guest has, and after a person has.
func TestResetsAreToldOnce(t *testing.T) {
	for _, c := range []struct {
		name   string
		resets string // milliseconds, and who it was
		told   int
	}{
		{"one", "0 guest", 1},
		{"with the firmware's", "0 guest, 42 guest", 1},
		{"with the firmware's, on a busy node", "0 guest, 900 guest", 1},
		{"the next one", "0 guest, 1500 guest, 1550 guest", 2},
		{"a guest that resets at once, always", "0 guest, 400 guest, 800 guest, 1200 guest, 1600 guest", 2},
		{"a person's, with the firmware's", "0 host, 40 guest", 0},
		{"a person's, then the guest's", "0 host, 40 guest, 5000 guest, 5040 guest", 1},
	} {
		n, o, v, seen := &Runtime{}, &told{}, &vm{pod: newPod(&store.Sandbox{})}, resets{}
		n.Tell = o.tell
		for _, reset := range strings.Split(c.resets, ", ") {
			var ms int64
			var who string
			if _, err := fmt.Sscan(reset, &ms, &who); err != nil {
				t.Fatal(err)
			}
			e := goqemu.Event{Event: newsReset, Data: map[string]any{"guest": who == "guest"}}
			e.Timestamp.Seconds, e.Timestamp.Microseconds = 1764558000+ms/1000, ms%1000*1000
			n.tellNews(v, nil, &seen, e)
		}
		if len(o.all) != c.told {
			t.Errorf("%s: told %d times, want %d", c.name, len(o.all), c.told)
		}
	}
}

func TestFallbackIsTold(t *testing.T) {
	n := newTestNode(t)
	o := &told{}
	n.Tell = o.tell
	n.image("ignores", guestIgnores)
	state, err := n.Hypervisor.Ready(t.Context())
	n.must(err)
	n.Hypervisor.remember(&HypervisorState{Capabilities: state.Capabilities, Accel: qemu.AccelDecision{
		Accel: qemu.TCG, Fallback: true, Reason: "KVM is not usable: no /dev/kvm",
	}}, qemu.DeviceAccess{})
	n.boot("ignores")
	if got, ok := o.find(NoticeEmulated); !ok || !got.Warning || !strings.Contains(got.Message, "/dev/kvm") {
		t.Errorf("told %+v", o.all)
	}
}

// The words of QEMU's event, which needs a full disk.
func TestDiskErrorsAreTold(t *testing.T) {
	n := newTestNode(t)
	o := &told{}
	n.Tell = o.tell
	n.image("ignores", guestIgnores)
	_, id := n.boot("ignores")
	v, err := n.vm(id)
	n.must(err)
	m, _, _ := v.running()
	event := func(nospace bool, action string) goqemu.Event {
		return goqemu.Event{Event: newsDiskError, Data: map[string]any{
			"device": "", "node-name": rootDisk, "operation": "write", "action": action, "nospace": nospace, "reason": "No space left on device",
		}}
	}
	n.tellNews(v, m, &resets{}, event(true, "stop"))
	if got, ok := o.find(NoticeDiskFull); !ok || !got.Warning || !strings.Contains(got.Message, "disk root") || !strings.Contains(got.Message, "No space left") {
		t.Errorf("told %+v", o.all)
	}
	n.tellNews(v, m, &resets{}, event(false, "report"))
	if got, ok := o.find(NoticeDiskError); !ok || !strings.Contains(got.Message, "a write has failed") {
		t.Errorf("told %+v", o.all)
	}
}

func TestLostNetworkIsTold(t *testing.T) {
	n := newTestNode(t)
	o := &told{}
	n.Tell = o.tell
	sandbox := n.run(n.podConfig())
	p, err := n.pod(sandbox)
	n.must(err)
	n.lostNetwork(p, errBadRecord)
	if got, ok := o.find(NoticeNetworkLost); !ok || !strings.Contains(got.Message, errBadRecord.Error()) {
		t.Errorf("told %+v", o.all)
	}
}
