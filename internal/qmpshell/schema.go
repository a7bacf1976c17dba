package qmpshell

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/qemulet/qemulet/qmp"
)

// Schema is what QEMU says of its commands (query-qmp-schema).
type Schema struct {
	commands []string // sorted
	byName   map[string]entity
}

// entity is QAPI's SchemaInfo, as far as it is needed.
type entity struct {
	Name     string   `json:"name"`
	Kind     string   `json:"meta-type"`
	ArgType  string   `json:"arg-type"`
	JSONType string   `json:"json-type"`
	Members  []member `json:"members"`
	Variants []struct {
		Type string `json:"type"`
	} `json:"variants"`
	Values []string `json:"values"`
}

type member struct {
	Name    string          `json:"name"`
	Type    string          `json:"type"`
	Default json.RawMessage `json:"default"` // there for an optional one
}

// LoadSchema asks QEMU.
func LoadSchema(ctx context.Context, conn *qmp.Conn) (*Schema, error) {
	raw, err := conn.QueryQMPSchema(ctx)
	if err != nil {
		return nil, err
	}
	return parseSchema(raw)
}

func parseSchema(raw []byte) (*Schema, error) {
	var all []entity
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("QEMU's schema: %w", err)
	}
	s := &Schema{byName: make(map[string]entity, len(all))}
	for _, e := range all {
		s.byName[e.Name] = e
		if e.Kind == "command" {
			s.commands = append(s.commands, e.Name)
		}
	}
	slices.Sort(s.commands)
	return s, nil
}

// Has tells whether there is a command of this name.
func (s *Schema) Has(command string) bool { return s.byName[command].Kind == "command" }

// arguments are the members of a command's argument, with those of its variants:
// those that must be given first.
func (s *Schema) arguments(command string) []member {
	e := s.byName[s.byName[command].ArgType]
	all := slices.Clone(e.Members)
	for _, v := range e.Variants {
		for _, m := range s.byName[v.Type].Members {
			if !slices.ContainsFunc(all, func(other member) bool { return other.Name == m.Name }) {
				m.Default = json.RawMessage("null") // only some have it
				all = append(all, m)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b member) int { return optional(a) - optional(b) })
	return all
}

func optional(m member) int {
	if m.Default != nil {
		return 1
	}
	return 0
}

// values are what an argument may be, if they can be counted.
func (s *Schema) values(command, argument string) []string {
	for _, m := range s.arguments(command) {
		if m.Name != argument {
			continue
		}
		switch e := s.byName[m.Type]; {
		case e.Kind == "enum":
			return e.Values
		case e.JSONType == "boolean":
			return []string{"false", "true"}
		}
	}
	return nil
}

// Usage is a command with its arguments, those in brackets may be left out.
func (s *Schema) Usage(command string) string {
	words := []string{command}
	for _, m := range s.arguments(command) {
		word := m.Name + "=" + s.kind(m.Type)
		if m.Default != nil {
			word = "[" + word + "]"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// kind is a type in a word.
func (s *Schema) kind(name string) string {
	switch e := s.byName[name]; e.Kind {
	case "enum":
		if len(e.Values) > 4 {
			return strings.Join(e.Values[:4], "|") + "|..."
		}
		return strings.Join(e.Values, "|")
	case "builtin":
		return e.JSONType
	case "array":
		return "[...]"
	case "object":
		return "{...}"
	}
	return "value"
}
