package runtime

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/qemu"
)

func TestExitOf(t *testing.T) {
	for _, c := range []struct {
		ending qemu.Ending
		code   int32
		reason string
	}{
		{qemu.Ending{Reason: qemu.GuestShutdown}, 0, "Completed"},
		{qemu.Ending{Reason: qemu.Stopped}, 0, "Completed"},
		{qemu.Ending{Reason: qemu.Killed}, 137, "Error"},
		{qemu.Ending{Reason: qemu.GuestPanic}, 1, "GuestPanic"},
		{qemu.Ending{Reason: qemu.OOMKilled, ExitCode: 137}, 137, "OOMKilled"},
		{qemu.Ending{Reason: qemu.Crash, ExitCode: 134, Detail: "assertion"}, 134, "QEMUCrashed"},
		{qemu.Ending{Reason: qemu.Crash, ExitCode: 137}, 137, "QEMUKilled"},
		{qemu.Ending{Reason: qemu.Crash, ExitCode: 1}, 1, "QEMUCrashed"},
		{qemu.Ending{Reason: qemu.Seccomp, ExitCode: 159}, 159, "QEMUCrashed"},
		{qemu.Ending{Reason: qemu.HostSignal}, 137, "QEMUKilled"},
		{qemu.Ending{Reason: qemu.Unknown}, 137, "ContainerStatusUnknown"},
	} {
		x := exitOf(c.ending)
		if x.code != c.code || x.reason != c.reason || x.message == "" || !strings.Contains(x.message, c.ending.Detail) {
			t.Errorf("exitOf(%+v) = %+v", c.ending, x)
		}
	}
}

func TestAnEndIsNeverBeforeItsStart(t *testing.T) {
	db, err := store.Open(filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	start := time.Now()
	v := newVM(newPod(&store.Sandbox{}), &store.Container{ID: "c", Phase: store.ContainerRunning, Started: start, Process: []byte("{}")})
	changed := 0
	r := &Runtime{Options: Options{DB: db, Observer: nobody{}, Changed: func() { changed++ }}}
	if err := r.endVM(v, recordExit(qemu.Ending{Reason: qemu.GuestShutdown, Time: start.Add(-time.Second)})); err != nil {
		t.Fatal(err)
	}
	rec := v.record()
	if !rec.Finished.Equal(start) || rec.Process != nil || rec.Reason != "Completed" || rec.Phase != store.ContainerExited {
		t.Errorf("recorded %+v", rec)
	}
	if err := r.endVM(v, recordExit(qemu.Ending{})); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("it ended twice: %v", err)
	}
	if changed != 1 {
		t.Errorf("%d changes were told of", changed)
	}
}
