package config

import (
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// value is a setting's value. It satisfies pflag.Value.
type value interface {
	// Set takes the text of a flag or variable. Its error says what is accepted.
	Set(string) error
	String() string
	// Type is what a value is called in a help text.
	Type() string
	// accept takes what a YAML file holds.
	accept(any) error
	// schema says the same as accept to an API server.
	schema() Schema
}

// scalar is a value of any type with a textual form.
type scalar[T any] struct {
	to    *T
	kind  string
	parse func(string) (T, error)
	show  func(T) string
	yaml  func(any) (text string, ok bool)
	form  Schema
}

func (s *scalar[T]) Set(text string) error {
	v, err := s.parse(text)
	if err != nil {
		return err
	}
	*s.to = v
	return nil
}

func (s *scalar[T]) String() string { return s.show(*s.to) }
func (s *scalar[T]) Type() string   { return s.kind }
func (s *scalar[T]) schema() Schema { return s.form }

func (s *scalar[T]) accept(raw any) error {
	text, ok := s.yaml(raw)
	if !ok {
		return fmt.Errorf("it is %s, a %s is accepted", yamlKind(raw), s.kind)
	}
	return s.Set(text)
}

func stringValue(to *string, kind, def string, form Schema, check func(string) error) value {
	*to = def
	form.Type = "string"
	return &scalar[string]{
		to: to, kind: kind, form: form,
		parse: func(s string) (string, error) { return s, check(s) },
		show:  func(s string) string { return s },
		yaml:  func(raw any) (string, bool) { s, ok := raw.(string); return s, ok },
	}
}

func text(to *string, def string) value {
	return stringValue(to, "string", def, Schema{}, func(string) error { return nil })
}

// patterns are shell patterns with commas between them.
func patterns(to *string, def string) value {
	return stringValue(to, "patterns", def, Schema{}, func(s string) error {
		for item := range strings.SplitSeq(s, ",") {
			if _, err := filepath.Match(item, ""); err != nil {
				return fmt.Errorf("%q is no pattern; accepted are shell patterns of paths below /dev with commas between them, such as loop*,sd[bc]", item)
			}
		}
		return nil
	})
}

const nodeNamePattern = `^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$`

var isNodeName = regexp.MustCompile(nodeNamePattern)

// nodeName is what Kubernetes calls a DNS subdomain, or empty.
func nodeName(to *string) value {
	return stringValue(to, "name", "", Schema{Pattern: nodeNamePattern}, func(s string) error {
		if !isNodeName.MatchString(s) {
			return fmt.Errorf("the name of a node is accepted: lower case letters, digits, '-' and '.'")
		}
		return nil
	})
}

func absolute(s string) error {
	if !filepath.IsAbs(s) {
		return fmt.Errorf("an absolute path is accepted")
	}
	return nil
}

func path(to *string, def string) value {
	return stringValue(to, "path", def, Schema{Pattern: "^/"}, absolute)
}

// optionalPath may be empty, also when it is given: whoever hands on all settings
// gives those too that are not set.
func optionalPath(to *string) value {
	return stringValue(to, "path", "", Schema{Pattern: "^(/.*)?$"}, func(s string) error {
		if s == "" {
			return nil
		}
		return absolute(s)
	})
}

// choice takes the first as the default.
func choice(to *string, of ...string) value {
	return stringValue(to, strings.Join(of, "|"), of[0], Schema{Enum: of}, func(s string) error {
		if slices.Contains(of, s) {
			return nil
		}
		return fmt.Errorf("accepted are %s", strings.Join(of, ", "))
	})
}

// address takes one of the machine's addresses: it is made into URLs.
func address(to *string, def string) value {
	return stringValue(to, "address:port", def, Schema{Pattern: `^([0-9.]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$`}, func(s string) error {
		host, port, err := net.SplitHostPort(s)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if ip := net.ParseIP(host); err != nil || ip == nil || ip.IsUnspecified() {
			return fmt.Errorf("accepted is one address of the node with a port, like 127.0.0.1:10010 or [::1]:0")
		}
		return nil
	})
}

// listenAddress takes an address to listen on, or none.
func listenAddress(to *string) value {
	return stringValue(to, "address:port", "", Schema{Pattern: `^(([0-9.]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5})?$`}, func(s string) error {
		host, port, err := net.SplitHostPort(s)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if s != "" && (err != nil || net.ParseIP(host) == nil) {
			return fmt.Errorf("accepted is an address of the node with a port, like 127.0.0.1:9490, or 0.0.0.0:9490 for all of its addresses")
		}
		return nil
	})
}

// endpoint takes a server to connect to, or none.
func endpoint(to *string) value {
	return stringValue(to, "host:port", "", Schema{Pattern: `^([a-zA-Z0-9.-]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$|^$`}, func(s string) error {
		host, port, err := net.SplitHostPort(s)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if s != "" && (err != nil || host == "" || strings.ContainsAny(host, "/@ ")) {
			return fmt.Errorf("accepted is a host with a port, like localhost:4317")
		}
		return nil
	})
}

func boolean(to *bool, def bool) value {
	*to = def
	return &scalar[bool]{
		to: to, kind: "bool", form: Schema{Type: "boolean"},
		parse: func(s string) (bool, error) {
			b, err := strconv.ParseBool(s)
			if err != nil {
				return false, fmt.Errorf("accepted are true and false")
			}
			return b, nil
		},
		show: strconv.FormatBool,
		yaml: func(raw any) (string, bool) { b, ok := raw.(bool); return strconv.FormatBool(b), ok },
	}
}

func number(to *int, def, least, most int) value {
	*to = def
	return &scalar[int]{
		to: to, kind: "number", form: Schema{Type: "integer", Minimum: &least, Maximum: &most},
		parse: func(s string) (int, error) {
			n, err := strconv.Atoi(s)
			if err != nil || n < least || n > most {
				return 0, fmt.Errorf("a number from %d to %d is accepted", least, most)
			}
			return n, nil
		},
		show: strconv.Itoa,
		yaml: func(raw any) (string, bool) {
			switch n := raw.(type) {
			case float64:
				return strconv.FormatFloat(n, 'f', -1, 64), true
			case int64:
				return strconv.FormatInt(n, 10), true
			}
			return "", false
		},
	}
}

func duration(to *time.Duration, def, least time.Duration) value {
	*to = def
	return &scalar[time.Duration]{
		to: to, kind: "duration", form: Schema{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`},
		parse: func(s string) (time.Duration, error) {
			d, err := time.ParseDuration(s)
			if err != nil || d < least {
				return 0, fmt.Errorf("a duration of at least %s, like 90s or 2m, is accepted", least)
			}
			return d, nil
		},
		show: time.Duration.String,
		yaml: func(raw any) (string, bool) { s, ok := raw.(string); return s, ok },
	}
}

// list is a list of paths: separated by commas or, as in PATH, by colons in
// text, and a sequence or such a text in YAML.
type list struct{ to *[]string }

func paths(to *[]string, def ...string) value {
	*to = def
	return list{to}
}

func (l list) Set(text string) error {
	return l.set(strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ':' }))
}

func (l list) set(items []string) error {
	if len(items) == 0 {
		return fmt.Errorf("at least one absolute path is accepted")
	}
	for _, item := range items {
		if !filepath.IsAbs(item) {
			return fmt.Errorf("%q is no absolute path, a list of those is accepted", item)
		}
	}
	*l.to = items
	return nil
}

func (l list) String() string { return strings.Join(*l.to, ",") }
func (l list) Type() string   { return "paths" }
func (l list) schema() Schema {
	return Schema{Type: "array", MinItems: new(1), Items: &Schema{Type: "string", Pattern: "^/"}}
}

func (l list) accept(raw any) error {
	switch raw := raw.(type) {
	case string:
		return l.Set(raw)
	case []any:
		var items []string
		for _, item := range raw {
			text, ok := item.(string)
			if !ok {
				return fmt.Errorf("an item is %s, a list of paths is accepted", yamlKind(item))
			}
			items = append(items, text)
		}
		return l.set(items)
	}
	return fmt.Errorf("it is %s, a list of paths is accepted", yamlKind(raw))
}

// yamlKind names the kind of what a YAML file holds.
func yamlKind(raw any) string {
	switch raw.(type) {
	case nil:
		return "empty"
	case bool:
		return "a boolean"
	case float64, int64:
		return "a number"
	case string:
		return "a text"
	case []any:
		return "a list"
	}
	return "a mapping"
}
