package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"time"

	"github.com/oklog/run"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/config"
	"github.com/qemulet/qemulet/internal/cri"
	"github.com/qemulet/qemulet/internal/cri/streaming"
	"github.com/qemulet/qemulet/internal/httpd"
	"github.com/qemulet/qemulet/internal/unixsock"
	"github.com/qemulet/qemulet/internal/version"
	"github.com/qemulet/qemulet/internal/watchdog"
)

const (
	// socketMode lets root and root's group in: who can connect has the
	// consoles of all VMs.
	socketMode = 0o660
	// closeTimeout is how long operations may take to end at a shutdown; what
	// is cut off then, the next start finishes.
	closeTimeout = 20 * time.Second
	// tracesTimeout is how long a collector may take for the last spans.
	tracesTimeout = 2 * time.Second
	// sessionsTimeout is the same for consoles and forwarded ports.
	sessionsTimeout = 5 * time.Second
)

// Run is a daemon with settings that do not change; see Serve.
func Run(ctx context.Context, cfg *config.Config, log *slog.Logger, ready func()) error {
	return Serve(ctx, FixedSettings(cfg), log, ready)
}

// Serve is the daemon. It takes the state directory for itself, recovers what
// the last one left, opens its sockets, calls ready, and serves until ctx
// ends. VMs are not touched by its end. The error is nil after an orderly
// end, and otherwise says what could not be done.
func Serve(ctx context.Context, settings *Settings, log *slog.Logger, ready func()) (err error) {
	begin, cfg := time.Now(), settings.Config()
	// VMs inherit it: no guest's memory ends up in a core file.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		log.Warn("core files cannot be switched off", "error", err)
	}
	// VMs inherit this too: with a device of the host's all memory is locked.
	// What that lacks is said when such a VM starts.
	_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
	lock, err := acquire(cfg.StateDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	n, err := open(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	if err := n.runtime.Recover(ctx); err != nil {
		return fmt.Errorf("recovering what the last daemon left: %w", err)
	}
	f, err := n.listen(cfg)
	if err != nil {
		return err
	}
	log.Info("serving", "version", version.Number(), "cri", cfg.CRISocket, "api", cfg.APISocket,
		"streams", f.streamURL.String(), "took", time.Since(begin))
	ready()
	defer log.Info("stopped serving, VMs run on")
	settings.setApply(n.adjust)
	defer settings.setApply(nil)
	return f.serve(ctx, n, settings)
}

// front is the daemon's listeners.
type front struct {
	cri, api, streams net.Listener
	metrics           net.Listener // nil for none
	streamURL         url.URL
}

// listen opens them all or none. CRI's comes last: who sees it can use the rest.
func (n *node) listen(cfg *config.Config) (_ *front, err error) {
	f := &front{}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	if f.streams, f.streamURL, err = listenForStreams(cfg); err != nil {
		return nil, err
	}
	if cfg.MetricsAddress != "" {
		if f.metrics, err = net.Listen("tcp", cfg.MetricsAddress); err != nil {
			return nil, fmt.Errorf("metrics-address %s: %w", cfg.MetricsAddress, err)
		}
		n.log.Info("serving metrics", "address", f.metrics.Addr().String())
	}
	if f.api, err = unixsock.Listen(cfg.APISocket, socketMode); err != nil {
		return nil, err
	}
	if f.cri, err = unixsock.Listen(cfg.CRISocket, socketMode); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *front) close() {
	for _, l := range []net.Listener{f.cri, f.api, f.streams, f.metrics} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// serve runs the servers until ctx ends or one of them fails.
func (f *front) serve(ctx context.Context, n *node, settings *Settings) error {
	cfg := settings.Config()
	streams := streaming.New(n.runtime, f.streamURL, n.log)
	server := cri.New(cri.Options{
		Runtime:      n.runtime,
		Images:       n.images,
		Streams:      streams,
		Log:          n.log,
		Version:      version.Number(),
		Handlers:     n.runtime.Handlers(),
		CgroupDriver: cgroupDriver(cfg.CgroupDriver),
		Info:         func() map[string]string { return statusInfo(settings.Config()) },
		Requested:    n.metrics.Requested,
		Panicked:     n.metrics.Panicked,
		Pulled:       n.tellTranslation,
		Traces:       n.traces.provider(),
	})
	local := api.Handler(api.Options{
		Images: n.images, ImageUsers: n.runtime.ImageUsers, Machines: machines{n.runtime}, Debug: debug{machines{n.runtime}},
		Metrics: n.metrics.Handler(), Sessions: streams,
		Diagnose: func(ctx context.Context) api.Diagnosis { return n.diagnose(ctx, settings.Config()) },
		Settings: func() api.Settings { return apiSettings(settings.Config()) },
	})

	var g run.Group
	end := make(chan struct{})
	g.Add(func() error {
		select {
		case <-ctx.Done():
		case <-end:
		}
		return nil
	}, func(error) { close(end) })
	// CRI ends first, so that no session is promised that cannot be had any more.
	add(ctx, &g, func(ctx context.Context) error { return server.Serve(ctx, f.cri) })
	add(ctx, &g, func(ctx context.Context) error { return httpd.Serve(ctx, f.api, local, n.log) })
	add(ctx, &g, func(ctx context.Context) error { return httpd.Serve(ctx, f.streams, streams, n.log) })
	if f.metrics != nil {
		add(ctx, &g, func(ctx context.Context) error {
			return httpd.Serve(ctx, f.metrics, api.MetricsOnly(n.metrics.Handler()), n.log)
		})
	}
	add(ctx, &g, n.lookAtQEMU)
	add(ctx, &g, settings.follow)
	add(ctx, &g, func(ctx context.Context) error {
		return watchdog.Run(ctx, watchdog.Socket(cfg.CRISocket, askForPods), n.log)
	})
	err := g.Run()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sessionsTimeout)
	defer cancel()
	return errors.Join(err, streams.Wait(ctx))
}

// askForPods goes through what all other calls go through, too. There is no such pod.
func askForPods(ctx context.Context, conn *grpc.ClientConn) error {
	_, err := runtimeapi.NewRuntimeServiceClient(conn).ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{Id: "watchdog"}})
	return err
}

// add makes an actor of a function that ends with its context. Actors end one
// after another in the order in which they were added.
func add(ctx context.Context, g *run.Group, serve func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	g.Add(func() error {
		defer close(done)
		return serve(ctx)
	}, func(error) {
		cancel()
		<-done
	})
}
