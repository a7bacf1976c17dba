package runtime

import (
	"fmt"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/store"
)

// Notice is something that the owner of a pod should know.
type Notice struct {
	// Pod is whose it is.
	Pod *runtimeapi.PodSandboxMetadata
	// Warning tells what is wrong from what is good to know.
	Warning bool
	// Reason is one of the constants, Message a sentence without secrets.
	Reason, Message string
}

// Reasons of notices. Those of ends are in exit.go.
const (
	NoticeEmulated       = "Emulated"         // KVM is not usable, QEMU emulates
	NoticePoweredOff     = "GuestPoweredOff"  // by itself
	NoticeReset          = "GuestReset"       // likewise
	NoticeDiskFull       = "DiskFull"         // the guest is paused until there is room
	NoticeDiskError      = "DiskError"        // the guest was told of it
	NoticeRootReplaced   = "RootDiskReplaced" // a persistent root disk was made anew
	NoticeNetworkLost    = "NetworkLost"      // the pod has to be made anew
	NoticeNetworkTrouble = "NetworkTrouble"   // it is not what CNI made
	NoticeTranslated     = "ImageTranslated"  // from where the image came, and why
)

// Notices are all reasons there are, and whether they are warnings.
func Notices() map[string]bool {
	return map[string]bool{
		NoticeEmulated: true, NoticePoweredOff: false, NoticeReset: false, NoticeDiskFull: true, NoticeDiskError: true,
		NoticeRootReplaced: true, NoticeNetworkLost: true, NoticeNetworkTrouble: true, NoticeTranslated: false,
		reasonGuestPanic: true, reasonOOMKilled: true, reasonQEMUCrashed: true, reasonQEMUKilled: true,
	}
}

// tell makes a notice to a pod's owner.
func (r *Runtime) tell(p *pod, reason, format string, args ...any) {
	if r.Tell != nil {
		r.Tell(Notice{Pod: p.config().GetMetadata(), Warning: Notices()[reason], Reason: reason, Message: fmt.Sprintf(format, args...)})
	}
}

// tellEnd tells of an end that somebody may wonder about.
func (r *Runtime) tellEnd(v *vm, rec *store.Container) {
	switch rec.Reason {
	case reasonGuestPanic, reasonOOMKilled, reasonQEMUCrashed, reasonQEMUKilled:
		r.tell(v.pod, rec.Reason, "%s", rec.Message)
	case reasonCompleted:
		if rec.Message == messagePoweredOff {
			r.tell(v.pod, NoticePoweredOff, "the guest powered off by itself")
		}
	}
}

// tellAccel says that a VM is slow, and why.
func (r *Runtime) tellAccel(v *vm, state *HypervisorState) {
	if state.Accel.Fallback {
		r.tell(v.pod, NoticeEmulated, "%s", state.Accel.Reason)
	}
}
