package cloudinit

import (
	"encoding/base64"
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf8"

	"sigs.k8s.io/yaml"
)

// WriteFile is a file that cloud-init writes into the guest.
type WriteFile struct {
	// Path is absolute, in the guest.
	Path string
	// Mode has the permission bits, set-id bits and the sticky bit as numbers
	// (fs.FileMode's own of those are not looked at).
	Mode fs.FileMode
	// Data is the content. It is written as text if Base64 is not set and it
	// is UTF-8.
	Data []byte
	// Base64 encodes the content even if it is text.
	Base64 bool
}

// renderUserData is the script, or `#cloud-config` and YAML.
func (s Seed) renderUserData() ([]byte, error) {
	if s.UserDataScript != "" {
		return []byte(strings.ReplaceAll(s.UserDataScript, MountScriptPlaceholder, s.MountScript)), nil
	}
	generated := s.generated()
	for key := range generated {
		switch s.UserData[key].(type) {
		case nil, []any:
		default:
			return nil, fmt.Errorf("%q has to be a list: entries of the pod's own are added to it", key)
		}
	}
	text := []byte("#cloud-config\n")
	merged := Merge(Merge(s.naming(), s.UserData), generated)
	if len(merged) == 0 {
		return text, nil
	}
	y, err := yaml.Marshal(merged)
	if err != nil {
		return nil, err
	}
	return append(text, y...), nil
}

// naming gives the host its full name. Of a host name in meta-data cloud-init takes
// the first label only; in user-data it takes what there is. (To prefer the full
// name is no way: it comes too late, after the name in meta-data has been set.)
func (s Seed) naming() map[string]any {
	if s.FQDN == "" {
		return nil
	}
	for _, key := range []string{"hostname", "fqdn", "local-hostname"} {
		if s.UserData[key] != nil || s.MetaData[key] != nil {
			return nil
		}
	}
	naming := map[string]any{"fqdn": s.FQDN}
	if s.FQDN == s.Hostname {
		naming["hostname"] = s.FQDN
	}
	return naming
}

// generated is the part that comes from the machine, with lists only.
func (s Seed) generated() map[string]any {
	m := map[string]any{}
	add := func(key string, entries []any) {
		if len(entries) > 0 {
			m[key] = entries
		}
	}
	add("mounts", listOfLists(s.Mounts))
	add("write_files", s.writeFiles())
	add("runcmd", listOfLists(s.RunCmd))
	return m
}

func listOfLists(lists [][]string) []any {
	var all []any
	for _, l := range lists {
		var entry []any
		for _, s := range l {
			entry = append(entry, s)
		}
		all = append(all, entry)
	}
	return all
}

func (s Seed) writeFiles() []any {
	files := s.Files
	if len(s.Env) > 0 {
		files = append(files[:len(files):len(files)], environment(s.Env))
	}
	var entries []any
	for _, f := range files {
		entries = append(entries, f.entry())
	}
	return entries
}

// entry is the form of cloud-init's write_files.
func (f WriteFile) entry() map[string]any {
	e := map[string]any{"path": f.Path, "permissions": fmt.Sprintf("%#04o", uint32(f.Mode))}
	if f.Base64 || !utf8.Valid(f.Data) {
		e["encoding"] = "b64"
		e["content"] = base64.StdEncoding.EncodeToString(f.Data)
	} else {
		e["content"] = string(f.Data)
	}
	return e
}
