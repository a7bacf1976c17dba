package runtime

import (
	"log/slog"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/ids"
)

// podLog is the log for lines about a pod: each names it in the same way, so
// that one question finds them all.
func (r *Runtime) podLog(p *pod) *slog.Logger {
	return r.Log.With(LogPod(p.config().GetMetadata())...).With("sandbox", p.id)
}

// vmLog is the log for lines about a VM. The vm is how its directories are
// called, the container how CRI's clients know it.
func (r *Runtime) vmLog(v *vm) *slog.Logger {
	return r.podLog(v.pod).With(LogVM(v.id)...)
}

// LogPod are the attributes of a line about a pod.
func LogPod(m *runtimeapi.PodSandboxMetadata) []any {
	return []any{slog.String("namespace", m.GetNamespace()), slog.String("pod", m.GetName()), slog.String("uid", m.GetUid())}
}

// LogVM are those that a line about the VM of a pod has beside the pod's.
func LogVM(containerID string) []any {
	return []any{slog.String("vm", ids.Short(containerID)), slog.String("container", containerID)}
}
