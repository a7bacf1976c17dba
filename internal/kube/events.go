package kube

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/containerd/errdefs"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
)

// Events writes Events about pods to the API server, where `kubectl describe
// pod` shows them. What repeats itself is counted instead of written again, and
// one pod gets a few dozen in a row and then one every five minutes. Writing
// goes on in the background: nobody waits for it, and what cannot be written is
// dropped. Its methods may be called concurrently.
type Events struct {
	api         *API
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
	sink        *eventSink
	cancel      context.CancelFunc
}

// Events makes them come from a node. That none can be written is logged once
// for each kind of cause. The caller must Close it.
func (a *API) Events(node string, log *slog.Logger) *Events {
	ctx, cancel := context.WithCancel(context.Background())
	// client-go's own words for what fails would be one line for each try.
	silent := klog.NewContext(ctx, klog.Logger{})
	e := &Events{
		api: a, cancel: cancel, sink: &eventSink{api: a, ctx: ctx, log: log},
		broadcaster: record.NewBroadcaster(record.WithContext(silent)),
	}
	e.recorder = e.broadcaster.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: "qemulet", Host: node})
	e.broadcaster.StartRecordingToSink(e.sink)
	return e
}

// Tell writes an Event about a pod, where an API server is configured. reason is
// one word in UpperCamelCase, message a sentence without secrets.
func (e *Events) Tell(pod Pod, warning bool, reason, message string) {
	if e.api.Kubeconfig == "" && !inPod() {
		return
	}
	kind := corev1.EventTypeNormal
	if warning {
		kind = corev1.EventTypeWarning
	}
	e.recorder.Event(&corev1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: types.UID(pod.UID),
	}, kind, reason, message)
}

// Close drops what was not written yet.
func (e *Events) Close() {
	e.cancel()
	e.broadcaster.Shutdown()
}

// eventSink is where Events go.
type eventSink struct {
	api *API
	ctx context.Context // ends with Events
	log *slog.Logger

	mu   sync.Mutex
	said string // the class of the last error
}

var eventResource = schema.GroupVersionResource{Version: "v1", Resource: "events"}

// Create implements record.EventSink.
func (s *eventSink) Create(event *corev1.Event) (*corev1.Event, error) {
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(event)
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{Object: object}
	u.SetAPIVersion("v1")
	u.SetKind("Event")
	return s.write(event, func(ctx context.Context, c dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
		return c.Create(ctx, u, metav1.CreateOptions{})
	})
}

// Update implements record.EventSink. Nothing calls it: what changes is patched.
func (s *eventSink) Update(*corev1.Event) (*corev1.Event, error) {
	return nil, errors.ErrUnsupported
}

// Patch implements record.EventSink.
func (s *eventSink) Patch(event *corev1.Event, patch []byte) (*corev1.Event, error) {
	return s.write(event, func(ctx context.Context, c dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
		return c.Patch(ctx, event.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	})
}

// write returns an error only for what is worth another try.
func (s *eventSink) write(event *corev1.Event, do func(context.Context, dynamic.ResourceInterface) (*unstructured.Unstructured, error)) (*corev1.Event, error) {
	var written *unstructured.Unstructured
	err := s.api.ask(s.ctx, func(ctx context.Context, c dynamic.Interface) (err error) {
		written, err = do(ctx, c.Resource(eventResource).Namespace(event.Namespace))
		return err
	})
	s.report(err)
	var status *apierrors.StatusError
	switch {
	case err == nil:
		got := &corev1.Event{}
		return got, runtime.DefaultUnstructuredConverter.FromUnstructured(written.Object, got)
	case errors.As(err, &status) && apierrors.IsNotFound(status):
		return nil, status // of a patch: it is written anew
	case errdefs.IsUnavailable(err) && status == nil:
		return nil, err // the server is away
	}
	return event, nil // refused: another try would be too
}

// report logs why Events cannot be written, when that is new.
func (s *eventSink) report(err error) {
	class := ""
	switch {
	case err == nil:
	case s.ctx.Err() != nil, errdefs.IsNotFound(err): // the end; an object or a namespace that has gone
		return
	case errdefs.IsPermissionDenied(err):
		class = "forbidden"
	default:
		class = "unavailable"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if class == s.said {
		return
	}
	s.said = class
	switch class {
	case "forbidden":
		s.log.Warn("no Events can be written; let a ClusterRole grant the verbs create and patch for events", "error", err)
	case "unavailable":
		s.log.Warn("Events cannot be written at the moment", "error", err)
	}
}
