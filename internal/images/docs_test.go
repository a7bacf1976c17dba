package images

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// page returns the objects and translations in the page about images.
func page(t *testing.T) (all [][]byte) {
	t.Helper()
	text, err := os.ReadFile("../../docs/images.md")
	if err != nil {
		t.Fatal(err)
	}
	whole := strings.ReplaceAll(string(text), "sha256: 9f0c...", "sha256: "+hexA) // a page has no room for digests
	blocks := strings.Split(whole, "```yaml\n")
	for _, b := range blocks[1:] {
		b, _, _ = strings.Cut(b, "\n```")
		for _, doc := range strings.Split(b, "\n---\n") {
			all = append(all, []byte(doc))
		}
	}
	return all
}

// The examples on the page are what the code takes.
func TestDocumentedTranslations(t *testing.T) {
	objects := map[string]int{}
	for _, doc := range page(t) {
		var o struct {
			APIVersion, Kind string
			Metadata         struct{ Name, Namespace string }
			Spec             json.RawMessage
		}
		if err := yaml.Unmarshal(doc, &o); err != nil {
			t.Fatalf("%v in:\n%s", err, doc)
		}
		objects[o.APIVersion+" "+o.Kind]++
		spec := doc
		switch {
		case o.Kind == "VirtletImageMapping":
			spec = o.Spec
			if o.Metadata.Name == "" || o.Metadata.Namespace != "kube-system" {
				t.Errorf("%+v", o.Metadata)
			}
		case o.Kind != "":
			continue
		}
		tr, err := ParseTranslation("docs", spec)
		if err != nil {
			t.Errorf("%v in:\n%s", err, doc)
			continue
		}
		warn := func(err error) { t.Error(err) }
		for path, want := range map[string]string{"debian/12": "https://cloud.example.com/debian-12.qcow2", "fedora/43": "oci://registry.example.com/containerdisks/fedora:43"} {
			if tr.Prefix != "" {
				path = tr.Prefix + "/" + path
			}
			if got := Translate(Name{Path: path, Tag: latest}, []Translation{tr}, TranslateOptions{Warn: warn}); got.URL != want {
				t.Errorf("%s: %s", path, got.URL)
			}
		}
	}
	for _, want := range []string{" ", "virtlet.k8s/v1 VirtletImageMapping", "apiextensions.k8s.io/v1 CustomResourceDefinition", "rbac.authorization.k8s.io/v1 Role", "rbac.authorization.k8s.io/v1 RoleBinding"} {
		if objects[want] != 1 {
			t.Errorf("%d examples of %q", objects[want], want)
		}
	}
}
