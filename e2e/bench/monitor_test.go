package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/qemulet/qemulet/e2e/node"
)

// patience bounds every single step; none comes near it.
const patience = 30 * time.Second

// monitor is the least QMP client there can be: one command at a time, events thrown away.
type monitor struct {
	conn  net.Conn
	lines *bufio.Scanner
}

// negotiate reads the greeting and enables commands. It takes ownership of the connection.
func negotiate(conn net.Conn) (*monitor, error) {
	m := &monitor{conn: conn, lines: bufio.NewScanner(conn)}
	m.lines.Buffer(nil, 4<<20)
	conn.SetDeadline(time.Now().Add(patience))
	err := m.greeting()
	if err == nil {
		err = m.execute("qmp_capabilities", nil)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return m, nil
}

func dialMonitor(path string) (*monitor, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	return negotiate(conn)
}

// debugSocket is where the daemon lets people at a VM's monitor.
func debugSocket(vm *node.VM) string {
	return filepath.Join(vm.Node.Dir, "run", "vm", vm.ID[8:20], "debug.sock")
}

// pause stops the virtual CPUs of a VM through its debug socket.
func pause(tb testing.TB, vm *node.VM) {
	tb.Helper()
	m, err := dialMonitor(debugSocket(vm))
	must(tb, err)
	defer m.close()
	must(tb, m.execute("stop", nil))
}

func (m *monitor) close() { m.conn.Close() }

func (m *monitor) greeting() error {
	if !m.lines.Scan() {
		return fmt.Errorf("no QMP greeting: %v", m.lines.Err())
	}
	return nil
}

// execute runs a command without arguments; into, which may be nil, is what its result is decoded into.
func (m *monitor) execute(command string, into any) error {
	m.conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(m.conn, "{\"execute\":%q}\n", command); err != nil {
		return err
	}
	for m.lines.Scan() {
		var answer struct {
			Return, Error json.RawMessage
		}
		if err := json.Unmarshal(m.lines.Bytes(), &answer); err != nil {
			return err
		}
		switch {
		case answer.Error != nil:
			return fmt.Errorf("%s: %s", command, answer.Error)
		case answer.Return != nil && into != nil:
			return json.Unmarshal(answer.Return, into)
		case answer.Return != nil:
			return nil
		}
	}
	return fmt.Errorf("%s: the monitor closed: %v", command, m.lines.Err())
}
