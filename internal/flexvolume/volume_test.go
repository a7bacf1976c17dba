package flexvolume

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func volumeDir(t testing.TB, data string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "vol")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, DataFile), []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

const ceph = `{"uuid":"u","type":"ceph","monitor":"192.0.2.1:6789","pool":"p","volume":"v","user":"admin","secret":"aHVzaA==","protocol":"x"}`

func TestRead(t *testing.T) {
	rbd := RBD{Monitor: netip.MustParseAddrPort("192.0.2.1:6789"), Pool: "p", Volume: "v", User: "admin", Key: "aHVzaA=="}
	for data, want := range map[string]Volume{
		`{"uuid":"u","type":"qcow2"}`:                                                         {Type: QCow2, Part: 1},
		`{"uuid":"u","type":"qcow2","capacity":" 2 GiB ","part":"3"}`:                         {Type: QCow2, Part: 3, Capacity: " 2 GiB "},
		`{"uuid":"u","type":"raw","path":"/dev/loop0","part":"0"}`:                            {Type: Raw, Path: "/dev/loop0"},
		`{"uuid":"u","type":"raw","path":"/dev/loop0","kubernetes.io/readwrite":"ro"}`:        {Type: Raw, Path: "/dev/loop0", Part: 1, ReadOnly: true},
		`{"uuid":"u","type":"qcow2","kubernetes.io/readwrite":"rw","other":{"not":["text"]}}`: {Type: QCow2, Part: 1},
		ceph: {Type: Ceph, Part: 1, RBD: rbd},
	} {
		dir := volumeDir(t, data)
		want.Name, want.Dir, want.UUID = "vol", dir, "u"
		if got, err := Read(dir); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, %v; want %v", data, got, err, want)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	for data, says := range map[string]string{
		``:                                         DataFile,
		`{"uuid":"u","type":"hush"`:                DataFile,
		`{"type":"qcow2"}`:                         "uuid",
		`{"uuid":"u"}`:                             `"type": got "", accepted are qcow2, raw and ceph`,
		`{"uuid":"u","type":"nfs"}`:                `"type": got "nfs"`,
		`{"uuid":"u","type":7}`:                    `"type": accepted is a string`,
		`{"uuid":"u","type":"raw"}`:                `"path" is missing`,
		`{"uuid":"u","type":"qcow2","part":"x"}`:   `"part": got "x"`,
		`{"uuid":"u","type":"qcow2","part":"-1"}`:  `"part": got "-1"`,
		`{"uuid":"u","type":"qcow2","part":"256"}`: `"part": got "256"`,
		strings.Replace(ceph, `"192.0.2.1:6789"`, `"mon.example.org:6789"`, 1):       `"monitor": got "mon.example.org:6789"`,
		strings.Replace(ceph, `"192.0.2.1:6789"`, `"192.0.2.1:6789,192.0.2.2:1"`, 1): `"monitor"`,
		strings.Replace(ceph, `"user":"admin",`, ``, 1):                              `"user" is missing`,
		strings.Replace(ceph, `"aHVzaA=="`, `"hush!"`, 1):                            `"secret": accepted is a key in base64`,
	} {
		_, err := Read(volumeDir(t, data))
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), `"vol"`) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v; want something about %s", data, err, says)
		}
	}
}

// The secret is in no text that is made of a volume.
func TestSecretIsNotShown(t *testing.T) {
	v, err := Read(volumeDir(t, ceph))
	if err != nil {
		t.Fatal(err)
	}
	_, jsonErr := json.Marshal(v)
	for _, text := range []string{fmt.Sprint(v), fmt.Sprintf("%+v", v), fmt.Sprintf("%#v", v), fmt.Sprintf("%q", v.RBD.Key), fmt.Sprint(jsonErr)} {
		if strings.Contains(text, "aHVz") {
			t.Errorf("it is in %s", text)
		}
	}
}

func TestList(t *testing.T) {
	root := PodDir(t.TempDir(), "uid")
	if v, err := List(root); err != nil || v != nil {
		t.Errorf("no directory: %v, %v", v, err)
	}
	for _, name := range []string{"b", "a", "c"} {
		dir := filepath.Join(root, name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, DataFile), []byte(`{"uuid":"u","type":"qcow2"}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	v, err := List(root)
	if err != nil || len(v) != 3 || v[0].Name != "a" || v[2].Name != "c" {
		t.Errorf("%v, %v", v, err)
	}
	if err := os.Mkdir(filepath.Join(root, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := List(root); err == nil || !strings.Contains(err.Error(), `"d"`) {
		t.Errorf("a volume without options: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(ceph))
	f.Add([]byte(`{"uuid":"u","type":"qcow2","part":"3"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var v Volume
		if err := v.parse(data); err == nil && (v.UUID == "" || v.Part < 0 || v.Type == "") {
			t.Errorf("%s: %+v", data, v)
		}
	})
}

// Any options that kubelet may give, and no others, end in a file that holds them.
func FuzzOptions(f *testing.F) {
	f.Add(`{"type":"qcow2"}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, options string) {
		o, err := parseOptions(options)
		var want map[string]any
		if wantErr := json.Unmarshal([]byte(options), &want); (err == nil) != (wantErr == nil && want != nil) {
			t.Errorf("%q: %v, %v", options, o, err)
		}
	})
}
