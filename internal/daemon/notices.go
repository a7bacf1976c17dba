package daemon

import (
	"fmt"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/images"
	"github.com/qemulet/qemulet/internal/kube"
	"github.com/qemulet/qemulet/internal/runtime"
)

// tellOwner writes an Event about a pod.
func (n *node) tellOwner(x runtime.Notice) {
	pod := kube.Pod{Namespace: x.Pod.GetNamespace(), Name: x.Pod.GetName(), UID: x.Pod.GetUid()}
	n.events.Tell(pod, x.Warning, x.Reason, x.Message)
}

// tellTranslation says from where an image came that its pod's author has named
// otherwise.
func (n *node) tellTranslation(pod *runtimeapi.PodSandboxMetadata, name string, img images.Image) {
	if img.Translated != "" {
		n.tellOwner(runtime.Notice{Pod: pod, Reason: runtime.NoticeTranslated, Message: fmt.Sprintf("image %s: %s", name, img.Translated)})
	}
}
