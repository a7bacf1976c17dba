package images

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTranslate(t *testing.T) {
	text := `
translations:
- {regexp: '^centos/(\d+)-[^.]*$', url: 'https://centos.example/$1/disk.qcow2', transport: slow}
- {regexp: 'irro', url: 'first-regexp.example/x'}
- {name: cirros, url: 'cirros.example/cirros.img'}
- {name: 'cirros:0.3', url: 'http://cirros.example/0.3.img'}
- {regexp: 'irro', url: 'second.example/x'}
- {name: odd, url: 'https://odd.example/x', transport: nowhere}
transports:
  "": {timeout: 1000}
  slow: {timeout: 60000, maxRedirects: 0}
`
	first, err := ParseTranslation("a.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	second, err := ParseTranslation("b.yaml", []byte("prefix: linux\ntranslations:\n- {name: debian/12, url: 'https://d.example/12'}\n- {name: cirros, url: 'https://never.example'}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, url, source string
		timeout           int
	}{
		{"cirros", "https://cirros.example/cirros.img", "a.yaml", 1000},
		{"virtlet.cloud/cirros:latest", "https://cirros.example/cirros.img", "a.yaml", 1000},
		{"cirros:0.3", "http://cirros.example/0.3.img", "a.yaml", 1000},
		{"cirros:0.4", "https://cirros.example/cirros.img", "a.yaml", 1000},
		{"cirros@sha256:" + hexA, "https://cirros.example/cirros.img", "a.yaml", 1000},
		{"mycirros2", "https://first-regexp.example/x", "a.yaml", 1000},
		{"centos/7-01", "https://centos.example/7/disk.qcow2", "a.yaml", 60000},
		{"odd", "https://odd.example/x", "a.yaml", 0},
		{"linux/debian/12", "https://d.example/12", "b.yaml", 0},
		{"linux2/debian/12", "https://linux2/debian/12", "", 0},
		{"debian/12", "https://debian/12", "", 0},
		{"example.com/x.qcow2:v1", "https://example.com/x.qcow2", "", 0},
	} {
		n, err := ParseName(c.name)
		if err != nil {
			t.Fatal(err)
		}
		r := Translate(n, []Translation{first, second}, TranslateOptions{Protocol: "https"})
		if r.URL != c.url || r.Source != c.source || r.Profile.TimeoutMilliseconds != c.timeout || (r.Rule == nil) != (c.source == "") {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
	n, _ := ParseName("mycirros2")
	if r := Translate(n, []Translation{first}, TranslateOptions{Protocol: "http", NoRegexp: true}); r.URL != "http://mycirros2" {
		t.Errorf("regexps are off, and yet %s", r.URL)
	}
}

func TestTranslateSkipsBadRegexp(t *testing.T) {
	tr, err := ParseTranslation("bad.yaml", []byte("translations:\n- {regexp: '(', url: a.example}\n- {regexp: '.', url: b.example}\n"))
	if err != nil {
		t.Fatal(err)
	}
	var w warnings
	r := Translate(Name{Path: "x"}, []Translation{tr}, TranslateOptions{Protocol: "https", Warn: w.add})
	if r.URL != "https://b.example" || !strings.Contains(w.text(), "bad.yaml: rule 1 skipped: regexp") {
		t.Errorf("%s, warned: %s", r.URL, w.text())
	}
}

func TestLoadTranslations(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rule := func(url string) string { return "translations: [{name: x, url: " + url + "}]\n" }
	write("20.yaml", rule("second"))
	write("10", rule("first"))
	write("05-broken.yaml", "translations: {")
	write("06-nourl.yaml", "translations: [{name: x}]")
	write("07-norule.yaml", "translations: [{url: x}]")
	write("08-empty.yaml", "")
	write("30-unknown.yaml", rule("third")+"colour: blue\n")
	write("40-huge.yaml", strings.Repeat("#", maxTranslationFile+1))
	write(".hidden", rule("hidden"))
	write("..data-version", rule("version"))
	for name, target := range map[string]string{"25-link": "10", "99-dangling": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "15-dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	var w warnings
	var urls []string
	for _, tr := range LoadTranslations(dir, w.add) {
		for _, r := range tr.Rules {
			urls = append(urls, r.URL)
		}
	}
	if got := strings.Join(urls, " "); got != "first second first third" {
		t.Errorf("rules: %s", got)
	}
	for _, want := range []string{"05-broken", "06-nourl", "07-norule", "30-unknown", "40-huge", "99-dangling", "colour"} {
		if !strings.Contains(w.text(), want) {
			t.Errorf("no warning about %s in:\n%s", want, w.text())
		}
	}
	for _, not := range []string{"08-empty", "15-dir", "hidden"} {
		if strings.Contains(w.text(), not) {
			t.Errorf("warning about %s in:\n%s", not, w.text())
		}
	}
	if got := LoadTranslations(filepath.Join(dir, "missing"), func(err error) { t.Error(err) }); got != nil {
		t.Errorf("missing directory: %v", got)
	}
}

func FuzzTranslation(f *testing.F) {
	f.Add([]byte("prefix: a\ntranslations: [{name: x, url: y, transport: z}]\ntransports: {z: {timeout: 5, maxRedirects: 3}}"), "a/x")
	f.Add([]byte("translations: [{regexp: '(?P<a>x)(y)?', url: '$a-$2-$9-${'}]"), "xy")
	f.Add([]byte(`{"translations":[{"regexp":"[","url":"u"}]}`), "q")
	f.Fuzz(func(t *testing.T, text []byte, path string) {
		tr, err := ParseTranslation("fuzz", text)
		if err != nil {
			return
		}
		r := Translate(Name{Path: path, Tag: latest}, []Translation{tr}, TranslateOptions{Protocol: "https"})
		if !strings.Contains(r.URL, "://") {
			t.Fatalf("no URL: %q", r.URL)
		}
		if c, err := r.Profile.client(func(error) {}); err == nil {
			c.CloseIdleConnections()
		}
		_ = RedactURL(r.URL)
	})
}
