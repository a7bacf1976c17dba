package disks

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// tool is a run of one of the programs that this package uses. They get open
// files instead of paths where they can: files[0] is descriptor 3.
type tool struct {
	name  string
	args  []string
	files []*os.File
	env   []string
	// credential is what it runs as, nil for what this process does.
	credential *syscall.Credential
	// said gets its output; nil to have it in errors only.
	said *tail
}

// run runs it to its end, or until ctx is done. It does not outlive this
// process. An error has the program's last words.
func (t tool) run(ctx context.Context) error {
	// The kernel ends a child with the thread that made it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	said := t.said
	if said == nil {
		said = &tail{}
	}
	cmd := exec.CommandContext(ctx, t.name, t.args...)
	cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = t.files, said, said
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}, t.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: t.credential}
	err := cmd.Run()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", t.name, context.Cause(ctx))
	}
	return fmt.Errorf("%s: %w: %s", t.name, err, strings.TrimSpace(said.String()))
}
