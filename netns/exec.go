package netns

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"golang.org/x/sys/unix"
)

const (
	maxPluginOutput = 4 << 20         // bytes on standard output
	maxQuote        = 1 << 10         // bytes of a plugin's words in an error
	pipeGrace       = 2 * time.Second // for processes that a plugin left behind with its pipes
)

// pluginExec runs plugins for libcni, in this process's network namespace and in a process group of their own. One value
// serves one operation on one pod.
type pluginExec struct {
	version.PluginDecoder
	timeout time.Duration
	// keepGoing makes failures look like success to libcni, which would not ask the remaining plugins. They are collected.
	keepGoing bool
	failures  []error
	// replace may put another plugin in the place of one (see Check).
	replace func(path string, stdin []byte) (string, bool)
	// observe, if set, is told how long a plugin ran.
	observe func(time.Duration)
}

var _ invoke.Exec = (*pluginExec)(nil)

// FindInPath finds a plugin's binary. Names that would lead out of the directories are refused.
func (e *pluginExec) FindInPath(plugin string, dirs []string) (string, error) {
	path, err := invoke.FindInPath(plugin, dirs)
	if err != nil && e.keepGoing {
		return filepath.Join(dirs[0], filepath.Base(plugin)), nil // running it will fail, and be told
	}
	return path, err
}

// ExecPlugin runs a plugin and returns its standard output. A failure is a *PluginError.
func (e *pluginExec) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	if e.replace != nil {
		var run bool
		if path, run = e.replace(path, stdin); !run {
			return nil, nil
		}
	}
	start := time.Now()
	out, err := e.run(ctx, path, stdin, environ)
	if e.observe != nil {
		e.observe(time.Since(start))
	}
	if err != nil && e.keepGoing {
		e.failures = append(e.failures, err)
		return nil, nil
	}
	return out, err
}

func (e *pluginExec) run(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	failure := describe(path, stdin, environ)
	ctx, cancel := context.WithTimeoutCause(ctx, e.timeout, errPluginTimeout)
	defer cancel()
	stdout, stderr := &limitedBuffer{limit: maxPluginOutput}, &limitedBuffer{limit: maxPluginOutput}
	err := runGroup(ctx, func() *exec.Cmd {
		stdout.Reset()
		stderr.Reset()
		cmd := exec.CommandContext(ctx, path)
		cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = bytes.NewReader(stdin), stdout, stderr, environ
		return cmd
	})
	failure.Stderr = quote(stderr.Bytes())
	switch {
	case ctx.Err() != nil && err != nil:
		failure.Err, failure.Message = ctx.Err(), e.interrupted(ctx)
		return nil, failure
	case stdout.full || stderr.full:
		failure.Err = err
		failure.Message = fmt.Sprintf("it wrote more than %d bytes, the last of them %q", maxPluginOutput, quote(stdout.Bytes()))
		return nil, failure
	case err != nil:
		failure.explain(err, stdout.Bytes())
		return nil, failure
	case failure.Command == "ADD":
		if err := checkResult(stdout.Bytes()); err != nil {
			failure.Err, failure.Message = ErrBadResult, err.Error()
			return nil, failure
		}
	}
	return stdout.Bytes(), nil
}

var errPluginTimeout = errors.New("plugin timeout")

func (e *pluginExec) interrupted(ctx context.Context) string {
	if errors.Is(context.Cause(ctx), errPluginTimeout) {
		return fmt.Sprintf("it did not finish within %s and was killed", e.timeout)
	}
	return fmt.Sprintf("it was killed because the request ended: %v", context.Cause(ctx))
}

// runGroup runs a command as the leader of a process group that is killed as a whole when ctx ends, and with this
// process: a plugin that outlived it would work against the clean-up of its successor.
func runGroup(ctx context.Context, command func() *exec.Cmd) error {
	runtime.LockOSThread() // the parent-death signal is sent when the thread dies that forked
	defer runtime.UnlockOSThread()
	for {
		cmd := command()
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
		cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
		cmd.WaitDelay = pipeGrace
		err := cmd.Run()
		switch {
		case errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil:
			return nil // it succeeded; something it left behind holds its output open
		case !errors.Is(err, unix.ETXTBSY) || !pause(ctx, busyPause):
			return err
		}
	}
}

// busyPause is waited for before a plugin is tried again that someone is just writing (an update of the plugins).
const busyPause = 20 * time.Millisecond

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// describe fills in who is asked for what.
func describe(path string, stdin []byte, environ []string) *PluginError {
	var conf struct {
		Name string `json:"name"`
	}
	_ = json.Unmarshal(stdin, &conf)
	e := &PluginError{Network: conf.Name, Plugin: filepath.Base(path)}
	for _, v := range environ {
		if command, ok := strings.CutPrefix(v, "CNI_COMMAND="); ok {
			e.Command = command
		}
	}
	return e
}

// explain takes the plugin's own words: the error object of the CNI specification on standard output, or else whatever
// it printed.
func (e *PluginError) explain(err error, stdout []byte) {
	e.Err = err
	var said types.Error
	if json.Unmarshal(stdout, &said) == nil && said.Msg != "" {
		e.Code, e.Message, e.Details = said.Code, quote([]byte(said.Msg)), quote([]byte(said.Details))
		return
	}
	switch {
	case len(bytes.TrimSpace(stdout)) > 0:
		e.Message = fmt.Sprintf("%v, it printed %q", err, quote(stdout))
	case e.Stderr != "":
		e.Message = fmt.Sprintf("%v: %s", err, e.Stderr)
	default:
		e.Message = fmt.Sprintf("%v, without a word", err)
	}
}

// quote returns the end of what a plugin wrote: reasons come last.
func quote(b []byte) string {
	s := strings.ToValidUTF8(string(bytes.TrimSpace(b)), "?")
	if len(s) > maxQuote {
		s = "..." + strings.ToValidUTF8(s[len(s)-maxQuote:], "")
	}
	return s
}

// limitedBuffer cuts off a plugin that floods its output.
type limitedBuffer struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	limit int
	full  bool // valid after the plugin's end
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.buf.Len()+len(p) > b.limit {
		b.full = true
		return 0, fmt.Errorf("more than %d bytes of output", b.limit)
	}
	return b.buf.Write(p)
}

func (b *limitedBuffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buf.Bytes())
}

func (b *limitedBuffer) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Reset()
}
