package runtime

import (
	"encoding/json"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/internal/vmpod"
	"github.com/qemulet/qemulet/qemu"
)

// PodRecord is what is recorded of a sandbox, without what may be secret: each
// field is one that is known to be none.
type PodRecord struct {
	ID           string             `json:"id"`
	Namespace    string             `json:"namespace"`
	Name         string             `json:"name"`
	UID          string             `json:"uid"`
	Attempt      uint32             `json:"attempt"`
	Phase        store.SandboxPhase `json:"phase"`
	Handler      string             `json:"handler"`
	Created      time.Time          `json:"created"`
	IPs          []netip.Addr       `json:"ips"`
	MACs         map[string]string  `json:"macs"`
	NetnsPath    string             `json:"netnsPath"`
	CgroupParent string             `json:"cgroupParent"`
	// Annotations are those that qemulet knows, values that may be secret left out.
	Annotations map[string]string `json:"annotations"`
	VMs         []VMRecord        `json:"vms"`
}

// VMRecord is what is recorded of a container, likewise.
type VMRecord struct {
	ID          string               `json:"id"`
	Name        string               `json:"name"`
	Attempt     uint32               `json:"attempt"`
	Phase       store.ContainerPhase `json:"phase"`
	Lost        bool                 `json:"lost,omitempty"`
	Created     time.Time            `json:"created"`
	Started     time.Time            `json:"started,omitzero"`
	Finished    time.Time            `json:"finished,omitzero"`
	ExitCode    int32                `json:"exitCode"`
	Reason      string               `json:"reason"`
	Message     string               `json:"message"`
	Image       string               `json:"image"`
	ImageDigest string               `json:"imageDigest"`
	RootDevice  string               `json:"rootDevice,omitempty"`
	Machine     string               `json:"machine"`
	PID         int                  `json:"pid,omitempty"`
	CgroupPath  string               `json:"cgroupPath"`
	LogPath     string               `json:"logPath"`
	Notes       []string             `json:"notes"`
	// Env are names only.
	Env []string `json:"env"`
	// Mounts are paths in the container, and behind them those on the host.
	Mounts map[string]string `json:"mounts"`
	// QEMULog and ConfigFile are files on the node.
	QEMULog    string `json:"qemuLog"`
	ConfigFile string `json:"configFile"`
}

// Records tells of all pods what is recorded, sorted by creation.
func (r *Runtime) Records() []PodRecord {
	var all []PodRecord
	for _, p := range r.allPods() {
		all = append(all, r.podRecord(p))
	}
	slices.SortFunc(all, func(a, b PodRecord) int { return a.Created.Compare(b.Created) })
	return all
}

func (r *Runtime) podRecord(p *pod) PodRecord {
	rec, config := p.record(), p.config()
	m := config.GetMetadata()
	shown := PodRecord{
		ID: rec.ID, Namespace: m.GetNamespace(), Name: m.GetName(), UID: m.GetUid(), Attempt: m.GetAttempt(),
		Phase: rec.Phase, Handler: rec.Handler, Created: rec.Created, IPs: rec.IPs, MACs: rec.MACs,
		NetnsPath: filepath.Join(r.NetnsDir, rec.NetnsName), CgroupParent: config.GetLinux().GetCgroupParent(),
		Annotations: vmpod.Shown(config.GetAnnotations()),
	}
	for _, v := range r.vmsOf(p) {
		shown.VMs = append(shown.VMs, r.vmRecord(v))
	}
	slices.SortFunc(shown.VMs, func(a, b VMRecord) int { return a.Created.Compare(b.Created) })
	return shown
}

func (r *Runtime) vmRecord(v *vm) VMRecord {
	rec := v.record()
	config := rec.Config.M
	shown := VMRecord{
		ID: rec.ID, Name: config.GetMetadata().GetName(), Attempt: config.GetMetadata().GetAttempt(),
		Phase: rec.Phase, Lost: v.isLost(), Created: rec.Created, Started: rec.Started, Finished: rec.Finished,
		ExitCode: rec.ExitCode, Reason: rec.Reason, Message: rec.Message,
		Image: config.GetImage().GetUserSpecifiedImage(), ImageDigest: rec.ImageDigest, RootDevice: rec.RootDevice, Machine: rec.Machine,
		CgroupPath: rec.CgroupPath, LogPath: logPath(v.pod.config(), config), Notes: rec.Notes, Mounts: map[string]string{},
		QEMULog:    filepath.Join(r.runDir(v.id), qemuLog),
		ConfigFile: filepath.Join(r.vmDir(v.pod.uid(), v.id), configFile),
	}
	var process qemu.Identity
	if json.Unmarshal(rec.Process, &process) == nil {
		shown.PID = process.PID
	}
	for _, e := range config.GetEnvs() {
		shown.Env = append(shown.Env, e.GetKey())
	}
	for _, m := range config.GetMounts() {
		shown.Mounts[m.GetContainerPath()] = m.GetHostPath()
	}
	return shown
}
