package images

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// steps writes an explanation down, a line for each step.
func steps(e Explanation) string {
	var b strings.Builder
	for _, s := range e.Steps {
		why := s.Why
		if s.Matched {
			why = "MATCH"
		}
		fmt.Fprintf(&b, "%s %d %s: %s\n", filepath.Base(s.Source), s.Rule, s.Pattern, why)
	}
	return b.String()
}

func TestExplain(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"1-other.yaml":  "prefix: other\ntranslations: [{name: cirros, url: https://host/o}]\n",
		"2-broken.yaml": "translations: [",
		"3-names.yaml": "translations:\n- {regexp: '[', url: x}\n- {name: fedora, url: https://host/f}\n- {name: cirros, url: https://host/c}\n" +
			"- {name: 'cirros:0.6', url: 'https://joe:secret@host/c6?token=secret', transport: slow}\n- {regexp: '^ubuntu/(.*)', url: 'host/$1.img'}\ntransports: {slow: {timeout: 5}}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		ref, url, steps string
		o               Options
		wrong           string
	}{
		{ref: "virtlet.cloud/cirros", url: "https://host/c", steps: "1-other.yaml 0 : it is for names that begin with \"other/\"\n" +
			"3-names.yaml 2 name \"fedora\": another name\n3-names.yaml 3 name \"cirros\": MATCH\n"},
		{ref: "cirros:0.6", url: "https://joe:secret@host/c6?token=secret", steps: "1-other.yaml 0 : it is for names that begin with \"other/\"\n" +
			"3-names.yaml 2 name \"fedora\": another name\n3-names.yaml 3 name \"cirros\": a rule for the tag counts more\n3-names.yaml 4 name \"cirros:0.6\": MATCH\n"},
		{ref: "ubuntu/noble", url: "https://host/noble.img", steps: "1-other.yaml 0 : it is for names that begin with \"other/\"\n" +
			"3-names.yaml 2 name \"fedora\": another name\n3-names.yaml 3 name \"cirros\": another name\n3-names.yaml 4 name \"cirros:0.6\": another name\n" +
			"3-names.yaml 1 regexp \"[\": it does not compile\n3-names.yaml 5 regexp \"^ubuntu/(.*)\": MATCH\n"},
		{ref: "ubuntu/noble", o: Options{NoRegexp: true, Protocol: "http"}, url: "http://ubuntu/noble", steps: "1-other.yaml 0 : it is for names that begin with \"other/\"\n" +
			"3-names.yaml 2 name \"fedora\": another name\n3-names.yaml 3 name \"cirros\": another name\n3-names.yaml 4 name \"cirros:0.6\": another name\n" +
			"3-names.yaml 1 regexp \"[\": regexps are switched off\n3-names.yaml 5 regexp \"^ubuntu/(.*)\": regexps are switched off\n"},
		{ref: "nothing", o: Options{NoRegexp: true}, url: "https://nothing", wrong: "no image translation rule matches"},
	} {
		test.o.TranslationDir = dir
		e, err := Explain(context.Background(), test.ref, test.o)
		if err != nil {
			t.Fatal(err)
		}
		if got := steps(e); e.URL != test.url || test.steps != "" && got != test.steps {
			t.Errorf("%s: %s\n%s", test.ref, e.URL, got)
		}
		if (e.Err != nil) != (test.wrong != "") || e.Err != nil && !strings.Contains(e.Err.Error(), test.wrong) {
			t.Errorf("%s: %v", test.ref, e.Err)
		}
		if len(e.Problems) == 0 || !strings.Contains(fmt.Sprint(e.Problems), "2-broken.yaml") {
			t.Errorf("%s: problems %v", test.ref, e.Problems)
		}
	}
	// What a pull would find wrong without asking anybody.
	text := "translations:\n- {name: f, url: 'file:///x'}\n- {name: t, url: 'https://host/t', transport: bad}\n- {name: u, url: 'https://host/u', transport: none, sha256: " + strings.Repeat("AB", 32) +
		"}\n- {name: s, url: 'https://host/s', transport: sums}\ntransports: {bad: {proxy: nothing}, sums: {requireSHA256SUMS: true}}\n"
	o := Options{TranslationDir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(o.TranslationDir, "a.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"f": "image-file-dir", "t": `transport "bad"`, "u": `names the transport "none", which is not there`,
		"u:2": "sha256:" + strings.Repeat("ab", 32) + ", from the rule", "s": "SHA256SUMS",
	} {
		e, err := Explain(context.Background(), name, o)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(e.Err, e.Problems, e.Checks()); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if _, err := Explain(context.Background(), "No/Name", Options{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v", err)
	}
}

// What is explained is what a pull does.
func TestExplainAgreesWithPull(t *testing.T) {
	s := testStore(t)
	translate(t, s, "a.yaml", "translations: [{regexp: '^(.*)$', url: 'https://host/$1', transport: t}]\ntransports: {t: {timeout: 7}}\n")
	n, err := ParseName("a/b")
	if err != nil {
		t.Fatal(err)
	}
	res := s.resolve(context.Background(), n)
	e, err := s.Explain(context.Background(), "a/b")
	if err != nil || e.URL != res.URL || e.ProfileName != res.ProfileName || e.Source != res.Source || *e.Rule != *res.Rule || e.Profile.TimeoutMilliseconds != 7 {
		t.Errorf("%+v, want %+v, %v", e, res, err)
	}
}

// Where names are no URLs, only rules say where images come from.
func TestNoProtocolLeavesOnlyRules(t *testing.T) {
	s := testStore(t, func(o *Options) { o.Protocol = ProtocolNone })
	translate(t, s, "a.yaml", "translations: [{name: known, url: host/known.qcow2}]\n")
	for _, name := range []string{"host/known.qcow2", "bare"} {
		if _, err := s.Pull(context.Background(), name, nil); !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "this node takes no other names") {
			t.Errorf("%s: got %v", name, err)
		}
		if e, err := s.Explain(context.Background(), name); err != nil || e.URL != "" || !errdefs.IsPermissionDenied(e.Err) {
			t.Errorf("%s: explained as %+v, %v", name, e, err)
		}
	}
	if e, err := s.Explain(context.Background(), "known"); err != nil || e.URL != "https://host/known.qcow2" || e.Err != nil {
		t.Errorf("known: explained as %+v, %v", e, err)
	}
}
