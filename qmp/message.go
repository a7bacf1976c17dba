package qmp

import (
	"bytes"
	"encoding/json"
	"fmt"

	goqemu "github.com/digitalocean/go-qemu/qmp"
)

// message is any line that QEMU sends. What it is follows from the member that
// is there, never from its place in the conversation: an event may come between
// any two replies, also before the one that ends the negotiation.
type message struct {
	Greeting *greeting       `json:"QMP"`
	Event    string          `json:"event"`
	Return   json.RawMessage `json:"return"`
	Error    *wireError      `json:"error"`
	ID       json.RawMessage `json:"id"`
}

type greeting struct {
	Version goqemu.Version `json:"version"`
}

type wireError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

// reply is what came back for one command. Its bytes are a copy: the buffer that
// the line was read into is used again for the next one.
type reply struct {
	ret json.RawMessage
	err *wireError
}

// parseMessage reads one line. All it returns is copied out of line.
func parseMessage(line []byte) (message, error) {
	var m message
	err := json.Unmarshal(line, &m)
	if err != nil {
		// A string may carry a byte that JSON wants escaped, when QEMU
		// repeats what a guest or another program gave it.
		err = json.Unmarshal(escapeControls(line), &m)
	}
	if err != nil {
		return m, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return m, nil
}

// escapeControls drops control characters outside of strings and escapes those
// within.
func escapeControls(line []byte) []byte {
	var out bytes.Buffer
	var quoted, escaped bool
	for _, b := range line {
		if b < 0x20 {
			if quoted {
				fmt.Fprintf(&out, `\u%04x`, b)
			}
			escaped = false
			continue
		}
		if b == '"' && !escaped {
			quoted = !quoted
		}
		escaped = quoted && b == '\\' && !escaped
		out.WriteByte(b)
	}
	return out.Bytes()
}

// isReply tells whether the message answers a command.
func (m *message) isReply() bool { return m.Return != nil || m.Error != nil }

// id returns the number that the reply echoes. QEMU sends none with errors that
// it found before it had parsed the command's id.
func (m *message) id() (id uint64, ok bool) {
	return id, m.ID != nil && json.Unmarshal(m.ID, &id) == nil
}
