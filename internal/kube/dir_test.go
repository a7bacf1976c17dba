package kube

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var testPod = Pod{Namespace: "default", Name: "vm", UID: "c2a5c1c7-4f0e-4a3c-8f0a-0d7f5d6a1f11"}

func meta(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

func testObjects() []metav1.Object {
	return []metav1.Object{
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "same", Namespace: "default"},
			Data: map[string]string{"text": "a\nb"}, BinaryData: map[string][]byte{"bytes": {0, 255}}},
		&corev1.Secret{ObjectMeta: meta("same"), Data: map[string][]byte{"a": []byte("hunter2"), "b": []byte("old")}, StringData: map[string]string{"b": "new"}},
		&corev1.Secret{ObjectMeta: meta("empty")},
	}
}

func show(data map[string][]byte) map[string]string {
	text := map[string]string{}
	for key, value := range data {
		text[key] = string(value)
	}
	return text
}

func TestDir(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "objects"))
	if d.Has(testPod.UID) {
		t.Error("it has a pod that nobody put")
	}
	objects := testObjects()
	if err := d.Put(testPod, objects...); err != nil {
		t.Fatal(err)
	}
	if s := objects[1].(*corev1.Secret); s.StringData == nil || string(s.Data["b"]) != "old" || s.Kind != "" {
		t.Errorf("Put changed the object: %+v", s)
	}
	for _, c := range []struct {
		kind Kind
		name string
		want map[string]string
	}{
		{ConfigMap, "same", map[string]string{"text": "a\nb", "bytes": "\x00\xff"}},
		{Secret, "same", map[string]string{"a": "hunter2", "b": "new"}},
		{Secret, "empty", map[string]string{}},
	} {
		got, err := d.Data(t.Context(), testPod, c.kind, c.name)
		if err != nil || !maps.Equal(show(got), c.want) {
			t.Errorf("%s %s: got %q, %v, want %q", c.kind, c.name, show(got), err, c.want)
		}
	}
	_, err := d.Data(t.Context(), testPod, ConfigMap, "empty")
	if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "ConfigMap default/empty") {
		t.Errorf("got %v", err)
	}
	if err := d.Remove(testPod.UID); err != nil || d.Has(testPod.UID) {
		t.Errorf("removed: %v, has %v", err, d.Has(testPod.UID))
	}
	if left, _ := os.ReadDir(string(d)); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := d.Remove(testPod.UID); err != nil {
		t.Errorf("removed again: %v", err)
	}
	if _, err := d.Data(t.Context(), testPod, Secret, "same"); !errdefs.IsNotFound(err) {
		t.Errorf("after its removal: %v", err)
	}
}

// Nobody but the owner reads a secret.
func TestDirPermissions(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "objects"))
	if err := d.Put(testPod, testObjects()...); err != nil {
		t.Fatal(err)
	}
	files := 0
	err := filepath.WalkDir(string(d), func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if !e.IsDir() {
			files++
		}
		return err
	})
	if err != nil || files != 3 {
		t.Errorf("%d files, %v", files, err)
	}
}

// What is put later replaces all of what was there.
func TestDirPutAgain(t *testing.T) {
	d := Dir(t.TempDir())
	if err := os.Mkdir(filepath.Join(string(d), "."+testPod.UID+".new"), 0o700); err != nil {
		t.Fatal(err) // as somebody who died left it
	}
	for _, objects := range [][]metav1.Object{testObjects(), {&corev1.ConfigMap{ObjectMeta: meta("other")}}, nil} {
		if err := d.Put(testPod, objects...); err != nil || !d.Has(testPod.UID) {
			t.Fatal(err)
		}
		if _, err := d.Data(t.Context(), testPod, Secret, "same"); errdefs.IsNotFound(err) != (len(objects) < 2) {
			t.Errorf("%d objects: %v", len(objects), err)
		}
	}
}

func TestDirRefuses(t *testing.T) {
	d := Dir(t.TempDir())
	for name, c := range map[string]struct {
		dir     Dir
		pod     Pod
		objects []metav1.Object
		want    string
	}{
		"no directory":    {"", testPod, nil, "no directory is set"},
		"uid":             {d, Pod{Namespace: "default", Name: "vm", UID: "../x"}, nil, `"../x" is no UID`},
		"no uid":          {d, Pod{Namespace: "default", Name: "vm"}, nil, `"" is no UID`},
		"name":            {d, testPod, []metav1.Object{&corev1.ConfigMap{ObjectMeta: meta("../x")}}, `"../x" cannot be the name of a ConfigMap`},
		"no name":         {d, testPod, []metav1.Object{&corev1.Secret{}}, `"" cannot be the name of a Secret`},
		"other namespace": {d, testPod, []metav1.Object{&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "other"}}}, "Secret other/s is not of the pod's namespace, which is default"},
		"twice":           {d, testPod, []metav1.Object{&corev1.Secret{ObjectMeta: meta("s")}, &corev1.Secret{ObjectMeta: meta("s")}}, "Secret default/s is given twice"},
		"kind":            {d, testPod, []metav1.Object{&corev1.Pod{ObjectMeta: meta("s")}}, "*v1.Pod holds no data"},
		"too big":         {d, testPod, []metav1.Object{&corev1.Secret{ObjectMeta: meta("s"), Data: map[string][]byte{"a": make([]byte, maxObject)}}}, "Secret default/s is larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.dir.Put(c.pod, c.objects...); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if left, _ := os.ReadDir(string(d)); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A file that is not what it should be is an error that does not quote it.
func TestDirBadFile(t *testing.T) {
	d := Dir(t.TempDir())
	if err := d.Put(testPod, testObjects()...); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(string(d), testPod.UID, "secrets", "same.json")
	for _, text := range []string{"", "hunter2", `"hunter2"`, `{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"hunter2"}}`,
		`{"apiVersion":"v1","kind":"Secret","data":{"a":"hunter2!"}}`, `{"apiVersion":"v1","kind":"Secret","data":{"hunter2":7}}`, strings.Repeat(" ", maxObject+1)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := d.Data(t.Context(), testPod, Secret, "same")
		if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "Secret default/same") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b", "../a", "A", "a_b", "-a", "a-", strings.Repeat("a", 254)} {
		if _, err := Dir(t.TempDir()).Data(t.Context(), testPod, Secret, name); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%.20q: %v", name, err)
		}
	}
	for _, name := range []string{"a", "a.b", "a-1", strings.Repeat("a", 253)} {
		if err := checkName(Secret, name); err != nil {
			t.Errorf("%.20q: %v", name, err)
		}
	}
}

func FuzzObject(f *testing.F) {
	f.Add(true, []byte(`{"apiVersion":"v1","kind":"Secret","data":{"a":"aHVudGVyMg=="}}`))
	f.Add(false, []byte(`{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"b"},"binaryData":{"c":"AA=="}}`))
	f.Add(false, []byte(`{"apiVersion":"v1","kind":"ConfigMap","data":null,"metadata":[]}`))
	f.Fuzz(func(t *testing.T, secret bool, raw []byte) {
		kind := ConfigMap
		if secret {
			kind = Secret
		}
		if _, err := decode(kind, raw); err != nil && !errors.Is(err, errNotObject) {
			t.Fatal(err)
		}
	})
}
