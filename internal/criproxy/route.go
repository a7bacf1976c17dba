package criproxy

import (
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/ids"
)

// TargetRuntimeAnnotation is the pod's annotation that names its runtime.
const TargetRuntimeAnnotation = "kubernetes.io/target-runtime"

// side is where a call goes.
type side int

const (
	toPrimary side = iota
	toVM
	toBoth // to find out, or because all are meant
)

// routes decides from what a call carries where it goes.
type routes struct {
	// id is the value of the annotation that names the VM runtime; names of
	// images that begin with it and a slash are the VM runtime's too.
	id string
	// handlers are the RuntimeClass handlers of the VM runtime.
	handlers []string
	known    *known
}

// sandbox tells where a new pod goes: its RuntimeClass decides, and else its
// annotation.
func (r *routes) sandbox(handler string, annotations map[string]string) (side, error) {
	target, named := annotations[TargetRuntimeAnnotation]
	switch ours := slices.Contains(r.handlers, handler); {
	case named && target != r.id:
		return 0, status.Errorf(codes.InvalidArgument, "annotation %s is %q: accepted is %q, for a virtual machine; leave it out for an ordinary pod",
			TargetRuntimeAnnotation, target, r.id)
	case named && handler != "" && !ours:
		return 0, status.Errorf(codes.InvalidArgument, "annotation %s is %q, and the RuntimeClass has the handler %q, which is another runtime's: leave one of them out",
			TargetRuntimeAnnotation, target, handler)
	case named || ours:
		return toVM, nil
	}
	return toPrimary, nil
}

// object tells whose an id is, of a sandbox or a container. Ids are not
// rewritten: those of the VM runtime have a lead of their own. No id, and one
// that nobody knows, is the primary's.
func (r *routes) object(id string) side {
	if strings.HasPrefix(id, ids.Lead) && !r.known.foreign(id) {
		return toVM
	}
	return toPrimary
}

// filter tells whose an id in a filter may be: crictl takes abbreviated ids.
func (r *routes) filter(id string) side {
	if id == "" || strings.HasPrefix(ids.Lead, id) {
		return toBoth
	}
	return r.object(id)
}

// image tells whose an image is. The annotations are those of the pod it is
// for, as far as they are known.
func (r *routes) image(spec *runtimeapi.ImageSpec, pod map[string]string) side {
	name := spec.GetImage()
	switch {
	case strings.HasPrefix(name, r.id+"/"),
		slices.Contains(r.handlers, spec.GetRuntimeHandler()),
		spec.GetAnnotations()[TargetRuntimeAnnotation] == r.id,
		pod[TargetRuntimeAnnotation] == r.id,
		r.known.has(images, name):
		return toVM
	case isID(name):
		return toBoth
	}
	return toPrimary
}

// isID tells whether a reference is the id of an image and no name.
func isID(reference string) bool {
	if hex, ok := strings.CutPrefix(reference, "sha256:"); ok {
		return hex != ""
	}
	return len(reference) == 64 && strings.Trim(reference, "0123456789abcdef") == ""
}
