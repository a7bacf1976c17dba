package images

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func writeTranslation(t *testing.T, s *Store, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.opts.TranslationDir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func mustResolve(t *testing.T, s *Store, name string) Resolution {
	t.Helper()
	n, err := ParseName(name)
	if err != nil {
		t.Fatal(err)
	}
	return s.resolve(t.Context(), n)
}

// Objects count before files, in the order of their names, and a broken one
// does not stop the others.
func TestMappings(t *testing.T) {
	var w warnings
	mappings := []Mapping{
		{Name: "object c", Spec: []byte(`{"translations":[{"name":"x","url":"from-c"},{"regexp":"y.*","url":"regexp-c"}]}`)},
		{Name: "object a", Spec: []byte(`{"prefix":"a","translations":[{"name":"x","url":"from-a"}],"colour":"blue"}`)},
		{Name: "object b", Spec: []byte(`{"translations":"none"}`)},
		{Name: "object d", Spec: []byte(`{"translations":[{"name":"x","url":"from-d"},{"regexp":"^z","url":"regexp-d"},{"name":"zz","url":"exact-d"}]}`)},
		{Name: "object e", Spec: []byte(`null`)},
	}
	s := testStore(t, func(o *Options) {
		o.Warn = w.add
		o.Mappings = func(context.Context) ([]Mapping, error) { return mappings, nil }
	})
	writeTranslation(t, s, "0.yaml", "translations: [{name: x, url: from-file}, {name: yy, url: exact-file}, {name: other, url: from-file}]")
	for name, want := range map[string]string{
		"x": "http://from-c", "a/x": "http://from-a", "yy": "http://regexp-c", "zz": "http://exact-d", "zzz": "http://regexp-d", "other": "http://from-file",
	} {
		if res := mustResolve(t, s, name); res.URL != want {
			t.Errorf("%s: %s by %s, want %s", name, res.URL, res.Source, want)
		}
	}
	if res := mustResolve(t, s, "x"); res.Source != "object c" {
		t.Errorf("source: %s", res.Source)
	}
	if !strings.Contains(w.text(), "object b skipped") || !strings.Contains(w.text(), "colour") {
		t.Errorf("warned: %s", w.text())
	}
	mappings = nil // read fresh for each pull
	if res := mustResolve(t, s, "x"); res.URL != "http://from-file" {
		t.Errorf("without objects: %s", res.URL)
	}
}

// When nobody answers, the files work, and it is said once.
func TestMappingsUnavailable(t *testing.T) {
	var w warnings
	s := testStore(t, func(o *Options) {
		o.Warn = w.add
		o.Mappings = func(context.Context) ([]Mapping, error) { return nil, errors.New("nobody answers") }
	})
	writeTranslation(t, s, "0.yaml", "translations: [{name: x, url: from-file}]")
	if res := mustResolve(t, s, "x"); res.URL != "http://from-file" {
		t.Errorf("got %s", res.URL)
	}
	if got := w.text(); got != "image translations: only those of files count: nobody answers" {
		t.Errorf("warned: %s", got)
	}
}
