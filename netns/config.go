package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"
)

// loadConfig reads the configuration directory and returns the first usable network with the file it came from. The
// error matches ErrNoConfig and names the directory and every file that was skipped, with the reason.
func loadConfig(dir string) (*libcni.NetworkConfigList, string, error) {
	files, err := libcni.ConfFiles(dir, []string{".conf", ".conflist", ".json"})
	if err != nil {
		return nil, "", fmt.Errorf("netns: search %s: %w: %w", dir, ErrNoConfig, err)
	}
	var skipped []error
	for _, file := range files { // libcni returns them in name order
		list, err := loadFile(file)
		if err == nil {
			return list, file, nil
		}
		skipped = append(skipped, fmt.Errorf("%s: %w", file, err))
	}
	return nil, "", noConfigError(dir, skipped)
}

func noConfigError(dir string, skipped []error) error {
	const advice = "put one there (a *.conflist, *.conf or *.json file), usually by installing the cluster's CNI plugin"
	if len(skipped) == 0 {
		return fmt.Errorf("netns: %w in %s: %s", ErrNoConfig, dir, advice)
	}
	return fmt.Errorf("netns: %w in %s: %s; skipped: %w", ErrNoConfig, dir, advice, errors.Join(skipped...))
}

func loadFile(file string) (*libcni.NetworkConfigList, error) {
	list, err := parseFile(file)
	if err != nil {
		return nil, err
	}
	if list.CNIVersion == "" {
		list.CNIVersion = "0.1.0" // what the specification says of a configuration without a version
	}
	if newer, err := version.GreaterThan(list.CNIVersion, version.Current()); err != nil || newer {
		return nil, fmt.Errorf("cniVersion %q: versions up to %s are accepted", list.CNIVersion, version.Current())
	}
	if cniErr := utils.ValidateNetworkName(list.Name); cniErr != nil {
		return nil, fmt.Errorf("name %q: %w", list.Name, cniErr)
	}
	return list, nil
}

// parseFile reads a network configuration list, or a single plugin's configuration as a list of one.
func parseFile(file string) (*libcni.NetworkConfigList, error) {
	if filepath.Ext(file) == ".conflist" {
		return libcni.NetworkConfFromFile(file)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var kind struct {
		Plugins json.RawMessage `json:"plugins"`
	}
	if err := json.Unmarshal(raw, &kind); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	if kind.Plugins != nil {
		return libcni.NetworkConfFromFile(file) // a list, whatever the file is called
	}
	plugin, err := libcni.NetworkPluginConfFromBytes(raw)
	if err != nil {
		return nil, err
	}
	return listOfOne(plugin)
}

// listOfOne makes a network of a single plugin's configuration.
func listOfOne(plugin *libcni.PluginConfig) (*libcni.NetworkConfigList, error) {
	list := &libcni.NetworkConfigList{
		Name:       plugin.Network.Name,
		CNIVersion: plugin.Network.CNIVersion,
		Plugins:    []*libcni.PluginConfig{plugin},
	}
	raw, err := json.Marshal(saveConfig(list))
	list.Bytes = raw // what libcni keeps with the result
	return list, err
}

// checkPlugins makes sure that every plugin of a network exists before the first one runs.
func (m *Manager) checkPlugins(list *libcni.NetworkConfigList) error {
	exec := pluginExec{}
	var missing []string
	for _, p := range list.Plugins {
		if _, err := exec.FindInPath(p.Network.Type, m.o.BinDirs); err != nil {
			missing = append(missing, fmt.Sprintf("%q", p.Network.Type))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("netns: network %q: %w: %s in %s", list.Name, ErrPluginMissing,
		strings.Join(missing, ", "), strings.Join(m.o.BinDirs, ", "))
}

// savedConfig is a network configuration as it was when a pod was attached: it is detached with the same one, whatever
// the directory holds by then.
type savedConfig struct {
	Name         string            `json:"name"`
	CNIVersion   string            `json:"cniVersion"`
	DisableCheck bool              `json:"disableCheck,omitempty"`
	Plugins      []json.RawMessage `json:"plugins"`
}

func saveConfig(list *libcni.NetworkConfigList) savedConfig {
	s := savedConfig{Name: list.Name, CNIVersion: list.CNIVersion, DisableCheck: list.DisableCheck}
	for _, p := range list.Plugins {
		s.Plugins = append(s.Plugins, p.Bytes)
	}
	return s
}

func (s savedConfig) load() (*libcni.NetworkConfigList, error) {
	list := &libcni.NetworkConfigList{Name: s.Name, CNIVersion: s.CNIVersion, DisableCheck: s.DisableCheck}
	for _, raw := range s.Plugins {
		p, err := libcni.NetworkPluginConfFromBytes(raw)
		if err != nil {
			return nil, fmt.Errorf("netns: network %q: recorded configuration: %w", s.Name, err)
		}
		list.Plugins = append(list.Plugins, p)
	}
	return list, nil
}
