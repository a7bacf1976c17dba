package vmpod

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write docs/annotations.md anew")

// docs/annotations.md says what the parser does: it is made from its table.
func TestDocument(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "annotations.md")
	got := document(t)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		t.Errorf("%s differs (-update writes it anew): %v", path, err)
	}
}

// Each annotation has all its words, and an example that is accepted unless all
// values still are refused.
func TestTable(t *testing.T) {
	names := map[string]bool{}
	for _, a := range annotations() {
		if names[a.name] || a.accepted == "" || a.initial == "" || a.effect == "" || a.example == "" {
			t.Errorf("%+v: a name that is taken, or words are missing", a)
		}
		names[a.name] = true
		for _, text := range []string{a.accepted, a.initial, a.effect} {
			if strings.ContainsAny(text, "\n|") {
				t.Errorf("%s: %q does not fit into a table", a.name, text)
			}
		}
		s := defaultSettings()
		if err := a.set(&s, a.example); err != nil && !errors.Is(err, errNotYet) {
			t.Errorf("%s: the example is refused: %v", a.name, err)
		}
	}
}

// document renders the table, and what is said of single annotations in
// testdata/<name>.md below it.
func document(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	intro, err := os.ReadFile("testdata/annotations.md")
	if err != nil {
		t.Fatal(err)
	}
	b.Write(intro)
	b.WriteString("\n| Annotation | Value | Default |\n| --- | --- | --- |\n")
	for _, a := range annotations() {
		fmt.Fprintf(&b, "| [%s](#%s)%s | %s | %s |\n", a.name, anchor(a.name), refusedMark(a), markdown(a.accepted), a.initial)
	}
	for _, a := range annotations() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", a.name, a.effect)
		if refusedMark(a) != "" {
			b.WriteString("**Not supported yet:** a pod that asks for it is refused.\n\n")
		}
		fmt.Fprintf(&b, "* Value: %s\n* Default: %s\n\n```yaml\n%s```\n", markdown(a.accepted), a.initial, exampleYAML(t, a))
		if more, err := os.ReadFile("testdata/" + a.name + ".md"); err == nil {
			b.WriteString("\n" + string(more))
		}
	}
	return b.String()
}

// anchor is how GitHub calls a heading: in lower case, without dots and slashes.
func anchor(heading string) string {
	return strings.NewReplacer(".", "", "/", "").Replace(strings.ToLower(heading))
}

// refusedMark marks an annotation that this version refuses.
func refusedMark(a annotation) string {
	s := defaultSettings()
	if errors.Is(a.set(&s, a.example), errNotYet) {
		return " (not yet)"
	}
	return ""
}

// markdown keeps angle brackets from being taken for HTML.
func markdown(text string) string {
	return strings.NewReplacer("<", `\<`, ">", `\>`).Replace(text)
}

func exampleYAML(t *testing.T, a annotation) string {
	t.Helper()
	raw, err := yaml.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{a.name: a.example}}})
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
