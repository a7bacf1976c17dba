package imagecli

import (
	"encoding/json"
	"fmt"
	"io"
)

// Format is how an answer is written: for people, or for programs.
type Format string

// The formats.
const (
	Text Format = "text"
	JSON Format = "json"
)

// String implements pflag.Value, as do Set and Type.
func (f *Format) String() string { return string(*f) }

// Set accepts the formats.
func (f *Format) Set(s string) error {
	if v := Format(s); v == Text || v == JSON {
		*f = v
		return nil
	}
	return fmt.Errorf("accepted: %s, %s", Text, JSON)
}

// Type names the kind of value in the help.
func (f *Format) Type() string { return "format" }

func writeJSON(out io.Writer, what any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(what)
}
