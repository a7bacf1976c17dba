package deploy

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/qemulet/qemulet/internal/config"
	"github.com/qemulet/qemulet/internal/images"
	"github.com/qemulet/qemulet/internal/vmpod"
)

// built is the base, which takes a while.
var built = sync.OnceValues(func() (resmap.ResMap, error) {
	return krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "base")
})

// objects are those of the base, decoded by the API's own types, which refuse
// fields that they do not have, and fields given twice.
func objects(t *testing.T) []runtime.Object {
	t.Helper()
	base, err := built()
	if err != nil {
		t.Fatal(err)
	}
	known := runtime.NewScheme()
	if err := scheme.AddToScheme(known); err != nil {
		t.Fatal(err)
	}
	if err := apiextensionsv1.AddToScheme(known); err != nil {
		t.Fatal(err)
	}
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, known, known, json.SerializerOptions{Yaml: true, Strict: true})
	var all []runtime.Object
	for _, r := range base.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		o, _, err := strict.Decode(text, nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", r.CurId(), err)
		}
		all = append(all, o)
	}
	return all
}

// all returns the objects of one type.
func all[T runtime.Object](t *testing.T) []T {
	t.Helper()
	var found []T
	for _, o := range objects(t) {
		if o, ok := o.(T); ok {
			found = append(found, o)
		}
	}
	return found
}

// one returns the only object of a type.
func one[T runtime.Object](t *testing.T) T {
	t.Helper()
	found := all[T](t)
	if len(found) != 1 {
		t.Fatalf("%d objects of the type %T", len(found), *new(T))
	}
	return found[0]
}

func TestManifestsDecode(t *testing.T) {
	kinds := map[string]int{}
	for _, o := range objects(t) {
		kinds[o.GetObjectKind().GroupVersionKind().Kind]++
	}
	want := map[string]int{"CustomResourceDefinition": 2, "ServiceAccount": 1, "ClusterRole": 1, "ClusterRoleBinding": 1, "Role": 1,
		"RoleBinding": 1, "RuntimeClass": 1, "ConfigMap": 2, "DaemonSet": 1}
	if !maps.Equal(kinds, want) {
		t.Errorf("got %v", kinds)
	}
}

// The overhead is what the daemon would give QEMU for the largest guests that
// the manifest's comment names.
func TestOverhead(t *testing.T) {
	class := one[*nodev1.RuntimeClass](t)
	const gib = int64(1) << 30
	memory := class.Overhead.PodFixed[corev1.ResourceMemory]
	if need := vmpod.Overhead(4, 24*gib, "kvm", 0); memory.Value() != need {
		t.Errorf("overhead %d, under KVM it is %d", memory.Value(), need)
	}
	if need := vmpod.Overhead(1, 3*gib, "tcg", 0); memory.Value() < need {
		t.Errorf("overhead %d, emulated it is %d", memory.Value(), need)
	}
	if class.Handler != "virtlet" || class.Scheduling.NodeSelector["extraRuntime"] != "virtlet" {
		t.Errorf("got %+v", class)
	}
}

// configMap is one of kube-system's.
func configMap(t *testing.T, name string) *corev1.ConfigMap {
	t.Helper()
	for _, m := range all[*corev1.ConfigMap](t) {
		if m.Name == name && m.Namespace == "kube-system" {
			return m
		}
	}
	t.Fatalf("no ConfigMap kube-system/%s", name)
	return nil
}

// The settings for all nodes are empty: they would count more than mappings.
func TestConfigMapIsEmpty(t *testing.T) {
	if m := configMap(t, config.ConfigMapName); len(m.Data) != 0 {
		t.Errorf("it has %v", m.Data)
	}
}

// Each file of image translations is understood, and its rules find their URLs.
func TestImageTranslations(t *testing.T) {
	files := configMap(t, "virtlet-image-translations")
	var rules []images.Translation
	for name, text := range files.Data {
		translation, err := images.ParseTranslation(name, []byte(text))
		if err != nil {
			t.Error(err)
		}
		rules = append(rules, translation)
	}
	for _, name := range []string{"cirros", "debian", "fedora", "ubuntu"} {
		complain := func(err error) { t.Error(err) }
		got := images.Translate(images.Name{Path: name, Tag: "latest"}, rules, images.TranslateOptions{Protocol: "https", Warn: complain})
		if got.Rule == nil || !strings.HasPrefix(got.URL, "https://") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// The paths on which installer and daemon count are those of the pod's volumes.
func TestDaemonSetVolumes(t *testing.T) {
	pod := one[*appsv1.DaemonSet](t).Spec.Template.Spec
	volumes := map[string]corev1.Volume{}
	for _, v := range pod.Volumes {
		volumes[v.Name] = v
	}
	access := volumes["api-access"].Projected
	if access == nil || access.Sources[0].ServiceAccountToken.Path != "token" || access.Sources[1].ConfigMap.Items[0].Path != "ca.crt" {
		t.Errorf("api-access is %+v", access)
	}
	if rules := volumes["image-translations"].ConfigMap; rules == nil || rules.Name != "virtlet-image-translations" {
		t.Errorf("image-translations is %+v", rules)
	}
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		for _, m := range c.VolumeMounts {
			if _, ok := volumes[m.Name]; !ok {
				t.Errorf("container %s mounts %s, which is no volume", c.Name, m.Name)
			}
		}
	}
	if pod.ServiceAccountName != "qemulet" || !pod.HostPID || pod.NodeSelector["extraRuntime"] != "virtlet" {
		t.Errorf("got %+v", pod)
	}
}

// What the Containerfile copies is there, and with the programs it is all that
// the installer wants.
func TestContainerfile(t *testing.T) {
	text, err := os.ReadFile("Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	copied := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^COPY (--from=build )?(.+) \S+$`).FindAllStringSubmatch(string(text), -1) {
		for source := range strings.FieldsSeq(m[2]) {
			if m[1] != "" {
				source = "cmd/" + filepath.Base(source)
			}
			if _, err := os.Stat(filepath.Join("..", source)); err != nil {
				t.Errorf("COPY %s: %v", source, err)
			}
			copied[source] = true
		}
	}
	for _, source := range []string{"cmd/qemulet", "cmd/criproxy", "cmd/flexvolume_driver", "deploy/node-install.sh", "deploy/systemd/"} {
		if !copied[source] {
			t.Errorf("%s is not copied", source)
		}
	}
	if !bytes.Contains(text, []byte(`ENTRYPOINT ["/opt/qemulet/node-install.sh"]`)) {
		t.Error("the installer is not the entry point")
	}
}
