package vmpod

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var (
	testMap    = Object{ConfigMap, "map"}
	testSecret = Object{Secret, "safe"}
)

// holding is data of one object.
func holding(o Object, text map[string]string) Data {
	raw := map[string][]byte{}
	for key, value := range text {
		raw[key] = []byte(value)
	}
	return Data{o: raw}
}

// settingsFor parses annotations that have to be good.
func settingsFor(t testing.TB, annotations map[string]string) Settings {
	t.Helper()
	pod, err := ParseSandbox(sandbox(annotations))
	if err != nil {
		t.Fatal(err)
	}
	return pod.Settings
}

func b64(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func TestUserDataOfAnObject(t *testing.T) {
	const (
		source    = "VirtletCloudInitUserDataSource"
		key       = "VirtletCloudInitUserDataSourceKey"
		encoding  = "VirtletCloudInitUserDataSourceEncoding"
		overwrite = "VirtletCloudInitUserDataOverwrite"
		userData  = "VirtletCloudInitUserData"
		script    = "VirtletCloudInitUserDataScript"
	)
	from := func(more ...string) map[string]string {
		m := map[string]string{source: "configmap/map"}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	shell := "#!/bin/sh\n# a comment\necho a: b: c\n"
	data := map[string]string{
		"users":  "- name: demo\n  uid: 12345678901234567890\n",
		"script": shell,
		"coded":  b64(shell)[:20] + "\r\n" + b64(shell)[20:] + "\n",
		"broken": "a: b: hunter2",
		"empty":  "",
		"flag":   "true",
	}
	whole := map[string]any{
		"users": []any{map[string]any{"name": "demo", "uid": json.Number("12345678901234567890")}},
		"coded": strings.ReplaceAll(b64(shell)[:20]+" "+b64(shell)[20:], "\r", ""), "empty": nil, "flag": true,
	}
	for name, c := range map[string]struct {
		annotations map[string]string
		data        map[string]string
		base        map[string]any
		script      string
		notes       int
		problem     string
	}{
		"keys of user-data":   {from(), data, whole, "", 2, ""}, // the script and the broken one are no YAML
		"under user-data":     {from(userData, "users: []"), data, whole, "", 2, ""},
		"overwritten":         {from(userData, "users: []", overwrite, "true"), data, nil, "", 0, ""},
		"by nothing":          {from(overwrite, "true"), data, whole, "", 2, ""},
		"by what is empty":    {from(overwrite, "true", userData, ""), data, nil, "", 0, ""},
		"beside a script":     {from(script, "#!x"), data, nil, "#!x", 0, ""},
		"nothing in it":       {from(), nil, nil, "", 0, ""},
		"a key":               {from(key, "script"), data, nil, shell, 0, ""},
		"a key beats script":  {from(key, "script", script, "#!x"), data, nil, shell, 0, ""},
		"plain":               {from(key, "script", encoding, "plain"), data, nil, shell, 0, ""},
		"base64":              {from(key, "coded", encoding, "base64"), data, nil, shell, 0, ""},
		"a key, user-data":    {from(key, "script", userData, "a: b"), data, nil, shell, 0, ""},
		"user-data's key":     {from(key, "script", userData, "script: '#!y'"), data, nil, "#!y", 0, ""},
		"without source":      {map[string]string{key: "s", userData: "s: '#!y'"}, nil, nil, "#!y", 0, ""},
		"no such key":         {from(key, "nope"), map[string]string{"b": "x", "a": "y"}, nil, "", 0, `VirtletCloudInitUserDataSourceKey = "nope": not found under the key; accepted: "a", "b"`},
		"no keys":             {from(key, "nope"), nil, nil, "", 0, `not found under the key; accepted: a key of the object that VirtletCloudInitUserDataSource names`},
		"empty key":           {from(key, ""), map[string]string{"a": "y"}, nil, "", 0, `VirtletCloudInitUserDataSourceKey: not found under the key; accepted: "a"`},
		"no source at all":    {map[string]string{key: "k"}, nil, nil, "", 0, `"k": not found under the key`},
		"key was overwritten": {from(key, "script", userData, "a: b", overwrite, "true"), data, nil, "", 0, `"script": not found under the key`},
		"key is a list":       {from(key, "a", userData, "a: [b]"), data, nil, "", 0, `"a": failed to read: the key of VirtletCloudInitUserData holds no text`},
		"key was nulled":      {from(key, "script", userData, "script: null"), data, nil, "", 0, `"script": failed to read`},
		"nothing under it":    {from(key, "empty"), data, nil, "", 0, `"empty": there is nothing under the key`},
		"no base64":           {from(key, "script", encoding, "base64"), data, nil, "", 0, `"script": what is under the key is no base64`},
	} {
		t.Run(name, func(t *testing.T) {
			s, notes, problems := settingsFor(t, c.annotations).WithData(holding(testMap, c.data))
			if c.problem != "" {
				if len(problems) != 1 || !strings.Contains(problems[0].String(), c.problem) || !problems[0].Annotation {
					t.Errorf("got %v, want %s", problems, c.problem)
				}
				return
			}
			if len(problems) > 0 || !reflect.DeepEqual(s.CloudInit.SourceUserData, c.base) || s.CloudInit.UserDataScript != c.script || len(notes) != c.notes {
				t.Errorf("got %v, %q, notes %q, %v\nwant %v, %q, %d notes", s.CloudInit.SourceUserData, s.CloudInit.UserDataScript, notes, problems, c.base, c.script, c.notes)
			}
			if strings.Contains(strings.Join(notes, "\n"), "hunter2") {
				t.Errorf("a note tells what is in it: %q", notes)
			}
		})
	}
	_, err := ParseSandbox(sandbox(from(key, "k", encoding, "rot13")))
	if problems := mustFail(t, err); len(problems) != 1 || !strings.Contains(err.Error(), `Encoding = "rot13": unknown encoding; accepted: plain or base64`) {
		t.Errorf("got %v", err)
	}
}

func TestManyKeysAreNotAllListed(t *testing.T) {
	data := map[string]string{}
	for i := range 200 {
		data[fmt.Sprintf("key%03d", i)] = "x"
	}
	_, _, problems := settingsFor(t, map[string]string{"VirtletCloudInitUserDataSource": "configmap/map", "VirtletCloudInitUserDataSourceKey": "k"}).WithData(holding(testMap, data))
	if len(problems) != 1 || !strings.HasSuffix(problems[0].Accepted, `"key009" and 190 more`) {
		t.Errorf("got %v", problems)
	}
}

func TestSSHKeysOfAnObject(t *testing.T) {
	data := map[string]string{"authorized_keys": " ssh-rsa A\r\n\n# note\nssh-rsa B", "mine": "ssh-rsa C"}
	for name, c := range map[string]struct {
		annotations map[string]string
		want        []string
		notes       int
	}{
		"default key":      {map[string]string{"VirtletSSHKeySource": "secret/safe"}, []string{"ssh-rsa A", "# note", "ssh-rsa B"}, 0},
		"a key":            {map[string]string{"VirtletSSHKeySource": "secret/safe/mine"}, []string{"ssh-rsa C"}, 0},
		"before others":    {map[string]string{"VirtletSSHKeySource": "secret/safe/mine", "VirtletSSHKeys": "x"}, []string{"ssh-rsa C", "x"}, 0},
		"overwritten":      {map[string]string{"VirtletSSHKeySource": "secret/safe", "VirtletSSHKeys": "x", "VirtletCloudInitUserDataOverwrite": "true"}, []string{"x"}, 0},
		"by nothing":       {map[string]string{"VirtletSSHKeySource": "secret/safe/mine", "VirtletCloudInitUserDataOverwrite": "true"}, []string{"ssh-rsa C"}, 0},
		"by what is empty": {map[string]string{"VirtletSSHKeySource": "secret/safe/mine", "VirtletSSHKeys": "", "VirtletCloudInitUserDataOverwrite": "true"}, []string{}, 0},
		"no such key":      {map[string]string{"VirtletSSHKeySource": "secret/safe/none", "VirtletSSHKeys": "x"}, []string{"x"}, 1},
		"empty key":        {map[string]string{"VirtletSSHKeySource": "secret/safe/"}, nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s, notes, problems := settingsFor(t, c.annotations).WithData(holding(testSecret, data))
			if len(problems) > 0 || fmt.Sprint(s.CloudInit.SSHKeys) != fmt.Sprint(c.want) || len(notes) != c.notes {
				t.Errorf("got %q, %q, %v, want %q and %d notes", s.CloudInit.SSHKeys, notes, problems, c.want, c.notes)
			}
			if c.notes > 0 && !strings.Contains(notes[0], `Secret safe: it has no key`) || c.notes > 0 && !strings.Contains(notes[0], `"authorized_keys", "mine"`) {
				t.Errorf("note: %q", notes)
			}
		})
	}
}

func TestFilesOfAnObject(t *testing.T) {
	settings := settingsFor(t, map[string]string{"VirtletFilesFromDataSource": "configmap/map"})
	s, notes, problems := settings.WithData(holding(testMap, map[string]string{
		"b": b64("by default"), "b_path": " /etc/b\n",
		"a": "plain", "a_path": "/a//./b/../c", "a_encoding": "plain\n",
		"c": b64("coded"), "c_path": "/c", "c_encoding": "base64",
		"e": "", "e_path": "/etc/empty",
		"lonely_path": "/x", "lonely_encoding": "plain",
		"x_path_path": "/y", // a key that is called x_path is no file
	}))
	want := []File{
		{"/a/c", []byte("plain")},
		{"/etc/b", []byte("by default")},
		{"/c", []byte("coded")},
		{"/etc/empty", []byte{}},
	}
	if len(problems) > 0 || !reflect.DeepEqual(s.Files, want) {
		t.Errorf("got %v, %v", s.Files, problems)
	}
	if text := strings.Join(notes, "\n"); len(notes) != 3 || !strings.Contains(text, "lonely_path of ConfigMap map has no effect: there is no key lonely") || !strings.Contains(text, "lonely_encoding") {
		t.Errorf("notes: %q", notes)
	}
	if settings.Files != nil {
		t.Error("the settings themselves were changed")
	}
}

// Everything that is wrong comes at once, and of a Secret only the keys.
func TestBadFiles(t *testing.T) {
	data := map[string]string{
		"a": "!", "a_path": "/etc/a",
		"b": "",
		"c": "", "c_path": "etc/hunter2",
		"d": "", "d_path": "/etc/", "d_encoding": "hunter2",
		"e": "", "e_path": "/etc/e",
		"f": "", "f_path": "/etc/./e",
		"g": "", "g_path": "/a\x00b",
		"h": "", "h_path": "/" + strings.Repeat("a", 256),
		"i": "", "i_path": "/etc/..",
		"j": "", "j_path": "/" + strings.Repeat("ab/", 2000) + "a",
	}
	for _, o := range []Object{testMap, testSecret} {
		t.Run(string(o.Kind), func(t *testing.T) {
			ref := strings.ToLower(string(o.Kind)) + "/" + o.Name
			s, _, problems := settingsFor(t, map[string]string{"VirtletFilesFromDataSource": ref}).WithData(holding(o, data))
			var lines []string
			for _, p := range problems {
				lines = append(lines, p.String())
			}
			got := strings.Join(lines, "\n")
			for _, want := range []string{
				"VirtletFilesFromDataSource " + ref + " a: is no base64; accepted: base64; or plain under the key a_encoding",
				ref + " b_path: missing path; accepted: the absolute path of a file in the guest",
				"c_path = \"etc/hunter2\": is not an absolute path",
				"d_path = \"/etc/\": is the path of a directory",
				"d_encoding = \"hunter2\": unknown encoding; accepted: plain or base64",
				"f_path = \"/etc/e\": is the path of the key e too",
				"g_path = \"/a\\x00b\": has a zero byte",
				"h_path", "is too long", "i_path = \"/etc/..\": is the path of a directory", "j_path",
			} {
				if before, after, ok := strings.Cut(want, " = "); ok && o.Kind == Secret {
					_, after, _ = strings.Cut(after, `": `)
					want = before + ": " + after
				}
				if !strings.Contains(got, want) {
					t.Errorf("no %q in\n%s", want, got)
				}
			}
			if len(problems) != 10 || len(s.Files) != 1 {
				t.Errorf("%d problems, %d files:\n%s", len(problems), len(s.Files), got)
			}
			if o.Kind == Secret && strings.Contains(got, "hunter2") {
				t.Errorf("it tells what is in a Secret:\n%s", got)
			}
		})
	}
}

// What could not be read changes nothing: it is reported by who wanted to.
func TestWithoutData(t *testing.T) {
	before := settingsFor(t, map[string]string{
		"VirtletCloudInitUserDataSource": "configmap/map", "VirtletCloudInitUserDataSourceKey": "k", "VirtletSSHKeySource": "secret/safe/x",
		"VirtletFilesFromDataSource": "secret/safe", "VirtletSSHKeys": "a",
	})
	after, notes, problems := before.WithData(nil)
	if !reflect.DeepEqual(before, after) || len(notes)+len(problems) > 0 {
		t.Errorf("got %+v, %q, %v", after, notes, problems)
	}
	var names []string
	for _, r := range before.Sources.Refs() {
		names = append(names, r.Annotation+" "+r.String())
	}
	if got := strings.Join(names, ", "); got != "VirtletCloudInitUserDataSource ConfigMap map, VirtletSSHKeySource Secret safe, VirtletFilesFromDataSource Secret safe" {
		t.Errorf("refs: %s", got)
	}
}

// A file is had exactly as it is written, wherever it goes.
func TestFilesComeThrough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		content := rapid.SliceOf(rapid.Byte()).Draw(t, "content")
		where := "/" + rapid.StringMatching(`[a-z]{1,8}(/[a-z.]{1,8}){0,3}`).Draw(t, "path") + "/f"
		s := Settings{Sources: Sources{Files: &Ref{Object: testMap}}}
		for _, e := range []map[string][]byte{
			{"k": content, "k_path": []byte(where), "k_encoding": []byte("plain")},
			{"k": []byte(base64.StdEncoding.EncodeToString(content)), "k_path": []byte(where)},
		} {
			got, _, problems := s.WithData(Data{testMap: e})
			if len(problems) > 0 || len(got.Files) != 1 || string(got.Files[0].Data) != string(content) || got.Files[0].Path != path.Clean(where) {
				t.Fatalf("%q: got %v, %v", where, got.Files, problems)
			}
		}
	})
}

func FuzzWithData(f *testing.F) {
	f.Add("a", "YQ==", "/etc/a", "base64")
	f.Add("a_path", "- x: y\n", "../..", "plain")
	f.Add("users", "#!/bin/sh", "/a/../../b\n", "")
	f.Fuzz(func(t *testing.T, key, value, where, encoding string) {
		s := Settings{Sources: Sources{
			UserData: &Ref{Object: testMap}, SSHKeys: &Ref{Object: testMap, Key: key}, Files: &Ref{Object: testMap}, UserDataEncoding: Plain,
		}}
		data := Data{testMap: {key: []byte(value), key + "_path": []byte(where), key + "_encoding": []byte(encoding)}}
		got, _, _ := s.WithData(data)
		for _, file := range got.Files {
			if !path.IsAbs(file.Path) || path.Clean(file.Path) != file.Path || file.Path == "/" || strings.Contains(file.Path, "\x00") {
				t.Fatalf("path %q", file.Path)
			}
		}
		if _, err := json.Marshal(got.CloudInit.SourceUserData); err != nil {
			t.Fatalf("user-data has no JSON: %v", err)
		}
		s.Sources.UserDataKey = &key
		if got, _, problems := s.WithData(data); len(problems) == 0 && got.CloudInit.UserDataScript == "" || got.CloudInit.SourceUserData != nil {
			t.Fatalf("neither script nor problem: %+v", got)
		}
	})
}
