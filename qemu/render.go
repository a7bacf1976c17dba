package qemu

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// option is one key=value of an option; a key with an empty value stands alone.
type option struct{ key, value string }

// options is a list of key=value in QEMU's own syntax, for the few options that
// do not take JSON.
type options []option

// String renders the list. A comma within a value is written twice, which is all
// the escaping that QEMU's syntax has and needs.
func (o options) String() string {
	parts := make([]string, len(o))
	for i, kv := range o {
		parts[i] = kv.key
		if kv.value != "" {
			parts[i] += "=" + strings.ReplaceAll(kv.value, ",", ",,")
		}
	}
	return strings.Join(parts, ",")
}

// renderJSON renders one of our own structs on one line, with the keys in the
// order of its fields. They hold nothing that can fail.
func renderJSON(v any) string {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("qemu: rendering %T: %v", v, err))
	}
	return strings.TrimSuffix(buf.String(), "\n")
}

// printable tells whether text has up to max bytes and can be shown on one line.
func printable(text string, max int) bool {
	return len(text) <= max && utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// printableASCII is printable for what a guest reads as plain bytes.
func printableASCII(text string, max int) bool {
	return printable(text, max) && !strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII })
}
