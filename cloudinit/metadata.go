package cloudinit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
)

// renderMetaData writes JSON in both layouts, for small guests such as CirrOS
// read no YAML.
func (s Seed) renderMetaData() ([]byte, error) {
	meta := map[string]any{
		"instance-id":    s.InstanceID,
		"local-hostname": s.Hostname,
	}
	if len(s.SSHKeys) > 0 {
		meta["public-keys"] = s.SSHKeys
	}
	if s.Type == ConfigDrive {
		maps.Copy(meta, s.openStackMetaData())
	}
	maps.Copy(meta, s.MetaData)
	return toJSON(meta)
}

// openStackMetaData has the keys that OpenStack's readers look for.
func (s Seed) openStackMetaData() map[string]any {
	meta := map[string]any{"uuid": s.InstanceID, "hostname": s.Hostname}
	if len(s.SSHKeys) > 0 {
		keys := map[string]string{}
		for i, key := range s.SSHKeys {
			keys[fmt.Sprintf("key-%d", i)] = key
		}
		meta["public_keys"] = keys
	}
	return meta
}

// toJSON leaves <, > and & as they are: not every reader decodes escapes.
func toJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
