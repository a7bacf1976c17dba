package podrun

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// maxManifest bounds what is read, in bytes.
const maxManifest = 8 << 20

// Manifest is a file with one pod and the ConfigMaps and Secrets that it uses.
type Manifest struct {
	Pod        *corev1.Pod
	ConfigMaps map[string]*corev1.ConfigMap // by name
	Secrets    map[string]*corev1.Secret    // by name
	// Notes name what is accepted but has no effect on one machine, a
	// sentence each.
	Notes []string
}

// ReadManifest reads YAML or JSON documents: exactly one v1 Pod, any number of
// v1 ConfigMaps and Secrets. All that is wrong is reported together.
func ReadManifest(r io.Reader) (*Manifest, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxManifest {
		return nil, fmt.Errorf("the manifest is larger than %d MiB", maxManifest>>20)
	}
	m := &Manifest{ConfigMaps: map[string]*corev1.ConfigMap{}, Secrets: map[string]*corev1.Secret{}}
	var errs []error
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(raw)))
	for n := 1; ; n++ {
		doc, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = m.add(doc)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("document %d: %w", n, err))
			break
		}
	}
	if m.Pod == nil && len(errs) == 0 {
		errs = append(errs, errors.New("there is no object of kind Pod in it"))
	}
	if len(errs) == 0 {
		errs = m.check()
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *Manifest) add(doc []byte) error {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(doc, &kind); err != nil {
		return fmt.Errorf("it is not valid YAML: %w", err)
	}
	switch {
	case kind == metav1.TypeMeta{} && isEmpty(doc):
		return nil
	case kind.APIVersion != "v1":
		return refuse(kind)
	}
	switch kind.Kind {
	case "Pod":
		return m.addPod(doc)
	case "ConfigMap":
		return addNamed(doc, kind.Kind, m.ConfigMaps)
	case "Secret":
		return addNamed(doc, kind.Kind, m.Secrets)
	}
	return refuse(kind)
}

func isEmpty(doc []byte) bool {
	var any any
	return yaml.Unmarshal(doc, &any) == nil && any == nil
}

func refuse(kind metav1.TypeMeta) error {
	hint := ""
	switch kind.Kind {
	case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job":
		hint = "; take its spec.template as a Pod of its own"
	}
	return fmt.Errorf("apiVersion %q, kind %q: on one machine only v1 Pod, ConfigMap and Secret are understood%s", kind.APIVersion, kind.Kind, hint)
}

func (m *Manifest) addPod(doc []byte) error {
	pod := &corev1.Pod{}
	if err := yaml.UnmarshalStrict(doc, pod); err != nil {
		return fmt.Errorf("pod: %w", err)
	}
	if m.Pod != nil {
		return fmt.Errorf("pod %q is the second one, after %q: a file holds one pod", pod.Name, m.Pod.Name)
	}
	m.Pod = pod
	return nil
}

func addNamed[T metav1.Object](doc []byte, kind string, into map[string]T) error {
	var object T
	if err := yaml.UnmarshalStrict(doc, &object); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	if _, twice := into[object.GetName()]; twice {
		return fmt.Errorf("%s %q stands in the file twice", kind, object.GetName())
	}
	into[object.GetName()] = object
	return nil
}

// TargetRuntime is the annotation, and its value, that makes a pod a VM pod.
const (
	TargetRuntimeAnnotation = "kubernetes.io/target-runtime"
	TargetRuntime           = "virtlet.cloud"
	imagePrefix             = "virtlet.cloud/"
)

// check finds what kubelet or the API server would have refused, or sent
// elsewhere.
func (m *Manifest) check() []error {
	var errs []error
	pod := m.Pod
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if pod.Name == "" {
		bad("metadata.name is missing")
	}
	if got := pod.Annotations[TargetRuntimeAnnotation]; got != TargetRuntime {
		bad("annotation %s is %q: a VM pod has %s: %s", TargetRuntimeAnnotation, got, TargetRuntimeAnnotation, TargetRuntime)
	}
	for _, c := range pod.Spec.InitContainers {
		bad("spec.initContainers: %q: a VM pod has no init containers", c.Name)
	}
	if n := len(pod.Spec.Containers); n != 1 {
		bad("spec.containers has %d entries: a VM pod has exactly one, which is the VM", n)
		return errs
	}
	errs = append(errs, checkContainer(&pod.Spec.Containers[0])...)
	m.Notes = notApplicable(pod)
	return errs
}

func checkContainer(c *corev1.Container) []error {
	var errs []error
	if c.Name == "" {
		errs = append(errs, errors.New("spec.containers[0].name is missing"))
	}
	switch {
	case c.Image == "":
		errs = append(errs, errors.New("spec.containers[0].image is missing: write "+imagePrefix+"NAME"))
	case !hasPrefix(c.Image):
		errs = append(errs, fmt.Errorf("spec.containers[0].image %q: the image of a VM begins with %s; write %s%s", c.Image, imagePrefix, imagePrefix, c.Image))
	}
	return errs
}

func hasPrefix(image string) bool {
	return len(image) > len(imagePrefix) && image[:len(imagePrefix)] == imagePrefix
}

// notApplicable names the fields that need a cluster, or a part of kubelet
// that is not played here.
func notApplicable(pod *corev1.Pod) []string {
	s, c := &pod.Spec, &pod.Spec.Containers[0]
	fields := map[string]bool{
		"spec.affinity":                      s.Affinity != nil,
		"spec.nodeSelector":                  len(s.NodeSelector) > 0,
		"spec.nodeName":                      s.NodeName != "",
		"spec.tolerations":                   len(s.Tolerations) > 0,
		"spec.topologySpreadConstraints":     len(s.TopologySpreadConstraints) > 0,
		"spec.schedulerName":                 s.SchedulerName != "",
		"spec.priorityClassName":             s.PriorityClassName != "",
		"spec.serviceAccountName":            s.ServiceAccountName != "" || s.DeprecatedServiceAccount != "",
		"spec.imagePullSecrets":              len(s.ImagePullSecrets) > 0,
		"spec.readinessGates":                len(s.ReadinessGates) > 0,
		"spec.activeDeadlineSeconds":         s.ActiveDeadlineSeconds != nil,
		"spec.containers[0].livenessProbe":   c.LivenessProbe != nil,
		"spec.containers[0].readinessProbe":  c.ReadinessProbe != nil,
		"spec.containers[0].startupProbe":    c.StartupProbe != nil,
		"spec.containers[0].lifecycle":       c.Lifecycle != nil,
		"spec.containers[0].imagePullPolicy": c.ImagePullPolicy != "" && c.ImagePullPolicy != corev1.PullIfNotPresent && c.ImagePullPolicy != corev1.PullAlways && c.ImagePullPolicy != corev1.PullNever,
	}
	maps.DeleteFunc(fields, func(_ string, set bool) bool { return !set })
	var notes []string
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		notes = append(notes, field+" is not applicable on one machine and has no effect")
	}
	if len(s.Volumes) > 0 || len(c.VolumeMounts) > 0 {
		notes = append(notes, "spec.volumes are not carried into the guest by this version")
	}
	return notes
}
