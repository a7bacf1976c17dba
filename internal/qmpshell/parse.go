package qmpshell

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Command is a QMP command.
type Command struct {
	Name string
	// Args is nil or a JSON object.
	Args json.RawMessage
}

// Parse makes a command of its name and its arguments, each KEY=VALUE, or one that
// is a JSON object. A dot in a key leads into an object: a.b=c. A value that is
// JSON is taken for it, so that 5 is a number and "5" a string; anything else is a
// string.
func Parse(words []string) (Command, error) {
	if len(words) == 0 {
		return Command{}, fmt.Errorf("no command")
	}
	c := Command{Name: words[0]}
	args := words[1:]
	if len(args) == 1 && strings.HasPrefix(strings.TrimSpace(args[0]), "{") {
		if !json.Valid([]byte(args[0])) {
			return c, fmt.Errorf("arguments %s: no valid JSON", args[0])
		}
		c.Args = json.RawMessage(args[0])
		return c, nil
	}
	members := map[string]any{}
	for _, arg := range args {
		if err := set(members, arg); err != nil {
			return c, err
		}
	}
	if len(members) == 0 {
		return c, nil
	}
	var err error
	c.Args, err = json.Marshal(members)
	return c, err
}

// set puts KEY=VALUE into an object.
func set(members map[string]any, arg string) error {
	key, text, ok := strings.Cut(arg, "=")
	if !ok || key == "" {
		return fmt.Errorf("argument %q: KEY=VALUE, or one JSON object for all, is accepted", arg)
	}
	path := strings.Split(key, ".")
	for _, name := range path[:len(path)-1] {
		inner, ok := members[name].(map[string]any)
		if members[name] != nil && !ok {
			return fmt.Errorf("argument %q: %s is a value already", arg, name)
		}
		if !ok {
			inner = map[string]any{}
			members[name] = inner
		}
		members = inner
	}
	last := path[len(path)-1]
	if last == "" || members[last] != nil {
		return fmt.Errorf("argument %q: a key of letters that is not there yet is accepted", arg)
	}
	members[last] = value(text)
	return nil
}

// value keeps JSON as it is written: its numbers may be larger than Go's.
func value(text string) any {
	if json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	return text
}

// Split cuts a line into words. Blanks within quotes, brackets and braces do not
// count; quotes stay, for JSON.
func Split(line string) ([]string, error) {
	var s splitter
	for i := range len(line) {
		s.take(line[i])
	}
	if s.quoted || s.depth > 0 {
		return nil, fmt.Errorf("%s: a quote or bracket is not closed", s.word.String())
	}
	s.end()
	return s.words, nil
}

type splitter struct {
	words   []string
	word    strings.Builder
	started bool
	depth   int
	quoted  bool
	escaped bool
}

func (s *splitter) take(b byte) {
	if s.quoted {
		s.takeQuoted(b)
		return
	}
	switch b {
	case ' ', '\t', '\r', '\n':
		if s.depth == 0 {
			s.end()
			return
		}
	case '"':
		s.quoted = true
	case '{', '[':
		s.depth++
	case '}', ']':
		s.depth = max(0, s.depth-1)
	}
	s.add(b)
}

func (s *splitter) takeQuoted(b byte) {
	s.quoted = s.escaped || b != '"'
	s.escaped = !s.escaped && b == '\\'
	s.add(b)
}

func (s *splitter) add(b byte) {
	s.word.WriteByte(b)
	s.started = true
}

func (s *splitter) end() {
	if s.started {
		s.words = append(s.words, s.word.String())
	}
	s.word.Reset()
	s.started = false
}
