package config

import (
	"fmt"
	"maps"
	"slices"
)

// Schema says what a value may be, in JSON Schema's words as far as a
// CustomResourceDefinition has them.
type Schema struct {
	Type        string   `json:"type"`
	Description string   `json:"description,omitempty"`
	Pattern     string   `json:"pattern,omitempty"`
	Enum        []string `json:"enum,omitempty"`
	Minimum     *int     `json:"minimum,omitempty"`
	Maximum     *int     `json:"maximum,omitempty"`
	MinItems    *int     `json:"minItems,omitempty"`
	Items       *Schema  `json:"items,omitempty"`
}

// MappingSchema is what a VirtletConfigMapping's config may hold, by field:
// Virtlet's own, and all settings that are not local to a node by their names.
func MappingSchema() map[string]Schema {
	fields := map[string]Schema{}
	for _, s := range table(&Config{}) {
		if !s.local {
			fields[s.name] = described(s.value.schema(), "Setting "+s.name+": "+s.usage)
		}
	}
	for _, v := range virtletNames {
		if v.field != "" {
			fields[v.field] = described(v.form, v.describe())
		}
	}
	return fields
}

func described(s Schema, text string) Schema {
	s.Description = text + "."
	return s
}

func (v virtletName) describe() string {
	switch {
	case v.gone != "":
		return "Virtlet's; it has no effect: " + v.gone
	case v.translate != nil:
		return fmt.Sprintf("Virtlet's name for the setting %s, %s", v.setting, v.differs)
	}
	return "Virtlet's name for the setting " + v.setting
}

// SameSettings lists the pairs of a VirtletConfigMapping's fields that give the same
// setting, of which an object may have one.
func SameSettings() [][2]string {
	local := map[string]bool{}
	for _, s := range table(&Config{}) {
		local[s.name] = s.local
	}
	pairs := map[string]string{}
	for _, v := range virtletNames {
		if v.field != "" && v.gone == "" && !local[v.setting] {
			pairs[v.field] = v.setting
		}
	}
	var all [][2]string
	for _, field := range slices.Sorted(maps.Keys(pairs)) {
		all = append(all, [2]string{field, pairs[field]})
	}
	return all
}
