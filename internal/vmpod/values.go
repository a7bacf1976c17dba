package vmpod

import (
	"encoding/json"
	"errors"
	"regexp"
	"strings"

	"gopkg.in/inf.v0"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"
)

// yamlValue reads YAML or JSON; nothing at all is nil. Numbers stay as they are
// written (json.Number), for a phone number or a serial must not go through a
// float.
func yamlValue(text string) (value any, _ error) {
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return nil, yamlError(err)
	}
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	err = d.Decode(&value)
	return value, err
}

// mapping reads a mapping in YAML or JSON; nothing at all is an empty one.
func mapping(text string) (map[string]any, error) {
	value, err := yamlValue(text)
	if err != nil {
		return nil, err
	}
	switch m := value.(type) {
	case nil:
		return nil, nil
	case map[string]any:
		return m, nil
	case []any:
		return nil, errors.New("it is a list")
	default:
		return nil, errors.New("it is a single value")
	}
}

// yamlSyntax is the form of the library's messages about syntax: a position and
// fixed words. Its other messages quote the document.
var yamlSyntax = regexp.MustCompile("^yaml: ((?:line [0-9]+: )?(?:mapping values|found|did not find|could not find|block|control characters)[^\n]*)$")

// yamlError keeps a secret in a document out of the error about it.
func yamlError(err error) error {
	if m := yamlSyntax.FindStringSubmatch(err.Error()); m != nil {
		return errors.New(m[1])
	}
	return errors.New("it cannot be read as YAML")
}

// maxRootVolumeSize is what a qcow2 file with clusters of 64 KiB can address.
const maxRootVolumeSize = int64(2) << 50

// quantityForm is the grammar of a Kubernetes quantity with short numbers:
// the library's own parser would compute 10^999999999 if told to.
var quantityForm = regexp.MustCompile(`^[+-]?[0-9.]{1,40}([eE][+-]?[0-9]{1,2}|[numkMGTPE]|[KMGTPE]i)?$`)

// setRootVolumeSize takes any quantity that is a whole number of bytes. Zero
// and less mean the image's size.
func setRootVolumeSize(s *Settings, value string) error {
	n, err := wholeBytes(value)
	if err != nil {
		return err
	}
	if n > maxRootVolumeSize {
		return errors.New("bad root volume size: too big")
	}
	s.RootVolumeSize = max(n, 0)
	return nil
}

func wholeBytes(value string) (int64, error) {
	if !quantityForm.MatchString(value) {
		return 0, errors.New("error parsing the root volume size")
	}
	q, err := resource.ParseQuantity(value)
	if err != nil {
		return 0, errors.New("error parsing the root volume size")
	}
	// AsInt64 answers only for quantities that the library holds as an int64:
	// neither 1.5Gi nor 100Ti.
	d := new(inf.Dec).Round(q.AsDec(), 0, inf.RoundExact)
	if d == nil {
		return 0, errors.New("bad root volume size: not a whole number of bytes")
	}
	n, fits := d.Unscaled()
	if !fits {
		return 0, errors.New("bad root volume size: too big")
	}
	return n, nil
}
