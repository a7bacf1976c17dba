package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Mapping is a VirtletConfigMapping: settings for some of the nodes.
type Mapping struct {
	Name string
	// NodeName and NodeSelector say for which nodes it is, both when both are
	// given; without them it is for all.
	NodeName     string
	NodeSelector map[string]string
	// Priority decides among those of a node: of two that give a setting, the
	// higher one's counts.
	Priority int
	Config   map[string]any
}

// MappingNamespace is the only namespace whose VirtletConfigMappings count, and
// that of the ConfigMap.
const MappingNamespace = "kube-system"

// ConfigMapName is the ConfigMap with settings for all nodes.
const ConfigMapName = "virtlet-config"

// ParseMapping reads the spec of a VirtletConfigMapping, in JSON.
func ParseMapping(name string, spec []byte) (Mapping, error) {
	m := Mapping{Name: "VirtletConfigMapping " + MappingNamespace + "/" + name}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(spec, &fields); err != nil {
		return m, fmt.Errorf("%s: spec: a mapping with nodeName, nodeSelector, priority and config is accepted", m.Name)
	}
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		raw := fields[field]
		if err := m.take(field, raw); err != nil {
			return m, fmt.Errorf("%s: spec.%s: %s: %w", m.Name, field, raw, err)
		}
	}
	return m, nil
}

func (m *Mapping) take(field string, raw []byte) error {
	to, accepted := any(nil), ""
	switch field {
	case "nodeName":
		to, accepted = &m.NodeName, "a text"
	case "nodeSelector":
		to, accepted = &m.NodeSelector, "a mapping of labels"
	case "priority":
		to, accepted = &m.Priority, "a whole number"
	case "config":
		to, accepted = &m.Config, "a mapping of settings"
	default:
		return fmt.Errorf("no such field; there are nodeName, nodeSelector, priority and config")
	}
	if err := json.Unmarshal(raw, to); err != nil {
		return fmt.Errorf("%s is accepted", accepted)
	}
	return nil
}

// Object is what the mapping gives.
func (m Mapping) Object() Object { return Object{Name: m.Name, Config: m.Config} }

// NeedsLabels tells whether a node's labels decide about one of the mappings that
// may be for it.
func NeedsLabels(all []Mapping, node string) bool {
	return slices.ContainsFunc(all, func(m Mapping) bool {
		return len(m.NodeSelector) > 0 && (m.NodeName == "" || m.NodeName == node)
	})
}

// Select returns what the mappings for a node give, the more important last.
func Select(all []Mapping, node string, labels map[string]string) []Object {
	var mine []Mapping
	for _, m := range all {
		if m.isFor(node, labels) && len(m.Config) > 0 {
			mine = append(mine, m)
		}
	}
	slices.SortFunc(mine, func(a, b Mapping) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Name, b.Name))
	})
	var objects []Object
	for _, m := range mine {
		objects = append(objects, m.Object())
	}
	return objects
}

func (m Mapping) isFor(node string, labels map[string]string) bool {
	if m.NodeName != "" && m.NodeName != node {
		return false
	}
	for key, want := range m.NodeSelector {
		if value, has := labels[key]; !has || value != want {
			return false
		}
	}
	return true
}
