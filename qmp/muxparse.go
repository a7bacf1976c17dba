package qmp

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf8"
)

const (
	maxCommand = 1 << 20 // bytes of a client's command
	maxDepth   = 1000    // nesting of a client's command; QEMU gives up at 1024
)

// syntaxError is what a client gets told about input that is not JSON.
type syntaxError string

func (e syntaxError) Error() string { return string(e) }

const (
	errDepth = syntaxError("JSON nesting depth limit exceeded")
	errSize  = syntaxError("JSON token size limit exceeded")
)

// commandScanner cuts a client's stream into JSON values as QEMU does: by
// brackets, not by lines. A value may span lines, several may share one, and a
// control character starts afresh. Strings in single quotes, which QEMU takes as
// an extension, come out in double quotes.
type commandScanner struct {
	br    *bufio.Reader
	buf   []byte
	depth int
	quote byte // the quote that the current string began with, or 0
	back  bool // previous byte was a backslash in a string
	skip  bool // drop what is left of the line
}

func newCommandScanner(r io.Reader) *commandScanner {
	return &commandScanner{br: bufio.NewReaderSize(r, 2<<10)}
}

// next returns the next value. It is not JSON for certain, only balanced, and
// valid until the next call. Input that must be refused is a syntaxError, after
// which next can be called again.
func (s *commandScanner) next() ([]byte, error) {
	s.reset()
	for {
		b, err := s.br.ReadByte()
		if err != nil {
			return nil, err
		}
		whole, err := s.take(b)
		if err == nil && len(s.buf) > maxCommand {
			err, s.skip = errSize, b != '\n'
		}
		if err != nil {
			return nil, err
		}
		if whole {
			return s.buf, nil
		}
	}
}

func (s *commandScanner) reset() {
	if cap(s.buf) > 16<<10 {
		s.buf = nil
	}
	s.buf, s.depth, s.quote, s.back = s.buf[:0], 0, 0, false
}

// take adds one byte; true means that a value is complete.
func (s *commandScanner) take(b byte) (whole bool, err error) {
	switch {
	case s.skip:
		s.skip = b != '\n'
		return false, nil
	case s.quote != 0:
		return s.takeQuoted(b)
	case b == ' ' || b == '\t' || b == '\r' || b == '\n':
		return s.takeSpace(b), nil
	case b < 0x20 || b >= 0x7f:
		return false, stray(b)
	case b == '"' || b == '\'':
		s.quote, b = b, '"'
	case b == '{' || b == '[':
		return s.open(b)
	case b == '}' || b == ']':
		s.depth--
	}
	s.buf = append(s.buf, b)
	return s.depth < 0 || s.depth == 0 && (b == '}' || b == ']'), nil
}

// takeSpace ends a bare word; between values a space means nothing.
func (s *commandScanner) takeSpace(b byte) (whole bool) {
	if s.depth > 0 {
		s.buf = append(s.buf, b)
		return false
	}
	return len(s.buf) > 0
}

func (s *commandScanner) open(b byte) (whole bool, err error) {
	if s.depth == 0 && len(s.buf) > 0 { // a bare word before it
		return true, s.br.UnreadByte()
	}
	if s.depth++; s.depth > maxDepth {
		s.skip = true
		return false, errDepth
	}
	s.buf = append(s.buf, b)
	return false, nil
}

func (s *commandScanner) takeQuoted(b byte) (whole bool, err error) {
	switch {
	case b < 0x20:
		return false, stray(b)
	case s.back:
		s.back = false
		if b == '\'' { // JSON knows no such escape
			s.buf = s.buf[:len(s.buf)-1]
		}
	case b == '\\':
		s.back = true
	case b == s.quote:
		s.quote, b = 0, '"'
	case b == '"': // within single quotes
		s.buf = append(s.buf, '\\')
	}
	s.buf = append(s.buf, b)
	return s.quote == 0 && s.depth == 0, nil
}

func stray(b byte) syntaxError {
	shown := rune(b)
	if b >= utf8.RuneSelf {
		shown = utf8.RuneError
	}
	return syntaxError("JSON parse error, stray '" + string(shown) + "'")
}

// command is a client's command. Its parts are copies.
type command struct {
	name string
	args json.RawMessage // nil or a JSON object
	id   json.RawMessage // nil if it has none
}

// parseCommand understands one value as QEMU does (qmp_dispatch): it knows the
// members execute, arguments and id, and refuses others and repeated ones. The id
// is returned also with an error, as far as the object could be read.
func parseCommand(value []byte) (command, error) {
	var c command
	members, err := objectMembers(value)
	if err != nil {
		return c, err
	}
	c.id = members["id"]
	if err := checkMembers(members); err != nil {
		return c, err
	}
	name, ok := members["execute"]
	if !ok {
		return c, syntaxError("QMP input lacks member 'execute'")
	}
	if json.Unmarshal(name, &c.name) != nil || name[0] != '"' {
		return c, syntaxError("QMP input member 'execute' must be a string")
	}
	if args, ok := members["arguments"]; ok {
		if args[0] != '{' {
			return c, syntaxError("QMP input member 'arguments' must be an object")
		}
		c.args = args
	}
	return c, nil
}

func checkMembers(members map[string]json.RawMessage) error {
	for name := range members {
		if name != "execute" && name != "arguments" && name != "id" {
			return syntaxError(fmt.Sprintf("QMP input member '%s' is unexpected", name))
		}
	}
	return nil
}

// objectMembers reads the outer level of an object. Members keep their exact
// names, unlike with a struct, and each is compact valid JSON in valid UTF-8: a
// byte that QEMU's parser stumbles over would garble the shared connection.
func objectMembers(value []byte) (map[string]json.RawMessage, error) {
	if len(value) > 0 && value[0] != '{' && json.Valid(value) {
		return nil, syntaxError("QMP input must be a JSON object")
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, value); err != nil {
		return nil, syntaxError("JSON parse error, " + err.Error())
	}
	if !utf8.Valid(compact.Bytes()) {
		return nil, syntaxError("JSON parse error, invalid UTF-8 sequence in string")
	}
	dec := json.NewDecoder(&compact)
	dec.Token() // the opening brace of what is known to be valid
	members := make(map[string]json.RawMessage)
	for dec.More() {
		key, _ := dec.Token()
		var member json.RawMessage
		if err := dec.Decode(&member); err != nil {
			return nil, syntaxError("JSON parse error, " + err.Error())
		}
		if _, twice := members[key.(string)]; twice {
			return nil, syntaxError("JSON parse error, duplicate key")
		}
		members[key.(string)] = member
	}
	return members, nil
}
