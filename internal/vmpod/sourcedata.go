package vmpod

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// File is a file to be written into the root disk before its first boot.
type File struct {
	// Path is absolute and clean, in the root file system. Directories on the
	// way are made where they are missing.
	Path string
	// Data may be a secret.
	Data []byte
}

// Data is what objects hold, by their keys.
type Data map[Object]map[string][]byte

// WithData returns the settings with what the objects hold taken over:
// CloudInit.SourceUserData, UserDataScript and SSHKeys, and Files. Objects that
// are not in data could not be read, and change nothing. Notes say what of the
// objects has no effect, a sentence each, for the pod's log; neither they nor
// the problems tell what is in a Secret.
func (s Settings) WithData(data Data) (_ Settings, notes []string, _ []Problem) {
	m := merger{Settings: s, data: data}
	m.userData()
	m.sshKeys()
	m.files()
	return m.Settings, m.notes, m.bad
}

// merger collects what comes of objects.
type merger struct {
	Settings
	data  Data
	notes []string
	bad   problems
}

// of is what an object holds; false if there is no object or it could not be read.
func (m *merger) of(r *Ref) (map[string][]byte, bool) {
	if r == nil {
		return nil, false
	}
	data, ok := m.data[r.Object]
	return data, ok
}

func (m *merger) note(r *Ref, format string, args ...any) {
	m.notes = append(m.notes, r.Annotation+": "+fmt.Sprintf(format, args...))
}

// refuseKey collects a problem with a key of the object that an annotation
// names.
func (m *merger) refuseKey(r *Ref, key, value, reason, accepted string) {
	if r.Kind == Secret {
		value = ""
	}
	m.bad.key(r.Annotation, r.Value+" "+shorten(key), value, reason, accepted)
}

// userData takes the object's keys as those of user-data, or one of them as all
// of it.
func (m *merger) userData() {
	data, there := m.of(m.Sources.UserData)
	if m.Sources.UserData != nil && !there {
		return
	}
	if m.Sources.Overwrite && m.CloudInit.UserData != nil {
		data = nil
	}
	if m.Sources.UserDataKey != nil {
		m.userDataScript(data)
		return
	}
	if m.CloudInit.UserDataScript != "" {
		return
	}
	for _, key := range sortedKeys(data) {
		value, err := yamlValue(string(data[key]))
		if err != nil {
			m.note(m.Sources.UserData, "the key %s of %s is left out, for it holds no YAML: %v", shorten(key), m.Sources.UserData, err)
			continue
		}
		if m.CloudInit.SourceUserData == nil {
			m.CloudInit.SourceUserData = map[string]any{}
		}
		m.CloudInit.SourceUserData[key] = value
	}
}

// userDataScript takes a key as user-data itself: of VirtletCloudInitUserData,
// which is merged over the object, or else of the object, just as it is there.
func (m *merger) userDataScript(data map[string][]byte) {
	key := *m.Sources.UserDataKey
	refuse := func(reason, accepted string) { m.bad.key(userDataKey, "", key, reason, accepted) }
	raw, there := data[key]
	if value, over := m.CloudInit.UserData[key]; over {
		text, isText := value.(string)
		if !isText {
			refuse("failed to read: the key of VirtletCloudInitUserData holds no text", "a key with a text")
			return
		}
		raw, there = []byte(text), true
	}
	script, err := decode(raw, m.Sources.UserDataEncoding)
	switch {
	case !there && len(data) == 0:
		refuse("not found under the key", "a key of the object that "+userDataSource+" names")
	case !there:
		refuse("not found under the key", keys(data))
	case errors.Is(err, errBase64):
		refuse("what is under the key is no base64", "base64; or plain for "+userDataEncoding)
	case len(script) == 0:
		refuse("there is nothing under the key", "a key with a text")
	default:
		m.CloudInit.UserDataScript = string(script)
	}
}

// keys lists what an object has; names of keys are no secret.
func keys(data map[string][]byte) string {
	const limit = 10
	var all []string
	for _, key := range sortedKeys(data) {
		all = append(all, fmt.Sprintf("%q", shorten(key)))
	}
	if len(all) == 0 {
		return "nothing"
	}
	if len(all) > limit {
		return strings.Join(all[:limit], ", ") + fmt.Sprintf(" and %d more", len(all)-limit)
	}
	return strings.Join(all, ", ")
}

// sshKeys puts the object's keys before those of VirtletSSHKeys.
func (m *merger) sshKeys() {
	ref := m.Sources.SSHKeys
	data, there := m.of(ref)
	if !there || m.Sources.Overwrite && m.CloudInit.SSHKeys != nil {
		return
	}
	text, found := data[ref.Key]
	if !found {
		m.note(ref, "no SSH key comes from %s: it has no key %q but %s", ref, shorten(ref.Key), keys(data))
	}
	m.CloudInit.SSHKeys = slices.Concat(lines(string(text)), m.CloudInit.SSHKeys)
}

// What a key is called that says where a file goes and how it is written.
const (
	pathSuffix     = "_path"
	encodingSuffix = "_encoding"
)

// files reads the object's keys as files, in the order of their names.
func (m *merger) files() {
	ref := m.Sources.Files
	data, there := m.of(ref)
	if !there {
		return
	}
	taken := map[string]string{}
	for _, key := range sortedKeys(data) {
		if name, about := aboutFile(key); about {
			if _, used := data[name]; !used {
				m.note(ref, "the key %s of %s has no effect: there is no key %s", shorten(key), ref, shorten(name))
			}
			continue
		}
		f, ok := m.file(ref, key, data)
		if !ok {
			continue
		}
		if other, twice := taken[f.Path]; twice {
			m.refuseKey(ref, key+pathSuffix, f.Path, "is the path of the key "+shorten(other)+" too", "a path of its own for each file")
			continue
		}
		taken[f.Path] = key
		m.Files = append(m.Files, f)
	}
}

// aboutFile tells whether a key is not a file, but about the one of this name.
func aboutFile(key string) (name string, about bool) {
	if name, about = strings.CutSuffix(key, pathSuffix); about {
		return name, true
	}
	return strings.CutSuffix(key, encodingSuffix)
}

// file reads one; false if it cannot be.
func (m *merger) file(ref *Ref, key string, data map[string][]byte) (File, bool) {
	where, err := filePath(data, key)
	if err != nil {
		m.refuseKey(ref, key+pathSuffix, where, err.Error(), "the absolute path of a file in the guest")
	}
	// Made with echo, a value ends in a line break.
	encoding := strings.TrimSpace(string(data[key+encodingSuffix]))
	content, errContent := decode(data[key], Encoding(cmp.Or(encoding, string(Base64))))
	switch {
	case errors.Is(errContent, errEncoding):
		m.refuseKey(ref, key+encodingSuffix, encoding, errContent.Error(), "plain or base64")
	case errContent != nil:
		m.refuseKey(ref, key, "", errContent.Error(), "base64; or plain under the key "+shorten(key)+encodingSuffix)
	}
	return File{Path: path.Clean(where), Data: content}, err == nil && errContent == nil
}

// filePath is where the file of a key goes, as it is written there.
func filePath(data map[string][]byte, key string) (string, error) {
	value, found := data[key+pathSuffix]
	if !found {
		return "", errors.New("missing path")
	}
	where := strings.TrimSpace(string(value))
	return where, checkFilePath(where)
}

// maxPath and maxName are Linux's PATH_MAX, less the zero byte, and NAME_MAX.
const (
	maxPath = 4095
	maxName = 255
)

func checkFilePath(p string) error {
	switch {
	case !strings.HasPrefix(p, "/"):
		return errors.New("is not an absolute path")
	case strings.HasSuffix(p, "/") || path.Clean(p) == "/" || path.Base(p) == "." || path.Base(p) == "..":
		return errors.New("is the path of a directory")
	case strings.ContainsRune(p, 0):
		return errors.New("has a zero byte")
	case len(p) > maxPath || slices.ContainsFunc(strings.Split(p, "/"), func(name string) bool { return len(name) > maxName }):
		return errors.New("is too long")
	}
	return nil
}

var (
	errEncoding = errors.New("unknown encoding")
	errBase64   = errors.New("is no base64")
)

// decode undoes an encoding. base64 may have line breaks.
func decode(value []byte, e Encoding) ([]byte, error) {
	switch e {
	case Plain:
		return value, nil
	case Base64:
		data, err := base64.StdEncoding.DecodeString(string(value))
		if err != nil {
			return nil, errBase64
		}
		return data, nil
	}
	return nil, errEncoding
}
