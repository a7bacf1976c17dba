package runtime

import (
	"net/netip"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Sandbox is a snapshot of a pod sandbox. It shares Config with the runtime:
// callers must not modify it.
type Sandbox struct {
	// ID is 64 hex digits that begin with ids.Lead.
	ID string
	// Config is the request's configuration, unchanged.
	Config *runtimeapi.PodSandboxConfig
	// Handler is the RuntimeClass handler of the request, "" for the default.
	Handler string
	// Ready is false as soon as a stop has begun.
	Ready bool
	// CreatedAt is when RunPodSandbox was asked for.
	CreatedAt time.Time
	// IPs are the pod's addresses, the pod IP first. They stay known after a stop.
	IPs []netip.Addr
	// NetnsPath is where the pod's network namespace is pinned.
	NetnsPath string
}

// Container is a snapshot of a VM, which CRI calls a container. It shares
// Config with the runtime: callers must not modify it.
type Container struct {
	// ID is 64 hex digits that begin with ids.Lead.
	ID string
	// SandboxID is the sandbox that the container belongs to.
	SandboxID string
	// Config is the request's configuration, unchanged.
	Config *runtimeapi.ContainerConfig
	// State is CREATED, RUNNING, EXITED or, for a VM whose process cannot be
	// reached, UNKNOWN.
	State runtimeapi.ContainerState
	// CreatedAt, StartedAt and FinishedAt are zero until they have happened.
	CreatedAt, StartedAt, FinishedAt time.Time
	// ExitCode, Reason and Message say how the VM ended; see exit.go.
	ExitCode int32
	Reason   string
	Message  string
	// ImageID is the identity of the image in all calls of the image service.
	ImageID string
	// LogPath is the absolute path of the CRI log file, "" when none was asked for.
	LogPath string
	// Resources are the limits that are in force, nil when none were asked for.
	Resources *runtimeapi.LinuxContainerResources
}

// The conditions that CRI's Status must carry.
const (
	ConditionRuntimeReady = "RuntimeReady"
	ConditionNetworkReady = "NetworkReady"
)

// Condition is one condition of CRI's Status.
type Condition struct {
	Type    string
	Status  bool
	Reason  string
	Message string
}
