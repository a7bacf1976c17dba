package qmp

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/qemulet/qemulet/qmp/qmptest"
)

// A line reader returns the same lines however the stream is cut up.
func FuzzLineReader(f *testing.F) {
	f.Add([]byte("a\r\nb\n\nc"))
	f.Add([]byte(strings.Repeat("x", 5000) + "\ny\n"))
	f.Add([]byte(strings.Repeat("x", 9000)))
	f.Fuzz(func(t *testing.T, stream []byte) {
		const limit = 8192
		whole, err1 := readAllLines(newLineReader(bytes.NewReader(stream), limit))
		bytewise, err2 := readAllLines(newLineReader(iotest.OneByteReader(bytes.NewReader(stream)), limit))
		if strings.Join(whole, "\n") != strings.Join(bytewise, "\n") || err1.Error() != err2.Error() {
			t.Errorf("%q, %v in one piece, %q, %v by bytes", whole, err1, bytewise, err2)
		}
		for _, line := range whole {
			if len(line) > limit || strings.Contains(line, "\n") {
				t.Errorf("line of %d bytes: %.40q", len(line), line)
			}
		}
	})
}

func readAllLines(r *lineReader) (lines []string, err error) {
	for {
		line, err := r.next()
		if err != nil {
			return lines, err
		}
		lines = append(lines, string(line))
	}
}

// Whatever QEMU's side sends, a connection ends in order and leaks nothing.
func FuzzConn(f *testing.F) {
	greeting := `{"QMP": {"version": ` + qmptest.Version + `}}` + "\n"
	f.Add([]byte(greeting + `{"return": {}, "id": 1}` + "\n" + `{"return": {"status":"running"}, "id": 2}` + "\n"))
	f.Add([]byte(`{"event":"X","data":{}}` + "\n" + greeting + `{"error":{}}` + "\n"))
	f.Add([]byte(greeting + `{"return":{}}` + "\n" + `{"return":7,"id":2}` + "\n{\x01}\n"))
	f.Add([]byte(`{"QMP":null}`))
	f.Fuzz(func(t *testing.T, stream []byte) {
		nc, other := net.Pipe()
		go io.Copy(io.Discard, other)
		go func() {
			other.Write(stream)
			other.Close()
		}()
		c, err := New(t.Context(), nc)
		if err != nil {
			return
		}
		sub := c.Subscribe(4, nil)
		c.QueryStatus(t.Context())
		c.Close()
		for range sub.C {
		}
	})
}

// A scanner never returns more than its limit, and what parses as a command is
// safe to send on: valid JSON without what garbles QEMU's parser.
func FuzzMuxCommand(f *testing.F) {
	f.Add([]byte(`{"execute":"query-name","id":1}`))
	f.Add([]byte("{'execute':'it\\'s \"q\"'}\x01[[{}]]5 \"x\"{bad}"))
	f.Add([]byte(`{"execute":"a","arguments":{"x":[1e400,"\u0000"]},"id":{"a":1}}`))
	f.Add([]byte("}]\"\\"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		s := newCommandScanner(bytes.NewReader(stream))
		for {
			value, err := s.next()
			var bad syntaxError
			if errors.As(err, &bad) {
				continue
			}
			if err != nil {
				return
			}
			checkCommand(t, value)
		}
	})
}

func checkCommand(t *testing.T, value []byte) {
	cmd, err := parseCommand(value)
	if line := errorLine("X", "d", cmd.id); !json.Valid(line) {
		t.Errorf("id of %q garbles %q", value, line)
	}
	if err != nil {
		return
	}
	line, err := json.Marshal(request{cmd.name, cmd.args, 1})
	if err != nil {
		t.Fatalf("%q does not encode: %v", value, err)
	}
	if i := bytes.IndexFunc(line, func(r rune) bool { return r < 0x20 }); i >= 0 || bytes.ContainsAny(line, "\n\r") {
		t.Errorf("control character in %q", line)
	}
}
