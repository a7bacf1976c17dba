package podrun

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"

	"github.com/qemulet/qemulet/internal/podrun/downward"
	"github.com/qemulet/qemulet/internal/podrun/objects"
	"github.com/qemulet/qemulet/internal/podrun/volumes"
)

// maxManifest bounds what is read, in bytes.
const maxManifest = 8 << 20

// Manifest is a file with one pod, or with a workload whose first pod it then
// is, and the objects that the pod uses.
type Manifest struct {
	Pod *corev1.Pod
	// Set is what the pod may refer to.
	objects.Set
	// Notes name what is accepted but has no effect on one machine, a
	// sentence each.
	Notes []string

	volumes *volumes.Pod
	node    downward.Node
	claims  []corev1.PersistentVolumeClaim // a StatefulSet's templates
	masked  bool

	pretended *volumes.Made // by Pretend
}

// ReadManifest reads YAML or JSON documents: exactly one Pod or workload, and any
// number of the objects that it uses. What the API server would fill in is filled
// in. All that is wrong is reported together.
func ReadManifest(r io.Reader) (*Manifest, error) {
	m := &Manifest{}
	if err := m.read(r); err != nil {
		return nil, err
	}
	return m, nil
}

// Inspect is ReadManifest for somebody who wants to see all of it: the manifest
// is returned beside the error, as far as it could be read; Pod is nil if there is
// none. If masked, each value of a Secret is replaced by the word in Mask.
func Inspect(r io.Reader, masked bool) (*Manifest, error) {
	m := &Manifest{masked: masked}
	return m, m.read(r)
}

// Mask stands in for the values of Secrets.
const Mask = "(secret)"

func (m *Manifest) read(r io.Reader) error {
	raw, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return err
	}
	if len(raw) > maxManifest {
		return fmt.Errorf("the manifest is larger than %d MiB", maxManifest>>20)
	}
	m.node = downward.ThisNode()
	errs := m.addAll(raw)
	switch {
	case m.Pod != nil:
		errs = append(errs, m.check()...)
	case len(errs) == 0:
		errs = append(errs, errors.New("there is no object of kind Pod in it, nor one that makes pods"))
	}
	if len(errs) > 0 {
		return &ManifestError{Problems: errs}
	}
	return nil
}

// ManifestError is all that is wrong with a manifest.
type ManifestError struct{ Problems []error }

// Error has a line for each problem when there are several.
func (e *ManifestError) Error() string {
	if len(e.Problems) == 1 {
		return e.Problems[0].Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d problems:", len(e.Problems))
	for _, p := range e.Problems {
		b.WriteString("\n  " + p.Error())
	}
	return b.String()
}

// Unwrap returns the problems.
func (e *ManifestError) Unwrap() []error { return e.Problems }

// addAll reads all documents and returns what is wrong with them.
func (m *Manifest) addAll(raw []byte) (errs []error) {
	d := newDecoder()
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(raw)))
	for n := 1; ; n++ {
		doc, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return errs
		}
		if err != nil {
			return append(errs, fmt.Errorf("document %d: %w", n, err))
		}
		for _, err := range m.add(d, doc) {
			errs = append(errs, fmt.Errorf("document %d: %w", n, err))
		}
	}
}

// add reads one document. Fields that are misspelt, or there twice, are
// reported one by one, and what the object is is known all the same.
func (m *Manifest) add(d runtime.Decoder, doc []byte) []error {
	what, err := looksLike(doc)
	if what == nil || err != nil {
		return list(err)
	}
	object, _, err := d.Decode(doc, nil, nil)
	var strict interface{ Errors() []error }
	switch {
	case runtime.IsStrictDecodingError(err) && errors.As(err, &strict):
		return append(under(what.Kind, strict.Errors()), m.take(object)...)
	case runtime.IsNotRegisteredError(err), runtime.IsMissingKind(err), runtime.IsMissingVersion(err):
		return list(refuse(what))
	case err != nil:
		return under(what.Kind, list(inWordsOfYAML(err)))
	}
	return m.take(object)
}

// list drops what is nil.
func list(errs ...error) []error {
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

// take sorts an object in.
func (m *Manifest) take(object runtime.Object) []error {
	if s, is := object.(*corev1.Secret); is && m.masked {
		mask(s)
	}
	if taken, err := m.Add(object); taken {
		return list(err)
	}
	if w := workloadOf(object); w != nil {
		pod, note := w.pod()
		m.Notes = append(m.Notes, note)
		if w.set != nil {
			m.claims = w.set.VolumeClaimTemplates
		}
		return list(m.takePod(pod))
	}
	switch o := object.(type) {
	case *corev1.Pod:
		return list(m.takePod(o))
	case *corev1.Service, *corev1.Namespace:
		m.Notes = append(m.Notes, fmt.Sprintf("%s %s has no effect on one machine", o.GetObjectKind().GroupVersionKind().Kind, o.(metav1.Object).GetName()))
	}
	return nil
}

func mask(s *corev1.Secret) {
	for key := range s.Data {
		s.Data[key] = []byte(Mask)
	}
	for key := range s.StringData {
		s.StringData[key] = Mask
	}
}

func (m *Manifest) takePod(pod *corev1.Pod) error {
	if m.Pod != nil {
		return fmt.Errorf("pod %q is the second one, after %q: a file holds one pod, or one object that makes pods", pod.Name, m.Pod.Name)
	}
	m.Pod = pod
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
	pod := m.Pod
	errs := m.addClaims()
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	errs = append(errs, checkName("metadata.name", pod.Name, validation.IsDNS1123Subdomain)...)
	if pod.Namespace != "" {
		errs = append(errs, checkName("metadata.namespace", pod.Namespace, validation.IsDNS1123Label)...)
	}
	if strings.ContainsAny(string(pod.UID), "/.") {
		bad("metadata.uid %q: it names files, and so holds no / and no dot; leave it out to get one", pod.UID)
	}
	if got := pod.Annotations[TargetRuntimeAnnotation]; got != TargetRuntime {
		bad("annotation %s is %q: a VM pod has %s: %s", TargetRuntimeAnnotation, got, TargetRuntimeAnnotation, TargetRuntime)
	}
	if policy := pod.Spec.RestartPolicy; !slices.Contains(restartPolicies, policy) {
		bad("spec.restartPolicy %q: accepted are Always, OnFailure, Never, or nothing", policy)
	}
	for _, c := range pod.Spec.InitContainers {
		bad("spec.initContainers: %q: a VM pod has no init containers", c.Name)
	}
	if n := len(pod.Spec.Containers); n != 1 {
		bad("spec.containers has %d entries: a VM pod has exactly one, which is the VM", n)
		return errs
	}
	m.complete()
	errs = append(errs, checkContainer(&pod.Spec.Containers[0])...)
	errs = append(errs, m.checkHostname()...)
	errs = append(errs, m.Foreign(pod.Namespace)...)
	errs = append(errs, m.checkUses()...)
	m.Notes = append(m.Notes, notApplicable(pod)...)
	return errs
}

// addClaims adds the claims that a cluster would make for the pod.
func (m *Manifest) addClaims() (errs []error) {
	for _, claim := range claims(m.Pod, m.claims) {
		_, err := m.Add(claim)
		errs = append(errs, list(err)...)
	}
	return errs
}

var restartPolicies = []corev1.RestartPolicy{"", corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}

func checkName(field, name string, rule func(string) []string) []error {
	if name == "" {
		return []error{fmt.Errorf("%s is missing", field)}
	}
	if problems := rule(name); len(problems) > 0 {
		return []error{fmt.Errorf("%s %q: %s", field, name, strings.Join(problems, "; "))}
	}
	return nil
}

func checkContainer(c *corev1.Container) []error {
	errs := checkName("spec.containers[0].name", c.Name, validation.IsDNS1123Label)
	switch {
	case c.Image == "":
		errs = append(errs, errors.New("spec.containers[0].image is missing: write "+imagePrefix+"NAME"))
	case c.Image == imagePrefix:
		errs = append(errs, fmt.Errorf("spec.containers[0].image %q: what follows %s is missing", c.Image, imagePrefix))
	case !strings.HasPrefix(c.Image, imagePrefix):
		errs = append(errs, fmt.Errorf("spec.containers[0].image %q: the image of a VM begins with %s; write %s%s", c.Image, imagePrefix, imagePrefix, c.Image))
	}
	if !slices.Contains(pullPolicies, c.ImagePullPolicy) {
		errs = append(errs, fmt.Errorf("spec.containers[0].imagePullPolicy %q: accepted are Always, IfNotPresent, Never, or nothing", c.ImagePullPolicy))
	}
	return errs
}

var pullPolicies = []corev1.PullPolicy{"", corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever}

// checkUses finds what will be missing when the VM is made: in its environment,
// and for its volumes.
func (m *Manifest) checkUses() []error {
	env, envErr := m.environment("")
	known := map[string]string{}
	for _, v := range env {
		known[v.Key] = string(v.Value)
	}
	var err error
	m.volumes, err = volumes.New(m.downward(""), &m.Set, known)
	m.Notes = append(m.Notes, m.volumes.Notes...)
	return append(joined(envErr), joined(err)...)
}

// joined are the parts of errors that were joined, however often.
func joined(err error) []error {
	if err == nil {
		return nil
	}
	all, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var parts []error
	for _, e := range all.Unwrap() {
		parts = append(parts, joined(e)...)
	}
	return parts
}

// notApplicable names the fields that need a cluster, or a part of kubelet
// that is not played here.
func notApplicable(pod *corev1.Pod) []string {
	s, c := &pod.Spec, &pod.Spec.Containers[0]
	fields := map[string]bool{
		"spec.affinity":                     s.Affinity != nil,
		"spec.nodeSelector":                 len(s.NodeSelector) > 0,
		"spec.nodeName":                     s.NodeName != "",
		"spec.tolerations":                  len(s.Tolerations) > 0,
		"spec.topologySpreadConstraints":    len(s.TopologySpreadConstraints) > 0,
		"spec.schedulerName":                s.SchedulerName != "",
		"spec.priorityClassName":            s.PriorityClassName != "",
		"spec.serviceAccountName":           s.ServiceAccountName != "" || s.DeprecatedServiceAccount != "",
		"spec.imagePullSecrets":             len(s.ImagePullSecrets) > 0,
		"spec.readinessGates":               len(s.ReadinessGates) > 0,
		"spec.activeDeadlineSeconds":        s.ActiveDeadlineSeconds != nil,
		"spec.containers[0].livenessProbe":  c.LivenessProbe != nil,
		"spec.containers[0].readinessProbe": c.ReadinessProbe != nil,
		"spec.containers[0].startupProbe":   c.StartupProbe != nil,
		"spec.containers[0].lifecycle":      c.Lifecycle != nil,
	}
	maps.DeleteFunc(fields, func(_ string, set bool) bool { return !set })
	var notes []string
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		notes = append(notes, field+" is not applicable on one machine and has no effect")
	}
	return notes
}
