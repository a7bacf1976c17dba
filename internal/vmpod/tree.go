package vmpod

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// tree reads a mapping of a document in an annotation: its keys come in any
// case of letters, as Go's JSON decoder took them for Virtlet, and everything
// that is wrong is collected by its path. A tree without a document has no keys.
type tree struct {
	annotation string
	path       string
	keys       map[string]string // lower case -> as written
	values     map[string]any    // lower case -> value
	known      map[string]bool   // lower case: asked for
	wrong      map[string]bool   // lower case: refused
	bad        *problems
	children   *[]*tree // all trees of the document
}

// readTree reads a document, which is a mapping in YAML or JSON or empty.
func readTree(annotation, text string) (*tree, error) {
	m, err := mapping(text)
	if err != nil {
		return nil, err
	}
	t := &tree{annotation: annotation, bad: &problems{}, children: &[]*tree{}}
	t.open(m)
	return t, nil
}

// open takes the keys over. Of two that differ only in case, neither can be
// meant more than the other.
func (t *tree) open(m map[string]any) {
	t.keys, t.values, t.known, t.wrong = map[string]string{}, map[string]any{}, map[string]bool{}, map[string]bool{}
	*t.children = append(*t.children, t)
	for _, key := range sortedKeys(m) {
		folded := strings.ToLower(key)
		if other, twice := t.keys[folded]; twice {
			t.refuse(key, "", "is given twice, also as "+other, "each key once")
			continue
		}
		t.keys[folded], t.values[folded] = key, m[key]
	}
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// child is a tree of the same document; it has no keys until it is opened.
func (t *tree) child(path string) *tree {
	return &tree{annotation: t.annotation, path: path, bad: t.bad, children: t.children}
}

// there tells whether the document has this mapping.
func (t *tree) there() bool { return t.keys != nil }

// at is the path of a key, as documentation spells it.
func (t *tree) at(key string) string {
	if t.path == "" {
		return key
	}
	return t.path + "." + key
}

// refuse collects a problem with a key.
func (t *tree) refuse(key, value, reason, accepted string) {
	if t.wrong != nil {
		t.wrong[strings.ToLower(key)] = true
	}
	t.bad.key(t.annotation, t.at(key), value, reason, accepted)
}

// failed tells whether a key was refused.
func (t *tree) failed(key string) bool { return t.wrong[strings.ToLower(key)] }

// take is the value of a key; null is as good as none.
func (t *tree) take(key string) any {
	if t.known != nil {
		t.known[strings.ToLower(key)] = true
	}
	return t.values[strings.ToLower(key)]
}

func (t *tree) has(key string) bool { return t.take(key) != nil }

// shown is a key's value for a message.
func (t *tree) shown(key string) string {
	switch v := t.take(key).(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		raw, _ := json.Marshal(v) // it came from JSON
		return string(raw)
	}
}

// text is a string, or what YAML took for something else; 486 is a processor.
func (t *tree) text(key string) string {
	switch v := t.take(key).(type) {
	case nil:
		return ""
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	}
	t.refuse(key, t.shown(key), "is not a text", "a text")
	return ""
}

// word is one of some words, or nothing.
func (t *tree) word(key string, words ...string) string {
	text := t.text(key)
	if text == "" || slices.Contains(words, text) {
		return text
	}
	last := len(words) - 1
	t.refuse(key, text, "is not known", strings.Join(words[:last], ", ")+" or "+words[last])
	return ""
}

// number is a whole number that has to be there.
func (t *tree) number(key string, least, most int64, accepted string) int64 {
	value := t.take(key)
	if value == nil {
		t.refuse(key, "", "is missing", accepted)
		return 0
	}
	if number, ok := value.(json.Number); ok {
		if n, err := number.Int64(); err == nil && n >= least && n <= most {
			return n
		}
	}
	t.refuse(key, t.shown(key), "is not a number that can be", accepted)
	return 0
}

// mapping is the tree of a key; without keys when there is none.
func (t *tree) mapping(key string) *tree {
	child := t.child(t.at(key))
	switch v := t.take(key).(type) {
	case nil:
	case map[string]any:
		child.open(v)
	default:
		t.refuse(key, t.shown(key), "is not a mapping", "a mapping")
	}
	return child
}

// mappings are the trees of a list.
func (t *tree) mappings(key string) []*tree {
	var list []*tree
	value := t.take(key)
	items, ok := value.([]any)
	if value != nil && !ok {
		t.refuse(key, t.shown(key), "is not a list", "a list of mappings")
	}
	for i, item := range items {
		child := t.child(fmt.Sprintf("%s[%d]", t.at(key), i))
		m, ok := item.(map[string]any)
		if !ok {
			raw, _ := json.Marshal(item)
			t.refuse(fmt.Sprintf("%s[%d]", key, i), string(raw), "is not a mapping", "a mapping")
			continue
		}
		child.open(m)
		list = append(list, child)
	}
	return list
}

// ignored are the paths of the keys that nobody asked for.
func (t *tree) ignored() []string {
	var all []string
	for _, node := range *t.children {
		for folded, key := range node.keys {
			if !node.known[folded] && !strings.EqualFold(node.at(key), "XMLName") {
				all = append(all, shorten(node.at(key)))
			}
		}
	}
	slices.Sort(all)
	return all
}
