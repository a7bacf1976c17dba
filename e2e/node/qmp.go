package node

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// QMP is a QMP client as anyone would write it, knowing nothing of the daemon.
type QMP struct {
	conn    net.Conn
	lines   *bufio.Scanner
	events  []string // seen and not yet asked for
	answers int
}

// DialDebug connects to a VM's debug socket.
func (n *Node) DialDebug(tb testing.TB, vm *VM) *QMP {
	tb.Helper()
	path := n.path("run", "vm", vm.ID[8:20], "debug.sock")
	if found, _ := filepath.Glob(path); found == nil {
		tb.Fatalf("no debug socket %s", path)
	}
	conn, err := net.Dial("unix", path)
	must(tb, err)
	tb.Cleanup(func() { conn.Close() })
	q := &QMP{conn: conn, lines: bufio.NewScanner(conn)}
	q.lines.Buffer(nil, 16<<20)
	if greeting := q.line(tb); !strings.Contains(greeting, `"QMP"`) {
		tb.Fatalf("greeted with %s", greeting)
	}
	q.Execute(tb, "qmp_capabilities")
	return q
}

func (q *QMP) line(tb testing.TB) string {
	tb.Helper()
	must(tb, q.conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	if !q.lines.Scan() {
		tb.Fatalf("the QMP connection ended: %v", q.lines.Err())
	}
	return q.lines.Text()
}

// Execute runs a command without arguments and returns what it returned, as JSON.
func (q *QMP) Execute(tb testing.TB, command string) string {
	tb.Helper()
	result, err := q.TryExecute(tb, command, "{}")
	must(tb, err)
	return result
}

// TryExecute runs a command with arguments in JSON. QEMU's refusal, or the daemon's, is an error.
func (q *QMP) TryExecute(tb testing.TB, command, arguments string) (string, error) {
	tb.Helper()
	q.answers++
	id := fmt.Sprintf("e2e-%d", q.answers)
	_, err := fmt.Fprintf(q.conn, "{\"execute\": %q, \"arguments\": %s, \"id\": %q}\r\n", command, arguments, id)
	must(tb, err)
	for {
		var m struct {
			Event  string
			ID     string
			Return json.RawMessage
			Error  json.RawMessage
		}
		text := q.line(tb)
		must(tb, json.Unmarshal([]byte(text), &m))
		switch {
		case m.Event != "":
			q.events = append(q.events, m.Event)
		case m.ID != id:
			tb.Fatalf("answer to %q: %s", id, text)
		case m.Error != nil:
			return "", fmt.Errorf("%s: %s", command, m.Error)
		default:
			return string(m.Return), nil
		}
	}
}

// Event waits for an event.
func (q *QMP) Event(tb testing.TB, name string) {
	tb.Helper()
	for {
		for i, e := range q.events {
			if e == name {
				q.events = q.events[i+1:]
				return
			}
		}
		var m struct{ Event string }
		must(tb, json.Unmarshal([]byte(q.line(tb)), &m))
		q.events = append(q.events, m.Event)
	}
}
