package qemu

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// systemdRuntime is there where systemd is the init process (sd_booted(3)).
const systemdRuntime = "/run/systemd/system"

// keeperLimit bounds what is asked of systemd, which answers in milliseconds.
const keeperLimit = 10 * time.Second

// keeperOf names the keeper of the group with that path, or is "" if it needs
// none.
//
// In v2 it is systemd that decides which controllers the children of its slices
// have: those that its own units there need. A group like ours, in the slice of
// a pod, is none of them, and would lose its limits at the next daemon-reload,
// which the installation of any package brings. So a unit that needs the
// controllers stands beside it: an empty slice, which needs no process.
func keeperOf(hs []hierarchy, path string) string {
	if !exists(systemdRuntime) {
		return ""
	}
	return keeperName(hs, path)
}

func keeperName(hs []hierarchy, path string) string {
	slice, isSlice := strings.CutSuffix(filepath.Base(filepath.Dir(path)), ".slice")
	if !isSlice {
		return ""
	}
	for _, h := range hs {
		if h.v2() && len(words(filepath.Join(h.mount, "cgroup.controllers"))) > 0 {
			return slice + "-" + strings.ReplaceAll(filepath.Base(path), "-", "_") + ".slice"
		}
	}
	return ""
}

// keeperProperties are those by which a slice needs usedControllers; hugetlb is
// none that systemd knows, and which it takes from nobody.
func keeperProperties(path string) []systemd.Property {
	return []systemd.Property{
		systemd.PropDescription("Keeps the controllers of " + path),
		{Name: "DefaultDependencies", Value: dbus.MakeVariant(false)},
		{Name: "MemoryAccounting", Value: dbus.MakeVariant(true)},
		{Name: "TasksAccounting", Value: dbus.MakeVariant(true)},
		{Name: "CPUWeight", Value: dbus.MakeVariant(uint64(100))},
		{Name: "AllowedCPUs", Value: dbus.MakeVariant([]byte{1})},
	}
}

// startKeeper starts a keeper, and with it the slices above that are not there
// yet. One that is there already is fine.
func startKeeper(name, path string) error {
	return askSystemd(name, func(ctx context.Context, c *systemd.Conn, done chan<- string) error {
		_, err := c.StartTransientUnitContext(ctx, name, "replace", keeperProperties(path), done)
		return err
	}, "org.freedesktop.systemd1.UnitExists")
}

// stopKeeper stops a keeper, which may be gone with its parent.
func stopKeeper(name string) error {
	return askSystemd(name, func(ctx context.Context, c *systemd.Conn, done chan<- string) error {
		_, err := c.StopUnitContext(ctx, name, "replace", done)
		return err
	}, "org.freedesktop.systemd1.NoSuchUnit")
}

// askSystemd asks for a job and waits until it is done. The one error with the
// name fine is none.
func askSystemd(unit string, ask func(context.Context, *systemd.Conn, chan<- string) error, fine string) error {
	ctx, cancel := context.WithTimeout(context.Background(), keeperLimit)
	defer cancel()
	c, err := systemd.NewSystemdConnectionContext(ctx)
	if err != nil {
		return fmt.Errorf("systemd: %w", err)
	}
	defer c.Close()
	done := make(chan string, 1)
	err = ask(ctx, c, done)
	if refused := (dbus.Error{}); errors.As(err, &refused) && refused.Name == fine {
		return nil
	}
	if err != nil {
		return fmt.Errorf("systemd: %s: %w", unit, err)
	}
	select {
	case result := <-done:
		if result != "done" {
			return fmt.Errorf("systemd: %s: the job has ended as %q", unit, result)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("systemd: %s: %w", unit, context.Cause(ctx))
	}
}
