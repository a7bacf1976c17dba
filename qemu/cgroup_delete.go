package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Delete kills whatever process is left in the group and removes it from every
// hierarchy; parents stay. It returns when that is done or, with an error, when
// ctx ends. A group that is gone already is no error.
func (c *Cgroup) Delete(ctx context.Context) error {
	for _, d := range c.dirs {
		if err := c.remove(ctx, d.path); err != nil {
			return fmt.Errorf("delete cgroup %s: %w", c.path, err)
		}
	}
	if c.keeper == "" {
		return nil
	}
	if err := stopKeeper(c.keeper); err != nil {
		return fmt.Errorf("delete cgroup %s: %w", c.path, err)
	}
	return nil
}

// remove removes one directory. The kernel refuses while it holds a process, and
// in v1 tells nobody when the last has left, which is a moment after it has been
// reported dead: so this asks again, ever less often.
func (c *Cgroup) remove(ctx context.Context, dir string) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := os.Remove(dir)
		if err == nil || gone(err) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		if err := c.killAll(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", err, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// killAll kills the group's processes and waits for their death.
func (c *Cgroup) killAll(ctx context.Context) error {
	pids, err := c.Procs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := c.killMember(ctx, pid); err != nil {
			return err
		}
	}
	return nil
}

// killMember kills a process of the group. Its number may be another's by now, so
// that it is looked for once more after a pidfd pins it.
func (c *Cgroup) killMember(ctx context.Context, pid int) error {
	if pid <= 1 || pid == os.Getpid() {
		return nil // a thread of ours that is about to end, see spawnInto
	}
	p, err := openProcess(pid)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.close()
	if pids, err := c.Procs(); err != nil || !slices.Contains(pids, pid) {
		return err
	}
	if err := p.kill(); err != nil {
		return err
	}
	return p.waitContext(ctx)
}

// gone tells whether an error means that a cgroup is not there, or not any more.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)
}
