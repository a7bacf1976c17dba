package volumes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/qemulet/qemulet/internal/flexvolume"
	"github.com/qemulet/qemulet/internal/podrun/downward"
	"github.com/qemulet/qemulet/internal/podrun/objects"
)

const uid = "0b5c7a52-75a1-4d0f-9a26-6b7dbb2e2c5d"

func parse[T any](t *testing.T, text string) *T {
	t.Helper()
	o := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return o
}

// newPod has the given spec, and what it may refer to.
func newPod(t *testing.T, spec string) (*Pod, error) {
	t.Helper()
	s := &objects.Set{}
	for _, o := range []any{
		parse[corev1.ConfigMap](t, "metadata: {name: c}\ndata: {a: A, b: B}\nbinaryData: {bin: AAE=}\n"),
		parse[corev1.Secret](t, "metadata: {name: s}\nstringData: {key: hunter2}\n"),
		parse[corev1.PersistentVolume](t, "metadata: {name: dir}\nspec: {capacity: {storage: 1Gi}, local: {path: "+t.TempDir()+"}}\n"),
		parse[corev1.PersistentVolume](t, "metadata: {name: disk}\nspec: {capacity: {storage: 1Gi}, volumeMode: Block, local: {path: /dev/null/none}}\n"),
		parse[corev1.PersistentVolume](t, "metadata: {name: net}\nspec: {capacity: {storage: 1Gi}, nfs: {path: /x, server: host}}\n"),
		parse[corev1.PersistentVolumeClaim](t, "metadata: {name: dir}\nspec: {volumeName: dir}\n"),
		parse[corev1.PersistentVolumeClaim](t, "metadata: {name: disk}\nspec: {volumeName: disk, volumeMode: Block}\n"),
		parse[corev1.PersistentVolumeClaim](t, "metadata: {name: net}\nspec: {volumeName: net}\n"),
	} {
		if _, err := s.Add(o); err != nil {
			t.Fatal(err)
		}
	}
	pod := &corev1.Pod{Spec: *parse[corev1.PodSpec](t, spec)}
	pod.Name, pod.Namespace, pod.UID, pod.Labels = "web", "default", uid, map[string]string{"tier": "front"}
	return New(downward.Pod{Pod: pod}, s, map[string]string{"WHO": "me"})
}

// setUp makes the volumes of a pod below a directory, which it returns.
func setUp(t *testing.T, spec string) (*Made, string) {
	t.Helper()
	p, err := newPod(t, spec)
	if err != nil {
		t.Fatal(err)
	}
	r := Root(t.TempDir())
	claim, err := r.Claim(uid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Remove(uid); err != nil {
			t.Error(err)
		}
		r.Tidy()
		if _, err := os.Stat(string(r)); err == nil {
			t.Error("something is left behind")
		}
	})
	made, err := p.SetUp(claim.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := claim.Release(); err != nil {
		t.Error(err)
	}
	return made, claim.Dir
}

// listing has a line for each file, link and directory.
func listing(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		info, err := d.Info()
		rel, _ := filepath.Rel(dir, name)
		line := fmt.Sprintf("%s %s", rel, info.Mode())
		if target, err := os.Readlink(name); err == nil {
			line = rel + " -> " + target
		}
		if data, readErr := os.ReadFile(name); d.Type().IsRegular() && readErr == nil {
			line += fmt.Sprintf(" %q", data)
		}
		all = append(all, line)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestFilesAreLaidOutAsByKubelet(t *testing.T) {
	made, dir := setUp(t, `
volumes:
- name: all
  configMap: {name: c, defaultMode: 0400}
- name: mix
  projected:
    sources:
    - secret: {name: s, items: [{key: key, path: deep/er/pw, mode: 0440}]}
    - configMap: {name: c, items: [{key: a, path: a}, {key: none, path: x}], optional: true}
    - downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}, {path: mem, resourceFieldRef: {containerName: vm, resource: limits.memory, divisor: 1Mi}}]}
- name: none
  secret: {secretName: gone, optional: true}
containers:
- name: vm
  resources: {limits: {memory: 64Mi}}
  volumeMounts: [{name: all, mountPath: /all}, {name: mix, mountPath: mix}, {name: none, mountPath: /none}]
`)
	for name, want := range map[string][]string{
		"kubernetes.io~configmap/all": {"..T drwxr-xr-x", `..T/a -r-------- "A"`, `..T/b -r-------- "B"`, `..T/bin -r-------- "\x00\x01"`, "..data -> ..T", "a -> ..data/a", "b -> ..data/b", "bin -> ..data/bin"},
		"kubernetes.io~projected/mix": {"..T drwxr-xr-x", `..T/a -rw-r--r-- "A"`, "..T/deep drwxr-xr-x", "..T/deep/er drwxr-xr-x", `..T/deep/er/pw -r--r----- "hunter2"`,
			`..T/labels -rw-r--r-- "tier=\"front\""`, `..T/mem -rw-r--r-- "64"`, "..data -> ..T", "a -> ..data/a", "deep -> ..data/deep", "labels -> ..data/labels", "mem -> ..data/mem"},
		"kubernetes.io~secret/none": {"..T drwxr-xr-x", "..data -> ..T"},
	} {
		full := filepath.Join(dir, "volumes", name)
		target, err := os.Readlink(filepath.Join(full, "..data"))
		if err != nil {
			t.Fatal(err)
		}
		got := listing(t, full)
		for i := range got {
			got[i] = strings.ReplaceAll(got[i], target, "..T")
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	if len(made.Mounts) != 3 || made.Mounts[1].ContainerPath != "/mix" || !made.Mounts[1].Readonly || made.Mounts[1].HostPath != filepath.Join(dir, "volumes/kubernetes.io~projected/mix") {
		t.Errorf("%+v", made.Mounts)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the pod's directory: %v, %v", info.Mode(), err)
	}
}

func TestDirectories(t *testing.T) {
	host := t.TempDir()
	made, dir := setUp(t, `
volumes:
- {name: e, emptyDir: {}}
- {name: m, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
- {name: default}
- {name: d, hostPath: {path: `+host+`/new/dir, type: DirectoryOrCreate}}
- {name: f, hostPath: {path: `+host+`/file, type: FileOrCreate}}
- {name: p, persistentVolumeClaim: {claimName: dir, readOnly: true}}
- {name: unused, emptyDir: {}}
containers:
- name: vm
  volumeMounts:
  - {name: e, mountPath: /e, subPath: a/b}
  - {name: e, mountPath: /me, subPathExpr: x-$(WHO)}
  - {name: m, mountPath: /m, mountPropagation: HostToContainer}
  - {name: default, mountPath: /default}
  - {name: d, mountPath: /d, readOnly: true}
  - {name: f, mountPath: /f}
  - {name: p, mountPath: /p}
`)
	at := map[string]string{}
	for _, m := range made.Mounts {
		at[m.ContainerPath] = strings.Replace(m.HostPath, dir, "POD", 1)
		if want := m.ContainerPath == "/d" || m.ContainerPath == "/p"; m.Readonly != want {
			t.Errorf("%s: read-only is %v", m.ContainerPath, m.Readonly)
		}
	}
	for guest, want := range map[string]string{
		"/e": "POD/volumes/kubernetes.io~empty-dir/e/a/b", "/me": "POD/volumes/kubernetes.io~empty-dir/e/x-me", "/m": "POD/volumes/kubernetes.io~empty-dir/m",
		"/default": "POD/volumes/kubernetes.io~empty-dir/default", "/d": host + "/new/dir", "/f": host + "/file",
	} {
		if at[guest] != want {
			t.Errorf("%s is %s, want %s", guest, at[guest], want)
		}
	}
	if made.Mounts[2].Propagation.String() != "PROPAGATION_HOST_TO_CONTAINER" {
		t.Errorf("%v", made.Mounts[2])
	}
	if info, err := os.Stat(dir + "/volumes/kubernetes.io~empty-dir/m"); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.WriteFile(dir+"/volumes/kubernetes.io~empty-dir/m/large", make([]byte, 2<<20), 0o600); err == nil {
		t.Error("a volume in memory is larger than its limit")
	}
	if _, err := os.Stat(dir + "/volumes/kubernetes.io~empty-dir/unused"); err == nil {
		t.Error("a volume that nothing mounts is made")
	}
}

func TestFlexVolumesAreMadeByTheirDriver(t *testing.T) {
	made, dir := setUp(t, `
volumes:
- {name: data, flexVolume: {driver: virtlet/flexvolume_driver, readOnly: true, secretRef: {name: s}, options: {type: qcow2, capacity: 40MB, part: "0"}}}
- {name: spare, flexVolume: {driver: virtlet/flexvolume_driver, options: {type: raw, path: /dev/x}}}
containers: [{name: vm, volumeMounts: [{name: data, mountPath: /data}]}]
`)
	list, err := flexvolume.List(flexvolume.PodDir(filepath.Dir(dir), uid))
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	if v := list[0]; v.Name != "data" || v.Capacity != "40MB" || v.Part != 0 || !v.ReadOnly || v.UUID == "" || made.Mounts[0].HostPath != v.Dir || !made.Mounts[0].Readonly {
		t.Errorf("%+v, %v", v, made.Mounts)
	}
	raw, err := os.ReadFile(filepath.Join(list[0].Dir, flexvolume.DataFile))
	var options map[string]string
	if err != nil || json.Unmarshal(raw, &options) != nil || options["kubernetes.io/secret/key"] != "aHVudGVyMg==" || options["kubernetes.io/pod.name"] != "web" {
		t.Errorf("%s, %v", raw, err)
	}
}

func TestBlockDevices(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := newPod(t, `
volumes: [{name: b, persistentVolumeClaim: {claimName: disk, readOnly: true}}]
containers: [{name: vm, volumeDevices: [{name: b, devicePath: /dev/data}]}]
`)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := p.SetUp(dir); err == nil || !strings.Contains(err.Error(), `volume b: `) || !strings.Contains(err.Error(), "/dev/null/none") {
		t.Errorf("%v", err)
	}
	p.sources["b"].(*blockVolume).path = file
	made, err := p.SetUp(dir)
	if err != nil {
		t.Fatal(err)
	}
	d := made.Devices[0]
	target, err := os.Readlink(d.HostPath)
	if d.HostPath != dir+"/volumeDevices/kubernetes.io~local-volume/disk" || d.ContainerPath != "/dev/data" || d.Permissions != "r" || target != file || err != nil {
		t.Errorf("%+v, %s, %v", d, target, err)
	}
}

func TestWhatIsWrongIsReportedTogether(t *testing.T) {
	_, err := newPod(t, `
volumes:
- {name: Bad, emptyDir: {}}
- {name: twice, emptyDir: {}}
- {name: twice, emptyDir: {}}
- {name: huge, emptyDir: {medium: HugePages}}
- {name: rel, hostPath: {path: x}}
- {name: kind, hostPath: {path: /x, type: Door}}
- {name: cm, configMap: {name: gone, items: [{key: k, path: p}]}}
- {name: key, configMap: {name: c, items: [{key: none, path: p}, {key: a, path: ../p}, {key: b, path: "..p"}]}}
- {name: mode, secret: {secretName: s, defaultMode: 4096}}
- {name: token, projected: {sources: [{serviceAccountToken: {path: t}}]}}
- {name: addr, downwardAPI: {items: [{path: a, fieldRef: {fieldPath: status.podIP}}, {path: r, resourceFieldRef: {resource: limits.cpu}}]}}
- {name: flex, flexVolume: {driver: ceph/x}}
- {name: nfs, nfs: {server: s, path: /p}}
- {name: claim, persistentVolumeClaim: {claimName: net}}
- {name: lost, persistentVolumeClaim: {claimName: lost}}
- {name: disk, persistentVolumeClaim: {claimName: disk}}
- {name: fine, emptyDir: {}}
containers:
- name: vm
  volumeMounts:
  - {name: nobody, mountPath: /a}
  - {name: fine}
  - {name: fine, mountPath: /b, subPath: a, subPathExpr: b}
  - {name: fine, mountPath: /c, subPath: ../x}
  - {name: fine, mountPath: /d, subPathExpr: $(NONE)}
  - {name: fine, mountPath: /d/}
  - {name: disk, mountPath: /e}
  - {name: lost, mountPath: /f}
  volumeDevices:
  - {name: fine, devicePath: /dev/x}
  - {name: disk, devicePath: dev}
  - {name: gone, devicePath: /dev/y}
  - {name: lost, devicePath: /dev/y}
`)
	if err == nil {
		t.Fatal("nothing is wrong")
	}
	for _, want := range []string{
		`name "Bad"`, `name "twice" stands there twice`, `huge: emptyDir.medium "HugePages"`, `rel: hostPath.path "x"`, `kind: hostPath.type "Door": accepted are Directory`,
		`cm: configMap: ConfigMap "gone" is not in the file`, `configMap.items[0]: ConfigMap "c" has no key "none"`, `configMap.items[1]: path "../p"`, `configMap.items[2]: path "..p": it begins with ..`,
		"secret.defaultMode: 4096", "projected.sources[0].serviceAccountToken: not available on one machine", `downwardAPI.items[0]: fieldRef.fieldPath "status.podIP": files`,
		"downwardAPI.items[1]: resourceFieldRef.containerName is missing",
		`flex: flexVolume.driver "ceph/x" is not available on one machine`, "nfs: nfs is not available on one machine: accepted are emptyDir",
		`claim: PersistentVolume "net": nfs is not available on one machine`, `PersistentVolumeClaim "lost" is not in the file`,
		`volumeMounts[0]: name "nobody": there is no such volume`, "volumeMounts[1]: mountPath is missing", "volumeMounts[2]: subPath and subPathExpr are both given",
		`volumeMounts[3]: subPath "../x"`, `volumeMounts[4]: subPathExpr "$(NONE)": there is no variable NONE`, `volumeMounts[5]: mountPath "/d/" stands there twice`,
		`volumeMounts[6]: volume "disk" is a block device`, `volumeDevices[0]: volume "fine" is no block device`, `volumeDevices[1]: devicePath "dev"`,
		`volumeDevices[2]: name "gone"`, `volumeDevices[3]: devicePath "/dev/y" stands there twice`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
}

func TestHostPathTypes(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind corev1.HostPathType
		path string
		want string
	}{
		{"", dir, ""}, {"", file, ""}, {"", dir + "/gone", "is not on this machine"},
		{"Directory", dir, ""}, {"Directory", file, "is no directory, as its type Directory demands"}, {"Directory", dir + "/gone", "is not on this machine"},
		{"File", file, ""}, {"File", dir, "is no file"}, {"CharDevice", "/dev/null", ""}, {"BlockDevice", "/dev/null", "is no block device"},
		{"Socket", file, "is no socket"}, {"DirectoryOrCreate", file, "is no directory"}, {"FileOrCreate", dir + "/none/file", "no such file"},
	} {
		source, err := newHostPath(&corev1.HostPathVolumeSource{Path: c.path, Type: &c.kind})
		if err != nil {
			t.Fatal(err)
		}
		switch _, err = source.setUp("", &making{}); {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s %s: %v, want %q", c.kind, c.path, err, c.want)
		}
	}
}

// A look needs no privileges, and makes nothing outside its directory.
func TestPretend(t *testing.T) {
	host := t.TempDir()
	p, err := newPod(t, `
volumes:
- {name: m, emptyDir: {medium: Memory}}
- {name: h, hostPath: {path: `+host+`/new, type: DirectoryOrCreate}}
- {name: f, hostPath: {path: `+host+`/file, type: File}}
- {name: b, persistentVolumeClaim: {claimName: disk}}
- {name: x, flexVolume: {driver: virtlet/flexvolume_driver, options: {type: qcow2}}}
containers:
- name: vm
  volumeMounts: [{name: m, mountPath: /m}, {name: h, mountPath: /h}, {name: f, mountPath: /f}, {name: x, mountPath: /x}]
  volumeDevices: [{name: b, devicePath: /dev/b}]
`)
	if err != nil {
		t.Fatal(err)
	}
	p.sources["b"].(*blockVolume).path = host + "/disk"
	dir := filepath.Join(t.TempDir(), "pods", uid)
	made, notes, err := p.Pretend(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(notes) != 2 || !strings.Contains(notes[0], "file") || !strings.Contains(notes[1], "disk") {
		t.Errorf("%q", notes)
	}
	if info, err := os.Stat(made.Devices[0].HostPath); err != nil || info.Size() != 1<<30 {
		t.Errorf("%v, %v", info, err)
	}
	if list, err := flexvolume.List(flexvolume.PodDir(filepath.Dir(dir), uid)); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if left, _ := os.ReadDir(host); len(left) > 0 {
		t.Errorf("made on the machine: %v", left)
	}
	if mounts, err := mountsBelow(dir); len(mounts) > 0 || err != nil {
		t.Errorf("mounted: %v, %v", mounts, err)
	}
}

// A guest that writes to a volume must not get at the machine's files by a link.
func TestSubPathStaysInTheVolume(t *testing.T) {
	volume, outside := t.TempDir(), t.TempDir()
	for link, target := range map[string]string{"out": outside, "in": "real", "data": "..data/x"} {
		if err := os.Symlink(target, filepath.Join(volume, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(volume, "real"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := inVolume(volume, "in", false); got != filepath.Join(volume, "real") || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	for _, sub := range []string{"out", "out/new", "data"} {
		if got, err := inVolume(volume, sub, false); err == nil {
			t.Errorf("%s is %s", sub, got)
		}
	}
	if _, err := inVolume(volume, "gone", true); err == nil || !strings.Contains(err.Error(), "is not in the volume") {
		t.Errorf("%v", err)
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Error("something was made outside the volume")
	}
}

func TestConflictingPaths(t *testing.T) {
	err := writePayload(t.TempDir(), map[string]file{"a": {}, "a/b/c": {}})
	if err == nil || !strings.Contains(err.Error(), `"a" would be a file`) {
		t.Errorf("%v", err)
	}
}

// Who is killed while a pod is made leaves something that can be found again.
func TestOrphans(t *testing.T) {
	r := Root(filepath.Join(t.TempDir(), "kubelet"))
	if left, err := r.Orphans(); left != nil || err != nil {
		t.Errorf("%v, %v", left, err)
	}
	claim, err := r.Claim(uid)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Claim(uid); err == nil {
		t.Error("two make the same pod")
	}
	if left, err := r.Orphans(); len(left) != 0 || err != nil {
		t.Errorf("%v, %v", left, err)
	}
	if err := claim.Release(); err != nil {
		t.Error(err)
	}
	if left, err := r.Orphans(); !slices.Equal(left, []string{uid}) || err != nil {
		t.Errorf("%v, %v", left, err)
	}
	foreign := r.Dir("of-kubelet")
	if err := os.MkdirAll(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{uid, "of-kubelet", uid} {
		if err := r.Remove(id); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Error("the directory of a pod that is not ours is removed")
	}
}

func TestUnescape(t *testing.T) {
	if got := unescape(`/a\040b\134\x`); got != `/a b\\x` {
		t.Errorf("%q", got)
	}
}

func FuzzCheckPath(f *testing.F) {
	for _, s := range []string{"a", "a/b", "..", "../a", "..data", "a/..", "", "/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if checkPath(name) != nil || bytes.ContainsRune([]byte(name), 0) {
			return
		}
		if !filepath.IsLocal(name) {
			t.Errorf("%q leads out of the volume", name)
		}
	})
}
