package runtime

import (
	"context"
	"path"
	"time"

	goqemu "github.com/digitalocean/go-qemu/qmp"

	"github.com/qemulet/qemulet/qemu"
	"github.com/qemulet/qemulet/qmp"
)

// news are events of a running machine that its owner should know of, by their
// names in QAPI.
const (
	newsReset     = "RESET"
	newsDiskError = "BLOCK_IO_ERROR"
	// newsPending may wait to be read; of more the rest is dropped.
	newsPending = 16
	// resetEcho is for how long a reset may be part of the one before: SeaBIOS
	// answers a guest's reset with a hard one of its own, some 40 ms later.
	resetEcho = time.Second
)

// resets tells a machine's resets from what only belongs to one.
type resets struct{ begun time.Time }

// begins tells whether an event is a reset's first.
func (r *resets) begins(e goqemu.Event) bool {
	at := qmp.EventTime(e)
	if at.Sub(r.begun).Abs() < resetEcho {
		return false
	}
	r.begun = at
	return true
}

// subscribeNews is nil for a machine whose monitor does not answer.
func subscribeNews(m *qemu.Machine) *qmp.Subscription {
	mon := m.QMP()
	if mon == nil {
		return nil
	}
	return mon.Subscribe(newsPending, func(e goqemu.Event) bool { return e.Event == newsReset || e.Event == newsDiskError })
}

func (r *Runtime) tellNews(v *vm, m *qemu.Machine, seen *resets, e goqemu.Event) {
	switch e.Event {
	case newsReset:
		if byGuest, _ := e.Data["guest"].(bool); seen.begins(e) && byGuest {
			r.tell(v.pod, NoticeReset, "the guest restarted")
		}
	case newsDiskError:
		r.tellDiskError(v, m, e.Data)
	}
}

// tellDiskError reads QAPI's BLOCK_IO_ERROR. QEMU pauses a guest for want of
// space, and hands other errors on to it.
func (r *Runtime) tellDiskError(v *vm, m *qemu.Machine, data map[string]any) {
	node, _ := data["node-name"].(string)
	why, _ := data["reason"].(string)
	operation, _ := data["operation"].(string)
	disk := diskName(r.background, m.QMP(), node)
	if full, _ := data["nospace"].(bool); full && data["action"] == "stop" {
		r.vmLog(v).Error("a guest is paused for want of disk space", "disk", disk)
		r.tell(v.pod, NoticeDiskFull, "the guest is paused: its disk %s could not grow, the node's file system is full (%s); make room, then let the guest go on", disk, why)
		return
	}
	r.vmLog(v).Error("a disk has failed", "disk", disk, "operation", operation, "error", why)
	r.tell(v.pod, NoticeDiskError, "disk %s: a %s has failed on the node: %s", disk, operation, why)
}

// diskNameLimit bounds the question for a name; the node's does as well.
const diskNameLimit = time.Second

// diskName is a disk's serial number, which is made of its name in the manifest.
func diskName(ctx context.Context, mon *qmp.Conn, node string) string {
	ctx, cancel := context.WithTimeout(ctx, diskNameLimit)
	defer cancel()
	var serial string
	if err := mon.QOMGet(ctx, path.Join(qemu.DevicesPath, node), "serial", &serial); err != nil || serial == "" {
		return node
	}
	return serial
}
