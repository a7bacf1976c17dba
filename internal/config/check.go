package config

import (
	"fmt"

	"sigs.k8s.io/yaml"
)

// Check tells whether a document is understood: a settings file, or in YAML a
// VirtletConfigMapping or the ConfigMap virtlet-config. name is what errors and
// warnings call the file.
func Check(name string, raw []byte) (warnings []string, err error) {
	c := &Config{origins: map[string]Origin{}}
	c.settings = table(c)
	var head struct {
		Kind     string `json:"kind"`
		Metadata struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"metadata"`
		Spec map[string]any    `json:"spec"`
		Data map[string]string `json:"data"`
	}
	if yaml.Unmarshal(raw, &head) != nil || head.Kind == "" {
		err := c.readFile(c.settings, name, raw)
		return c.Warnings, err
	}
	if err := yaml.UnmarshalStrict(raw, &map[string]any{}); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	o := Object{Name: name, Data: head.Data}
	switch head.Kind {
	case "VirtletConfigMapping":
		spec, err := yaml.Marshal(head.Spec)
		if err != nil {
			return nil, err
		}
		if o, err = checkMapping(name, spec); err != nil {
			return nil, err
		}
	case "ConfigMap":
		if head.Metadata.Name != ConfigMapName {
			c.Warnings = append(c.Warnings, fmt.Sprintf("%s: only the ConfigMap called %s counts", name, ConfigMapName))
		}
	default:
		return nil, fmt.Errorf("%s: kind %q: VirtletConfigMapping, ConfigMap, and files without a kind are accepted", name, head.Kind)
	}
	if head.Metadata.Namespace != MappingNamespace {
		c.Warnings = append(c.Warnings, fmt.Sprintf("%s: only those in the namespace %s count", name, MappingNamespace))
	}
	err = c.loadObject(c.settings, o)
	return c.Warnings, err
}

func checkMapping(name string, spec []byte) (Object, error) {
	raw, err := yaml.YAMLToJSON(spec)
	if err != nil {
		return Object{}, err
	}
	m, err := ParseMapping(name, raw)
	m.Name = name
	return m.Object(), err
}
