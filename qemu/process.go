package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/qemulet/qemulet/qmp"
)

// StartOptions is what Start needs beside an Invocation.
type StartOptions struct {
	// RunDir is an existing directory that only this user may enter. The
	// machine's sockets appear in it as <name>.sock, with mode 0600, and go when
	// the machine has ended.
	RunDir string
	// Log is the file that QEMU's own messages are appended to. It is made with
	// mode 0600 if need be, and stays.
	Log string
	// Files by FileNeed.Name. They stay the caller's, who closes them after
	// Start, whatever it returned.
	Files map[string]*os.File
	// Credential is the user that QEMU runs as; nil means this process's.
	Credential *syscall.Credential
	// Cgroup that QEMU is born in; nil means this process's. A death for lack of
	// memory is told from others by it.
	Cgroup *Cgroup
	// Stepped, if set, is told of each step that has ended, with its error.
	Stepped func(step string, begin, end time.Time, err error)
}

// The steps of a start.
const (
	StepPrepare   = "prepare"   // what can be undone without a process
	StepExec      = "exec"      // the process
	StepHandshake = "handshake" // until its monitor says that the machine is ready
)

// startTime is how long a new QEMU may take to say that it is ready. It needs a
// quarter of a second of a processor, of which a small quota lets it have little;
// one that has died is noticed at once.
const startTime = time.Minute

// handshakeTime is how long one that runs already may take to answer.
const handshakeTime = 10 * time.Second

// StartError is why a machine did not start.
type StartError struct {
	// Step that failed, one of Step...
	Step string
	// Exit is how QEMU ended by itself, such as "exit status 1"; empty if it did
	// not, or never began.
	Exit string
	// Words are the last that QEMU had to say, without warnings, "" if none.
	Words string
	Err   error
}

// Error prefers QEMU's own words.
func (e *StartError) Error() string {
	text := "qemu: start: " + e.Step + ": "
	if e.Exit == "" {
		text += e.Err.Error()
	} else {
		text += "QEMU ended by itself: " + e.Exit
	}
	if e.Words != "" {
		text += ": " + e.Words
	}
	return text
}

// Unwrap gives what went wrong on this side.
func (e *StartError) Unwrap() error { return e.Err }

// Start starts a machine and returns when it is ready to run: paused before the
// guest's first instruction (query-status says prelaunch), and still to be
// continued with Cont. It takes at most 10 seconds, less if ctx ends before; ctx has
// no meaning for the machine later on. An error is a *StartError, and then there is
// no process, no socket and no open file, only the log.
//
// The machine lives on when this process ends: see Adopt.
func Start(ctx context.Context, inv Invocation, o StartOptions) (*Machine, error) {
	s := &start{inv: inv, o: o}
	if err := s.step(StepPrepare, func() error { return s.prepare(ctx) }); err != nil {
		return nil, &StartError{Step: StepPrepare, Err: err}
	}
	if err := s.step(StepExec, s.exec); err != nil {
		s.donation.undo()
		return nil, &StartError{Step: StepExec, Err: err}
	}
	var mon *qmp.Conn
	err := s.step(StepHandshake, func() (err error) {
		mon, err = s.handshake(ctx)
		return err
	})
	if err != nil {
		return nil, s.fail(err)
	}
	return watch(machineParts{
		id: s.id, proc: s.proc, mon: mon,
		sockets: s.donation.paths, log: o.Log, cgroup: o.Cgroup, oomKills: s.oomKills,
	}, ""), nil
}

// start is a Start under way.
type start struct {
	inv      Invocation
	o        StartOptions
	log      *os.File
	donation *donation
	proc     *process
	id       Identity
	oomKills uint64
}

// step does one, and tells of it.
func (s *start) step(name string, do func() error) error {
	begin := time.Now()
	err := do()
	if s.o.Stepped != nil {
		s.o.Stepped(name, begin, time.Now(), err)
	}
	return err
}

// prepare does all that can be undone without a process.
func (s *start) prepare(ctx context.Context) error {
	if s.o.Cgroup != nil {
		s.oomKills, _ = s.o.Cgroup.OOMKills() // there may be no memory controller
	}
	var err error
	if s.log, err = openLog(s.o.Log, s.inv); err != nil {
		return err
	}
	if s.donation, err = donate(ctx, s.inv, s.o.RunDir, s.o.Files); err != nil {
		s.log.Close()
		return err
	}
	return nil
}

// exec makes the process, and closes what it has of ours.
func (s *start) exec() error {
	defer s.log.Close()
	var err error
	if s.proc, err = spawn(s.inv, s.o, s.donation, s.log); err != nil {
		return err
	}
	s.donation.given()
	if s.id, err = hostProc.identify(s.proc.pid, s.inv.UUID); err != nil {
		s.end()
	}
	return err
}

// handshake waits for the monitor, and for it to say that the machine is ready.
func (s *start) handshake(ctx context.Context) (*qmp.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	conn := s.donation.take(SocketQMP)
	if conn == nil {
		return nil, fmt.Errorf("the invocation has no socket %q", SocketQMP)
	}
	mon, err := qmp.New(ctx, conn)
	if err != nil {
		return nil, err
	}
	status, err := mon.QueryStatus(ctx)
	if err == nil && status.Status != qmp.RunStatePrelaunch {
		err = fmt.Errorf("the machine is in the state %q instead of %q: the invocation has to start it paused, with -S", status.Status, qmp.RunStatePrelaunch)
	}
	for _, c := range s.inv.Commands {
		if err == nil {
			err = mon.Do(ctx, c.Execute, c.Arguments, nil)
		}
	}
	if err != nil {
		mon.Close()
		return nil, err
	}
	return mon, nil
}

// exitTime is what a QEMU whose monitor has closed is given to end by itself.
const exitTime = time.Second

// fail ends the process and explains the failure by what it has left.
func (s *start) fail(err error) error {
	e := &StartError{Step: StepHandshake, Err: err}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		ctx, cancel := context.WithTimeout(context.Background(), exitTime)
		defer cancel()
		if s.proc.waitContext(ctx) == nil {
			e.Exit = "exit status unknown"
		}
	}
	status := s.end()
	if e.Exit != "" {
		e.Exit = status.String()
	}
	if outOfMemory(s.o.Cgroup, s.oomKills) {
		e.Exit = "killed for lack of memory: the limit of its cgroup is too low"
	}
	e.Words = lastWords(s.o.Log)
	return e
}

// end kills and reaps, and undoes the rest.
func (s *start) end() exitStatus {
	defer s.proc.close()
	s.donation.undo()
	s.proc.kill()
	s.proc.pidfd.SetReadDeadline(time.Time{})
	s.proc.wait()
	return s.proc.reap()
}

// openLog opens QEMU's log and marks where this process's part begins.
func openLog(path string, inv Invocation) (*os.File, error) {
	log, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := log.WriteString(startMark(time.Now(), inv)); err != nil {
		log.Close()
		return nil, err
	}
	return log, nil
}
