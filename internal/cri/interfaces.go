package cri

import (
	"context"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/images"
	"github.com/qemulet/qemulet/internal/runtime"
)

// Runtime is the life of VM pods; *runtime.Runtime implements it. An id may
// be a unique beginning of one. Errors carry the classes of errdefs.
type Runtime interface {
	RunSandbox(ctx context.Context, cfg *runtimeapi.PodSandboxConfig, handler string) (string, error)
	StopSandbox(ctx context.Context, id string) error
	RemoveSandbox(ctx context.Context, id string) error
	Sandbox(id string) (runtime.Sandbox, error)
	Sandboxes() []runtime.Sandbox
	SandboxInfo(id string) (map[string]string, error)

	CreateContainer(ctx context.Context, sandboxID string, c *runtimeapi.ContainerConfig, s *runtimeapi.PodSandboxConfig) (string, error)
	StartContainer(ctx context.Context, id string) error
	StopContainer(ctx context.Context, id string, timeout time.Duration) error
	RemoveContainer(ctx context.Context, id string) error
	ReopenLog(ctx context.Context, id string) error
	Container(id string) (runtime.Container, error)
	Containers() []runtime.Container
	ContainerInfo(id string) (map[string]string, error)
	Exec(ctx context.Context, id string, command []string, input []byte) (runtime.ExecResult, error)
	AwaitAgent(ctx context.Context, id string) error
	UpdateResources(ctx context.Context, id string, change *runtimeapi.LinuxContainerResources) error
	Stats(id string) (runtime.Stats, error)
	NetworkStats(ctx context.Context, sandboxID string) ([]runtime.NICStats, error)
	RunningStats(want func(runtime.Container) bool) []runtime.Stats
	Events(ctx context.Context, f func(runtime.Event) error) error

	Conditions(ctx context.Context) []runtime.Condition
}

// Images is the image store; *images.Store implements it.
type Images interface {
	Pull(ctx context.Context, ref string, auth *images.Auth) (images.Image, error)
	List(ctx context.Context, filter string) ([]images.Image, error)
	Get(ctx context.Context, refOrID string) (images.Image, error)
	Remove(ctx context.Context, refOrID string) error
	FSInfo() (images.FSInfo, error)
}

// Streams hands out URLs for sessions; *streaming.Server implements it.
type Streams interface {
	Attach(*runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error)
	Exec(*runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error)
	PortForward(*runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error)
}
