package deploy

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"sigs.k8s.io/yaml"

	"github.com/qemulet/qemulet/internal/images"
)

// definition is the CRD of a kind as an API server holds it.
func definition(t *testing.T, kind string) *apiextensions.CustomResourceDefinition {
	t.Helper()
	found := all[*apiextensionsv1.CustomResourceDefinition](t)
	i := slices.IndexFunc(found, func(d *apiextensionsv1.CustomResourceDefinition) bool { return d.Spec.Names.Kind == kind })
	if i < 0 {
		t.Fatalf("no definition of %s", kind)
	}
	external := found[i]
	apiextensionsv1.SetDefaults_CustomResourceDefinition(external)
	apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&external.Spec)
	internal := &apiextensions.CustomResourceDefinition{}
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(external, internal, nil); err != nil {
		t.Fatal(err)
	}
	return internal
}

func schema(t *testing.T, kind string) *apiextensions.JSONSchemaProps {
	t.Helper()
	d := definition(t, kind)
	if d.Spec.Validation != nil { // where the versions agree
		return d.Spec.Validation.OpenAPIV3Schema
	}
	return d.Spec.Versions[0].Schema.OpenAPIV3Schema
}

// An API server takes it, and its names are those of Virtlet.
func TestCRDIsAccepted(t *testing.T) { accepted(t, "VirtletImageMapping", "vim") }

func accepted(t *testing.T, kind, short string) {
	t.Helper()
	d := definition(t, kind)
	d.Status.StoredVersions = []string{"v1"}
	for _, err := range crdvalidation.ValidateCustomResourceDefinition(t.Context(), d) {
		t.Error(err)
	}
	n := d.Spec.Names
	if d.Spec.Group != "virtlet.k8s" || n.Plural != strings.ToLower(kind)+"s" || !slices.Equal(n.ShortNames, []string{short}) {
		t.Errorf("got %+v", d.Spec)
	}
}

// check says what is wrong with an object of this kind and spec, and which fields
// would be dropped.
func check(t *testing.T, kind, spec string) (problems string, unknown []string) {
	t.Helper()
	var content any
	if err := yaml.UnmarshalStrict([]byte(spec), &content); err != nil {
		t.Fatal(err)
	}
	object := map[string]any{"apiVersion": "virtlet.k8s/v1", "kind": kind,
		"metadata": map[string]any{"name": "it", "namespace": "kube-system"}, "spec": content}
	props := schema(t, kind)
	validator, _, err := validation.NewSchemaValidator(props)
	if err != nil {
		t.Fatal(err)
	}
	shape, err := structural.NewStructural(props)
	if err != nil {
		t.Fatal(err)
	}
	if err := validation.ValidateCustomResource(nil, object, validator).ToAggregate(); err != nil {
		problems = err.Error()
	}
	return problems, pruning.PruneWithOptions(object, shape, true, structural.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
}

const digest = "9f0c000000000000000000000000000000000000000000000000000000000000"

// documented is the example of docs/images.md.
func documented(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/images.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)\n```yaml\n(prefix: .*?)```").FindStringSubmatch(string(text))
	if m == nil {
		t.Fatal("docs/images.md has no example of a translation")
	}
	return strings.Replace(m[1], "9f0c...", digest, 1)
}

func TestCRDTakesGoodMappings(t *testing.T) {
	for name, spec := range map[string]string{
		"documented":       documented(t),
		"empty":            "{}",
		"Virtlet's":        "{translations: [{name: ubuntu/16.04, url: 'https://u', transport: ''}, {regexp: 'centos/(\\d+)', url: 'https://c/$1'}], transports: {'': {timeout: 30000, maxRedirects: 1, proxy: p, tls: {insecure: true, certificates: [{cert: c, key: k}]}}}}",
		"empty beside":     "{translations: [{name: '', regexp: a, url: u, sha256: ''}]}",
		"no redirects":     "{transports: {a: {maxRedirects: 0, requireSHA256SUMS: true}}}",
		"a digest's case":  "{translations: [{name: a, url: u, sha256: " + strings.ToUpper(digest) + "}]}",
		"both name and re": "{translations: [{name: a, regexp: b, url: u}]}",
	} {
		problems, unknown := check(t, "VirtletImageMapping", spec)
		if problems != "" || len(unknown) > 0 {
			t.Errorf("%s: %s, unknown %q", name, problems, unknown)
		}
		if _, err := images.ParseTranslation(name, []byte(spec)); err != nil {
			t.Errorf("%s: the daemon: %v", name, err)
		}
	}
}

// What the daemon refuses, the API server refuses before.
func TestCRDRefusesBadMappings(t *testing.T) {
	for name, c := range map[string]struct{ spec, want string }{
		"null":            {"null", "spec"},
		"a list":          {"[]", "spec"},
		"no url":          {"{translations: [{name: a}]}", "spec.translations[0].url: Required"},
		"an empty url":    {"{translations: [{name: a, url: ''}]}", "spec.translations[0].url"},
		"no pattern":      {"{translations: [{url: u}]}", "spec.translations[0]"},
		"empty patterns":  {"{translations: [{name: '', regexp: '', url: u}]}", "spec.translations[0]"},
		"no digest":       {"{translations: [{name: a, url: u, sha256: 9f0c}]}", "spec.translations[0].sha256"},
		"text as number":  {"{transports: {a: {timeout: 5s}}}", "spec.transports.a.timeout"},
		"fewer than none": {"{transports: {a: {maxRedirects: -1}}}", "spec.transports.a.maxRedirects"},
		"text as boolean": {"{transports: {a: {requireSHA256SUMS: 'yes'}}}", "spec.transports.a.requireSHA256SUMS"},
		"no certificate":  {"{transports: {a: {tls: {certificates: [{key: k}]}}}}", "spec.transports.a.tls.certificates[0].cert"},
		"no list":         {"{translations: {name: a}}", "spec.translations"},
	} {
		if problems, _ := check(t, "VirtletImageMapping", c.spec); !strings.Contains(problems, c.want) {
			t.Errorf("%s: got %q, want %q", name, problems, c.want)
		}
	}
	if _, unknown := check(t, "VirtletImageMapping", "{translations: [{name: a, url: u, sha265: x}]}"); !slices.Equal(unknown, []string{"spec.translations[0].sha265"}) {
		t.Errorf("unknown %q", unknown)
	}
}

// The schema has the fields that the daemon reads, no more and no less.
func TestCRDHasTheFieldsOfTranslations(t *testing.T) {
	spec := schema(t, "VirtletImageMapping").Properties["spec"]
	compare(t, "spec", reflect.TypeFor[images.Translation](), &spec)
}

func compare(t *testing.T, at string, typ reflect.Type, props *apiextensions.JSONSchemaProps) {
	t.Helper()
	switch typ.Kind() {
	case reflect.Pointer:
		compare(t, at, typ.Elem(), props)
	case reflect.Slice:
		compare(t, at+"[]", typ.Elem(), props.Items.Schema)
	case reflect.Map:
		compare(t, at+"{}", typ.Elem(), props.AdditionalProperties.Schema)
	case reflect.Struct:
		left := len(props.Properties)
		for i := range typ.NumField() {
			name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if name == "-" {
				continue
			}
			field, ok := props.Properties[name]
			if !ok {
				t.Errorf("%s.%s is missing", at, name)
				continue
			}
			left--
			compare(t, at+"."+name, typ.Field(i).Type, &field)
		}
		if left != 0 {
			t.Errorf("%s has %d fields that the daemon does not read", at, left)
		}
	default:
		want := map[reflect.Kind]string{reflect.String: "string", reflect.Int: "integer", reflect.Bool: "boolean"}[typ.Kind()]
		if props.Type != want {
			t.Errorf("%s is %q instead of %q", at, props.Type, want)
		}
	}
}
