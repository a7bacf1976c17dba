package objects

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"sigs.k8s.io/yaml"
)

func parse[T any](t *testing.T, text string) *T {
	t.Helper()
	o := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return o
}

func set(t *testing.T, all ...any) *Set {
	t.Helper()
	s := &Set{}
	for _, o := range all {
		if taken, err := s.Add(o); !taken || err != nil {
			t.Fatalf("%T: %v, %v", o, taken, err)
		}
	}
	return s
}

func volume(t *testing.T, name, size, more string) *corev1.PersistentVolume {
	return parse[corev1.PersistentVolume](t, "metadata: {name: "+name+", labels: {disk: "+name+"}}\nspec:\n  capacity: {storage: "+size+"}\n  accessModes: [ReadWriteOnce]\n"+more)
}

func claim(t *testing.T, name, size, more string) *corev1.PersistentVolumeClaim {
	return parse[corev1.PersistentVolumeClaim](t, "metadata: {name: "+name+"}\nspec:\n  resources: {requests: {storage: "+size+"}}\n  accessModes: [ReadWriteOnce]\n"+more)
}

func TestBind(t *testing.T) {
	s := set(t,
		volume(t, "a-large", "10Gi", ""), volume(t, "b-small", "2Gi", ""), volume(t, "block", "1Ti", "  volumeMode: Block\n"),
		volume(t, "fast", "2Gi", "  storageClassName: fast\n"), volume(t, "mine", "1Gi", "  claimRef: {name: reserved, namespace: default}\n"),
		volume(t, "theirs", "1Gi", "  claimRef: {name: first, namespace: other}\n"),
		claim(t, "first", "1Gi", ""), claim(t, "second", "1Gi", ""), claim(t, "reserved", "1Gi", ""),
		claim(t, "disk", "5Gi", "  volumeMode: Block\n"), claim(t, "class", "1Gi", "  storageClassName: fast\n"),
		claim(t, "named", "1Gi", "  volumeName: b-small\n"),
	)
	for _, c := range []struct{ claims, want string }{
		{"first", "b-small"},
		{"first second", "b-small a-large"},
		{"first named", "a-large b-small"}, // who names a volume comes first
		{"reserved disk class", "mine block fast"},
		{"first first", "b-small b-small"},
	} {
		names := strings.Fields(c.claims)
		bound, err := s.Bind("default", names)
		if err != nil {
			t.Errorf("%s: %v", c.claims, err)
			continue
		}
		var got []string
		for _, name := range names {
			got = append(got, bound[name].Name)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: bound to %v, want %s", c.claims, got, c.want)
		}
	}
}

func TestBindSaysWhyNothingFits(t *testing.T) {
	s := set(t,
		volume(t, "a", "2Gi", "  storageClassName: slow\n"), volume(t, "b", "1Gi", ""),
		claim(t, "big", "2Gi", ""), claim(t, "shared", "1Mi", ""), claim(t, "nowhere", "1Gi", "  volumeName: gone\n"),
		claim(t, "named", "3Gi", "  volumeName: b\n"), claim(t, "chosen", "1Mi", "  selector: {matchLabels: {disk: x}}\n"),
	)
	s.Claims["shared"].Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
	_, err := s.Bind("default", []string{"big", "shared", "nowhere", "named", "chosen", "gone"})
	for _, want := range []string{
		`PersistentVolumeClaim "big": no PersistentVolume of the file fits: a: its storageClassName is "slow", not ""; b: it has 1Gi, not 2Gi`,
		"b: its accessModes lack ReadWriteMany",
		`"nowhere": spec.volumeName "gone": this PersistentVolume is not in the file`,
		`"named": PersistentVolume "b" is meant for it and does not fit: it has 1Gi, not 3Gi`,
		"b: its labels are not those of spec.selector",
		`PersistentVolumeClaim "gone" is not in the file`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in\n%v", want, err)
		}
	}
	if _, err := set(t, claim(t, "c", "1Gi", "")).Bind("default", []string{"c"}); err == nil || !strings.Contains(err.Error(), "there is no PersistentVolume in the file") {
		t.Errorf("%v", err)
	}
}

func TestDefaultClass(t *testing.T) {
	s := set(t, volume(t, "a", "1Gi", "  storageClassName: std\n"), claim(t, "c", "1Gi", ""), claim(t, "none", "1Gi", "  storageClassName: ''\n"),
		parse[storagev1.StorageClass](t, "metadata: {name: std, annotations: {storageclass.kubernetes.io/is-default-class: 'true'}}\nprovisioner: x\n"))
	if bound, err := s.Bind("default", []string{"c"}); err != nil || bound["c"].Name != "a" {
		t.Errorf("%v, %v", bound, err)
	}
	if _, err := s.Bind("default", []string{"none"}); err == nil {
		t.Error("a claim without a class got one")
	}
}

func TestObjects(t *testing.T) {
	yes := true
	s := set(t,
		parse[corev1.Secret](t, "metadata: {name: s, namespace: a}\ndata: {k: b2xk, l: bA==}\nstringData: {k: new}\n"),
		parse[corev1.ConfigMap](t, "metadata: {name: c}\ndata: {t: text}\nbinaryData: {b: AAE=}\n"))
	data, err := s.Secret("s", nil)
	if err != nil || string(data["k"]) != "new" || string(data["l"]) != "l" {
		t.Errorf("%q, %v", data, err)
	}
	if data, err = s.ConfigMap("c", nil); err != nil || string(data["t"]) != "text" || string(data["b"]) != "\x00\x01" {
		t.Errorf("%q, %v", data, err)
	}
	if data, err := s.ConfigMap("gone", &yes); data != nil || err != nil {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := s.Secret("gone", nil); err == nil || !strings.Contains(err.Error(), `Secret "gone" is not in the file`) {
		t.Errorf("%v", err)
	}
	if errs := s.Foreign("a"); errs != nil {
		t.Errorf("%v", errs)
	}
	if errs := s.Foreign("b"); len(errs) != 1 || !strings.Contains(errs[0].Error(), `metadata.namespace "a": the pod is in "b"`) {
		t.Errorf("%v", errs)
	}
	if _, err := s.Add(&corev1.Secret{}); err == nil {
		t.Error("a Secret without a name is taken")
	}
	if taken, _ := s.Add(&corev1.Pod{}); taken {
		t.Error("a Pod is taken")
	}
}
