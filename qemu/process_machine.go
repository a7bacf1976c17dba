package qemu

import (
	"context"
	"errors"
	"sync"
	"time"

	goqemu "github.com/digitalocean/go-qemu/qmp"
	"github.com/qemulet/qemulet/qmp"
)

// Errors of a Machine's methods.
var (
	// ErrUnresponsive: the monitor does not answer. Kill and Stop still work.
	ErrUnresponsive = errors.New("qemu: the machine's monitor does not answer")
	// ErrClosed: the machine was let go of by Close.
	ErrClosed = errors.New("qemu: the machine was let go of")
)

// Machine is a QEMU process, started or adopted, that has not been let go of. It
// keeps a monitor connection, a pidfd and a goroutine, which go when the process
// has ended, or with Close.
//
// It sees to it that a machine whose guest is at its end ends as well: when the
// guest has powered off or panicked QEMU stays, paused; then the reason is noted
// and the process made to quit. All methods may be called concurrently.
type Machine struct {
	machineParts
	events *qmp.Subscription
	done   chan struct{}  // closed when the process is dead
	closed chan struct{}  // closed when let go of
	work   sync.WaitGroup // the goroutines

	mu        sync.Mutex
	said      lastState // what the machine said of its end
	asked     bool      // the power button was pressed
	killedFor string    // why we made the process end, "" if we did not
	ending    Ending
	ladder    *ladder // of Stop, once there is one
	impatient *time.Timer
	closing   bool
}

// machineParts is what a Machine is made of; it owns all of them but the cgroup.
type machineParts struct {
	id       Identity
	proc     *process
	mon      *qmp.Conn // nil if it did not answer
	sockets  []string  // paths, those of FIFOs too
	log      string
	cgroup   *Cgroup
	oomKills uint64 // of the cgroup, before
}

// watch makes a Machine and sets its goroutine going. state is what the monitor
// said last, "" for a machine that is as new.
func watch(parts machineParts, state qmp.RunState) *Machine {
	m := &Machine{machineParts: parts, done: make(chan struct{}), closed: make(chan struct{})}
	if m.mon != nil {
		// Before anyone else does: the first subscriber gets what came early.
		m.events = m.mon.Subscribe(8, isEnd)
	}
	m.work.Go(func() { m.watch(state) })
	return m
}

// Identity is what Adopt will need.
func (m *Machine) Identity() Identity { return m.id }

// QMP is the monitor, which stays the Machine's; nil if it did not answer when the
// machine was adopted.
func (m *Machine) QMP() *qmp.Conn { return m.mon }

// Responsive tells whether there is a monitor connection.
func (m *Machine) Responsive() bool {
	if m.mon == nil {
		return false
	}
	select {
	case <-m.mon.Done():
		return false
	default:
		return true
	}
}

// Cont lets the guest run (QMP cont).
func (m *Machine) Cont(ctx context.Context) error {
	if m.mon == nil {
		return ErrUnresponsive
	}
	return m.mon.Cont(ctx)
}

// PowerDown presses the guest's power button once (QMP system_powerdown).
func (m *Machine) PowerDown(ctx context.Context) error {
	if m.mon == nil {
		return ErrUnresponsive
	}
	m.mu.Lock()
	m.asked = true
	m.mu.Unlock()
	return m.mon.SystemPowerdown(ctx)
}

// Kill ends the process at once (SIGKILL, by pidfd). Done says when it is dead.
func (m *Machine) Kill() error { return m.kill("killed on request") }

func (m *Machine) kill(why string) error {
	m.setKilled(why)
	err := m.proc.kill()
	select {
	case <-m.done:
		return nil
	case <-m.closed:
		return ErrClosed
	default:
		return err
	}
}

// setKilled notes why, unless a reason is known.
func (m *Machine) setKilled(why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.killedFor == "" {
		m.killedFor = why
	}
}

// Done is closed when the process is dead and reaped, and nothing of it is held
// open any more. It is never closed if Close came first.
func (m *Machine) Done() <-chan struct{} { return m.done }

// Ending is how the machine ended, once Done is closed.
func (m *Machine) Ending() Ending {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ending
}

// Close lets go of the machine and leaves it running, to be adopted again: all
// descriptors and goroutines are released when it returns. A child that dies
// later stays a zombie until this process ends. It may be called any number of
// times and always returns nil.
func (m *Machine) Close() error {
	m.mu.Lock()
	first := !m.closing
	m.closing = true
	m.mu.Unlock()
	if first {
		close(m.closed)
		if m.mon != nil {
			m.mon.Close()
		}
		m.proc.close()
	}
	m.work.Wait()
	return nil
}

// watch follows the machine to its end, or until it is let go of.
func (m *Machine) watch(state qmp.RunState) {
	if m.mon != nil {
		m.consider(state)
		m.follow()
	}
	dead := m.proc.wait() == nil
	if dead {
		m.conclude()
	}
	m.release()
	if dead {
		removeSockets(m.sockets)
		close(m.done)
	}
}

// release closes what is held.
func (m *Machine) release() {
	if m.mon != nil {
		m.mon.Close()
	}
	m.proc.close()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.impatient != nil {
		m.impatient.Stop()
	}
}

// isEnd selects the events that may be of a guest's end.
func isEnd(e goqemu.Event) bool {
	return e.Event == "SHUTDOWN" || e.Event == "GUEST_PANICKED" || e.Event == "STOP"
}

// follow heeds the machine's events until the monitor closes, as it does when the
// process dies.
func (m *Machine) follow() {
	for e := range m.events.C {
		said, ended := stateOfEvent(e)
		if ended {
			m.heed(said)
		}
		if (e.Event == "STOP" || m.events.Lagged()) && !m.ended() {
			m.look()
		}
	}
}

// ended tells whether the machine has said so.
func (m *Machine) ended() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.said.cause != causeNone
}

// look asks what state the machine is in, and considers it.
func (m *Machine) look() {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTime)
	defer cancel()
	if status, err := m.mon.QueryStatus(ctx); err == nil {
		m.consider(status.Status)
	}
}

// consider ends a machine that is in a state which no guest leaves by itself. When
// it got there is in its log, if no event has told.
func (m *Machine) consider(state qmp.RunState) {
	cause, ended := endOfRunState[state]
	if !ended {
		return
	}
	said := readState(m.log)
	if said.cause == causeNone {
		said = lastState{cause: cause, time: time.Now()}
	}
	m.heed(said)
}

// finishTime is what QEMU is given to write back what a guest at its end has left.
const finishTime = 30 * time.Second

// heed notes what the machine said of its end; the first word counts. A process
// that stays is told to quit.
func (m *Machine) heed(said lastState) {
	m.mu.Lock()
	first := m.said.cause == causeNone
	if first {
		m.said = said
	}
	m.mu.Unlock()
	if !first || !said.cause.stays() {
		return
	}
	m.killLater(finishTime)
	ctx, cancel := context.WithTimeout(context.Background(), finishTime)
	defer cancel()
	_ = m.mon.Quit(ctx) // if that fails it is killed, later
}

// killLater kills the process unless it has ended before.
func (m *Machine) killLater(limit time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.impatient == nil {
		m.impatient = time.AfterFunc(limit, func() { m.proc.kill() })
	}
}

// conclude decides how the machine ended, by all that is known.
func (m *Machine) conclude() {
	e := evidence{said: readState(m.log), words: lastWords(m.log), oom: outOfMemory(m.cgroup, m.oomKills), seen: time.Now()}
	m.mu.Lock()
	if m.said.cause != causeNone {
		e.said.cause, e.said.time, e.said.info = m.said.cause, m.said.time, m.said.info
	}
	e.said.asked = e.said.asked || m.asked
	e.killedFor = m.killedFor
	m.mu.Unlock()
	if e.status = m.proc.reap(); !e.status.known && e.open() {
		e.status = m.proc.exit()
	}
	ending := e.ending()
	m.mu.Lock()
	m.ending = ending
	m.mu.Unlock()
}

// outOfMemory tells whether the cgroup has lost a process to a lack of memory.
func outOfMemory(c *Cgroup, before uint64) bool {
	if c == nil {
		return false
	}
	now, err := c.OOMKills()
	return err == nil && now > before
}
