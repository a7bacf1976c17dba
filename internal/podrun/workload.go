package podrun

import (
	"cmp"
	"fmt"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// workload is an object that makes pods from a template.
type workload struct {
	kind     string
	meta     *metav1.ObjectMeta
	template *corev1.PodTemplateSpec
	replicas *int32
	set      *appsv1.StatefulSetSpec // nil for other kinds
}

func workloadOf(object runtime.Object) *workload {
	switch o := object.(type) {
	case *appsv1.Deployment:
		return &workload{"Deployment", &o.ObjectMeta, &o.Spec.Template, o.Spec.Replicas, nil}
	case *appsv1.ReplicaSet:
		return &workload{"ReplicaSet", &o.ObjectMeta, &o.Spec.Template, o.Spec.Replicas, nil}
	case *appsv1.StatefulSet:
		return &workload{"StatefulSet", &o.ObjectMeta, &o.Spec.Template, o.Spec.Replicas, &o.Spec}
	case *appsv1.DaemonSet:
		return &workload{"DaemonSet", &o.ObjectMeta, &o.Spec.Template, nil, nil}
	case *batchv1.Job:
		return &workload{"Job", &o.ObjectMeta, &o.Spec.Template, cmp.Or(o.Spec.Completions, o.Spec.Parallelism), nil}
	}
	return nil
}

// pod is the first pod of the template, and what to say about the others.
func (w *workload) pod() (pod *corev1.Pod, note string) {
	pod = &corev1.Pod{ObjectMeta: *w.template.ObjectMeta.DeepCopy(), Spec: *w.template.Spec.DeepCopy()}
	pod.Name, pod.Namespace = w.meta.Name+"-0", w.meta.Namespace
	if w.meta.Name == "" {
		pod.Name = "" // which is reported
	}
	if w.set != nil {
		w.identify(pod)
	}
	note = fmt.Sprintf("%s %s: the pod of its template is run, as %s", w.kind, w.meta.Name, pod.Name)
	if n := w.replicas; n != nil && *n != 1 {
		note += fmt.Sprintf("; it asks for %d, and one machine runs one", *n)
	}
	return pod, note
}

// identify gives a pod of a StatefulSet what it is known by.
func (w *workload) identify(pod *corev1.Pod) {
	pod.Spec.Hostname, pod.Spec.Subdomain = pod.Name, w.set.ServiceName
	labels := maps.Clone(pod.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[appsv1.StatefulSetPodNameLabel] = pod.Name
	labels[appsv1.PodIndexLabel] = "0"
	pod.Labels = labels
}

// claims are the claims that are made for the pod: those of a StatefulSet's
// templates, which also replace volumes of the same name, and those of ephemeral
// volumes.
func claims(pod *corev1.Pod, templates []corev1.PersistentVolumeClaim) []*corev1.PersistentVolumeClaim {
	var made []*corev1.PersistentVolumeClaim
	for i := range templates {
		claim := templates[i].DeepCopy()
		volume := claim.Name
		claim.Name += "-" + pod.Name
		made = append(made, claim)
		setVolume(pod, volume, corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim.Name}})
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Ephemeral == nil || v.Ephemeral.VolumeClaimTemplate == nil {
			continue
		}
		template := v.Ephemeral.VolumeClaimTemplate
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: *template.Spec.DeepCopy()}
		claim.Name = pod.Name + "-" + v.Name
		made = append(made, claim)
	}
	return made
}

func setVolume(pod *corev1.Pod, name string, source corev1.VolumeSource) {
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Name == name {
			pod.Spec.Volumes[i].VolumeSource = source
			return
		}
	}
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: source})
}
