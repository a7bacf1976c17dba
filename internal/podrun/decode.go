package podrun

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/yaml"
)

// newDecoder reads the kinds that are understood, as strictly as the API server
// does for kubectl: a field that is misspelt or there twice is an error.
func newDecoder() runtime.Decoder {
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.Pod{}, &corev1.ConfigMap{}, &corev1.Secret{},
		&corev1.PersistentVolume{}, &corev1.PersistentVolumeClaim{}, &corev1.Service{}, &corev1.Namespace{})
	scheme.AddKnownTypes(appsv1.SchemeGroupVersion, &appsv1.Deployment{}, &appsv1.ReplicaSet{}, &appsv1.StatefulSet{}, &appsv1.DaemonSet{})
	scheme.AddKnownTypes(batchv1.SchemeGroupVersion, &batchv1.Job{})
	scheme.AddKnownTypes(storagev1.SchemeGroupVersion, &storagev1.StorageClass{})
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
}

// looksLike tells which kind a document is; nil when there are only comments,
// or nothing.
func looksLike(doc []byte) (*metav1.TypeMeta, error) {
	var content any
	if err := yaml.Unmarshal(doc, &content); err != nil {
		return nil, fmt.Errorf("it is not valid YAML: %w", err)
	}
	switch content.(type) {
	case nil:
		return nil, nil
	case map[string]any:
	default:
		return nil, errors.New("it is not a Kubernetes object: apiVersion and kind are missing")
	}
	what := &metav1.TypeMeta{}
	if err := yaml.Unmarshal(doc, what); err != nil {
		return nil, inWordsOfYAML(err)
	}
	return what, nil
}

// under puts the kind before errors that name only the field.
func under(kind string, errs []error) []error {
	var all []error
	for _, err := range errs {
		all = append(all, fmt.Errorf("%s: %w", kind, err))
	}
	return all
}

// inWordsOfYAML names the field instead of Go's types.
func inWordsOfYAML(err error) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err
	}
	hint := ""
	if wrong.Type.Kind() == reflect.String {
		hint = "; put it in quotes"
	}
	return fmt.Errorf("%s: it holds a %s, a %s is accepted%s", wrong.Field, wrong.Value, wrong.Type.Kind(), hint)
}

// refuse says what is understood instead.
func refuse(what *metav1.TypeMeta) error {
	return fmt.Errorf("apiVersion %q, kind %q: on one machine understood are v1 Pod, ConfigMap, Secret, PersistentVolume, PersistentVolumeClaim, "+
		"Service, Namespace, apps/v1 Deployment, ReplicaSet, StatefulSet, DaemonSet, batch/v1 Job and storage.k8s.io/v1 StorageClass", what.APIVersion, what.Kind)
}
