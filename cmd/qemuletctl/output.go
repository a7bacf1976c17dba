package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// The formats of answers.
const (
	formatText  = "text"
	formatWide  = "wide"
	formatShort = "short"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

// format is the value of -o.
type format struct {
	value    string
	accepted []string
}

// String implements pflag.Value, as do Set and Type.
func (f *format) String() string { return f.value }

// Set accepts the formats.
func (f *format) Set(s string) error {
	if !slices.Contains(f.accepted, s) {
		return fmt.Errorf("accepted: %s", strings.Join(f.accepted, ", "))
	}
	f.value = s
	return nil
}

// Type names the kind of value in the help.
func (f *format) Type() string { return "format" }

// formatFlag adds -o with these formats, of which the first is the default.
func formatFlag(cmd *cobra.Command, accepted ...string) *format {
	f := &format{value: accepted[0], accepted: accepted}
	cmd.Flags().VarP(f, "output", "o", strings.Join(accepted, ", "))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(accepted, cobra.ShellCompDirectiveNoFileComp))
	return f
}

// structured writes what as JSON or YAML, which are f's only values then.
func (f *format) structured(out io.Writer, what any) error {
	raw, err := json.MarshalIndent(what, "", "  ")
	if err != nil {
		return err
	}
	if f.value == formatYAML {
		if raw, err = yaml.JSONToYAML(raw); err != nil {
			return err
		}
		_, err = out.Write(raw)
		return err
	}
	_, err = fmt.Fprintln(out, string(raw))
	return err
}

// isStructured tells whether the answer is for programs.
func (f *format) isStructured() bool { return f.value == formatJSON || f.value == formatYAML }

// age is the time since a moment as kubectl writes it: in its largest unit.
func age(since time.Time) string {
	if since.IsZero() {
		return "-"
	}
	switch d := time.Since(since); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", max(0, d/time.Second))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	default:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
}

// size writes what a file has or occupies, for people.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, prefix := float64(n)/unit, 0
	for ; value >= unit && prefix < len("KMGT")-1; prefix++ {
		value /= unit
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGT"[prefix])
}

// mebibytes writes a size of RAM.
func mebibytes(n int64) string { return fmt.Sprintf("%dMi", n>>20) }

func argumentsError(cmd *cobra.Command, what string) error {
	return fmt.Errorf("%s takes %s; `%[1]s --help` has examples", cmd.CommandPath(), what)
}
