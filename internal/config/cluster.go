package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Object is an object of the cluster that gives settings.
type Object struct {
	// Name is how errors and origins call it, such as "VirtletConfigMapping
	// kube-system/all".
	Name string `json:"name"`
	// Config is a VirtletConfigMapping's, Data a ConfigMap's; one of them is nil.
	Config map[string]any    `json:"config,omitempty"`
	Data   map[string]string `json:"data,omitempty"`
}

// loadObject takes what an object gives. Its error is all that is wrong with it.
func (c *Config) loadObject(settings []setting, o Object) error {
	l := objectLoader{c: c, settings: settings, name: o.Name, given: map[string]string{}}
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(o.Config)) {
		errs = append(errs, l.field(key, o.Config[key]))
	}
	for _, key := range slices.Sorted(maps.Keys(o.Data)) {
		errs = append(errs, l.key(key, o.Data[key]))
	}
	return errors.Join(errs...)
}

// objectLoader is one object on its way into the settings.
type objectLoader struct {
	c        *Config
	settings []setting
	name     string
	given    map[string]string // by setting, what gave it
}

// field takes a field of a VirtletConfigMapping.
func (l *objectLoader) field(key string, raw any) error {
	at := "spec.config." + key
	v, virtlet := findVirtlet(func(v virtletName) bool { return v.field == key })
	if !virtlet {
		return l.own(at, key, fmt.Sprint(raw), func(s setting) error { return s.value.accept(raw) })
	}
	text, err := v.textOf(raw)
	if err != nil {
		return fmt.Errorf("%s: %s: %v: %w", l.name, at, raw, err)
	}
	return l.virtlet(at, text, v)
}

// key takes a key of the ConfigMap.
func (l *objectLoader) key(key, text string) error {
	at := "data." + key
	v, virtlet := findVirtlet(func(v virtletName) bool { return v.key == key })
	if !virtlet {
		return l.own(at, key, text, func(s setting) error { return s.value.Set(text) })
	}
	if v.form.Type == "boolean" {
		var warning string
		if text, warning = truth(text); warning != "" {
			l.warn("%s: %s", at, warning)
		}
	}
	return l.virtlet(at, text, v)
}

func (l *objectLoader) warn(format string, args ...any) {
	l.c.Warnings = append(l.c.Warnings, l.name+": "+fmt.Sprintf(format, args...))
}

// own takes a setting by its own name.
func (l *objectLoader) own(at, key, shown string, set func(setting) error) error {
	s, ok := findSetting(l.settings, key)
	switch {
	case !ok:
		return fmt.Errorf("%s: %s: no such setting; there are Virtlet's and %s", l.name, at, strings.Join(clusterNames(l.settings), ", "))
	case s.local:
		return fmt.Errorf("%s: %s: it is a node's own setting; give it there, in %s or as %s", l.name, at, DefaultFile, EnvName(s.name))
	}
	return l.put(at, shown, s, set)
}

// virtlet takes a setting by Virtlet's name. Those that have no effect are no
// error, for they are in objects that were made for Virtlet.
func (l *objectLoader) virtlet(at, text string, v virtletName) error {
	if v.gone != "" {
		l.warn("%s has no effect: %s", at, v.gone)
		return nil
	}
	s, _ := findSetting(l.settings, v.setting)
	if s.local {
		l.warn("%s has no effect: it is a node's own setting; give it there, in %s as %s", at, DefaultFile, s.name)
		return nil
	}
	return l.put(at, text, s, func(s setting) error {
		value, err := v.value(text)
		if err != nil {
			return err
		}
		return s.value.Set(value)
	})
}

// put sets a setting, which an object may give once.
func (l *objectLoader) put(at, shown string, s setting, set func(setting) error) error {
	if before, twice := l.given[s.name]; twice {
		return fmt.Errorf("%s: %s and %s are the same setting: one of them is accepted", l.name, before, at)
	}
	l.given[s.name] = at
	if err := set(s); err != nil {
		return fmt.Errorf("%s: %s: %q: %w", l.name, at, shown, err)
	}
	l.c.origins[s.name] = Origin(fmt.Sprintf("the %s (%s)", l.name, at))
	return nil
}

// textOf is the text of what a field holds.
func (v virtletName) textOf(raw any) (string, error) {
	switch raw := raw.(type) {
	case bool:
		if v.form.Type == "boolean" {
			return strconv.FormatBool(raw), nil
		}
	case string:
		if v.form.Type == "string" {
			return raw, nil
		}
	case float64:
		if n := int64(raw); v.form.Type == "integer" && float64(n) == raw {
			return strconv.FormatInt(n, 10), nil
		}
	case int64:
		if v.form.Type == "integer" {
			return strconv.FormatInt(raw, 10), nil
		}
	}
	return "", fmt.Errorf("it is %s, a %s is accepted", yamlKind(raw), v.form.Type)
}

func findVirtlet(is func(virtletName) bool) (virtletName, bool) {
	i := slices.IndexFunc(virtletNames, is)
	if i < 0 {
		return virtletName{}, false
	}
	return virtletNames[i], true
}

func findSetting(settings []setting, name string) (setting, bool) {
	i := slices.IndexFunc(settings, func(s setting) bool { return s.name == name })
	if i < 0 {
		return setting{}, false
	}
	return settings[i], true
}

// clusterNames are the settings that objects of the cluster may give.
func clusterNames(settings []setting) []string {
	var names []string
	for _, s := range settings {
		if !s.local {
			names = append(names, s.name)
		}
	}
	return names
}
