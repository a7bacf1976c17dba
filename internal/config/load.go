package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// fileFlag and fileEnv name the file with the settings; they are no settings
// themselves.
const (
	fileFlag = "config"
	fileEnv  = "QEMULET_CONFIG"
)

// EnvName is the environment variable of a setting.
func EnvName(setting string) string {
	return "QEMULET_" + strings.ToUpper(strings.ReplaceAll(setting, "-", "_"))
}

// AddFlags adds a flag for each setting and --config.
func AddFlags(flags *pflag.FlagSet) {
	flags.String(fileFlag, "", fmt.Sprintf("YAML `file` with settings, each called as its flag (default %s if that exists)", DefaultFile))
	for _, s := range table(&Config{}) {
		flag := flags.VarPF(s.value, s.name, "", s.usage)
		if s.value.Type() == "bool" {
			flag.NoOptDefVal = "true" // --name alone switches it on
		}
	}
}

// Load reads the settings from all sources. flags were made by AddFlags and
// parsed, or nil; environ is like os.Environ's result; of the cluster's objects
// the later counts more, and less than all that the node itself gives. The error
// lists all that is wrong, naming the setting, the value, where it comes from and
// what is accepted.
func Load(flags *pflag.FlagSet, environ []string, cluster ...Object) (*Config, error) {
	c := &Config{origins: map[string]Origin{}}
	settings := table(c)
	c.settings = settings
	for _, s := range settings {
		c.origins[s.name] = originDefault
	}
	env := environment(environ)
	var errs []error
	for _, o := range cluster {
		errs = append(errs, c.loadObject(settings, o))
	}
	errs = append(errs, c.loadFile(settings, flags, env), c.loadEnv(settings, env), c.loadFlags(settings, flags))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := c.agree(); err != nil {
		return nil, err
	}
	c.derive()
	c.Warnings = append(c.Warnings, unknownEnv(settings, env)...)
	return c, nil
}

func environment(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, kv := range environ {
		key, value, _ := strings.Cut(kv, "=")
		env[key] = value
	}
	return env
}

func (c *Config) loadFile(settings []setting, flags *pflag.FlagSet, env map[string]string) error {
	file, required := env[fileEnv], env[fileEnv] != ""
	if flags != nil && flags.Changed(fileFlag) {
		file, _ = flags.GetString(fileFlag)
		required = true
	}
	if !required {
		file = DefaultFile
	}
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && !required {
		return nil
	}
	if err != nil {
		return fmt.Errorf("settings file: %w", err)
	}
	return c.readFile(settings, file, raw)
}

func (c *Config) readFile(settings []setting, file string, raw []byte) error {
	var values map[string]any
	// Strict refuses a key that is there twice.
	if err := yaml.UnmarshalStrict(raw, &values); err != nil {
		return fmt.Errorf("settings file %s: it is no YAML mapping of settings: %w", file, err)
	}
	var errs []error
	for _, s := range settings {
		raw, there := values[s.name]
		delete(values, s.name)
		if !there {
			continue
		}
		if err := s.value.accept(raw); err != nil {
			errs = append(errs, fmt.Errorf("settings file %s: %s: %v: %w", file, s.name, raw, err))
		}
		c.origins[s.name] = Origin("the file " + file)
	}
	return errors.Join(append(errs, unknown(file, values, settings))...)
}

// unknown refuses keys that are no settings.
func unknown(file string, rest map[string]any, settings []setting) error {
	var keys []string
	for key := range rest {
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil
	}
	slices.Sort(keys)
	var known []string
	for _, s := range settings {
		known = append(known, s.name)
	}
	return fmt.Errorf("settings file %s: %s: no such setting; there are %s", file, strings.Join(keys, ", "), strings.Join(known, ", "))
}

func (c *Config) loadEnv(settings []setting, env map[string]string) error {
	errs := []error{c.loadVirtletEnv(settings, env)}
	for _, s := range settings {
		name := EnvName(s.name)
		// An empty variable is how a manifest says "not set".
		if env[name] == "" {
			continue
		}
		if err := s.value.Set(env[name]); err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s: %q: %w", name, env[name], err))
		}
		c.origins[s.name] = Origin("the environment (" + name + ")")
	}
	return errors.Join(errs...)
}

// loadVirtletEnv takes Virtlet's variables, where our own is not set.
func (c *Config) loadVirtletEnv(settings []setting, env map[string]string) error {
	var errs []error
	for _, v := range virtletNames {
		text, there := env[v.env]
		if v.env == "" || !there {
			continue
		}
		if v.gone != "" {
			c.Warnings = append(c.Warnings, fmt.Sprintf("environment variable %s has no effect: %s", v.env, v.gone))
			continue
		}
		if s, _ := findSetting(settings, v.setting); env[EnvName(s.name)] == "" {
			errs = append(errs, c.takeVirtletEnv(s, v, text))
		}
	}
	return errors.Join(errs...)
}

// takeVirtletEnv takes one of them. One that is empty counts where that means
// something: no truth, or no devices.
func (c *Config) takeVirtletEnv(s setting, v virtletName, text string) error {
	empty := text == ""
	if v.form.Type == "boolean" {
		var warning string
		if text, warning = truth(text); warning != "" {
			c.Warnings = append(c.Warnings, fmt.Sprintf("environment variable %s: %s", v.env, warning))
		}
	}
	value, err := v.value(text)
	if err == nil {
		err = s.value.Set(value)
	}
	switch {
	case err != nil && empty:
		return nil
	case err != nil:
		return fmt.Errorf("environment variable %s: %q: %w", v.env, text, err)
	}
	c.origins[s.name] = Origin("the environment (" + v.env + ")")
	return nil
}

// unknownEnv warns of variables that look like settings but are none, perhaps
// by a typing error. They are no error: Kubernetes itself makes some when a
// Service is called qemulet.
func unknownEnv(settings []setting, env map[string]string) []string {
	var warnings []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		ours := name == fileEnv || slices.ContainsFunc(settings, func(s setting) bool { return EnvName(s.name) == name })
		_, virtlets := findVirtlet(func(v virtletName) bool { return v.env == name })
		if (strings.HasPrefix(name, "QEMULET_") || strings.HasPrefix(name, "VIRTLET_")) && !ours && !virtlets {
			warnings = append(warnings, fmt.Sprintf("environment variable %s is no setting, is it mistyped?", name))
		}
	}
	return warnings
}

func (c *Config) loadFlags(settings []setting, flags *pflag.FlagSet) error {
	if flags == nil {
		return nil
	}
	var errs []error
	for _, s := range settings {
		flag := flags.Lookup(s.name)
		if flag == nil || !flag.Changed {
			continue
		}
		if err := s.value.Set(flag.Value.String()); err != nil {
			errs = append(errs, fmt.Errorf("flag --%s: %q: %w", s.name, flag.Value, err))
		}
		c.origins[s.name] = Origin("the flag --" + s.name)
	}
	return errors.Join(errs...)
}
