package qmp

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	goqemu "github.com/digitalocean/go-qemu/qmp"
)

// monitorEvents is how many events may wait for a reader of Monitor's Events.
const monitorEvents = 128

// Monitor presents the connection as go-qemu's qmp.Monitor, for its libraries:
//   - Connect reports whether the connection lives, Disconnect is [Conn.Close].
//   - Run takes and returns JSON. An id of any type is echoed. QEMU's refusal is
//     an [*Error].
//   - Events delivers all events until its context ends. It never holds up Run;
//     one who does not read loses events.
func (c *Conn) Monitor() goqemu.Monitor { return monitor{c} }

type monitor struct{ conn *Conn }

func (m monitor) Connect() error    { return m.conn.Err() }
func (m monitor) Disconnect() error { return m.conn.Close() }

func (m monitor) Run(raw []byte) ([]byte, error) {
	cmd, err := parseCommand(bytes.TrimSpace(raw))
	if err != nil {
		return nil, fmt.Errorf("qmp: %w", err)
	}
	ret, err := m.conn.relay(context.Background(), cmd.name, cmd.args)
	if err != nil {
		return nil, err
	}
	return returnLine(ret, cmd.id), nil
}

func (m monitor) Events(ctx context.Context) (<-chan goqemu.Event, error) {
	if err := m.conn.Err(); err != nil {
		return nil, fmt.Errorf("qmp: events: %w", err)
	}
	s := m.conn.Subscribe(monitorEvents, nil)
	context.AfterFunc(ctx, s.Close)
	return s.C, nil
}

// returnLine is a reply as QEMU writes it, without the end of the line.
func returnLine(ret, id json.RawMessage) []byte {
	b := append([]byte(`{"return": `), ret...)
	if id != nil {
		b = append(append(b, `, "id": `...), id...)
	}
	return append(b, '}')
}

// errorLine is a refusal as QEMU writes it, without the end of the line.
func errorLine(class, desc string, id json.RawMessage) []byte {
	b := []byte{'{'}
	if id != nil {
		b = append(append(append(b, `"id": `...), id...), ", "...)
	}
	detail, _ := json.Marshal(wireError{class, desc}) // two strings always encode
	return append(append(append(b, `"error": `...), detail...), '}')
}
