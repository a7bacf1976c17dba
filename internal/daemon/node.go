package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/qemulet/qemulet/disks"
	"github.com/qemulet/qemulet/internal/changes"
	"github.com/qemulet/qemulet/internal/config"
	"github.com/qemulet/qemulet/internal/console"
	"github.com/qemulet/qemulet/internal/images"
	"github.com/qemulet/qemulet/internal/kube"
	"github.com/qemulet/qemulet/internal/metrics"
	"github.com/qemulet/qemulet/internal/runtime"
	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/internal/version"
	"github.com/qemulet/qemulet/netns"
	"github.com/qemulet/qemulet/qemu"
)

// node is what the daemon works with, opened in this order and closed in the
// reverse.
type node struct {
	log     *slog.Logger
	db      *store.DB
	metrics *metrics.Metrics
	traces  *traces // nil for none
	events  *kube.Events
	images  *images.Store
	watcher *console.Watcher
	changes *changes.Counter
	runtime *runtime.Runtime
}

func open(ctx context.Context, cfg *config.Config, log *slog.Logger) (_ *node, err error) {
	n := &node{log: log, metrics: metrics.New(version.Number())}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	if n.traces, err = openTraces(ctx, cfg, log); err != nil {
		return nil, err
	}
	// QEMU's own user must get through to what is handed to it by path.
	if err := os.MkdirAll(cfg.RunDir, 0o711); err != nil {
		return nil, fmt.Errorf("run-dir: %w", err)
	}
	if n.db, err = store.Open(filepath.Join(cfg.StateDir, "qemulet.db")); err != nil {
		return nil, err
	}
	cluster := &kube.API{Kubeconfig: cfg.Kubeconfig}
	n.events = cluster.Events(cfg.NodeName, log)
	if n.images, err = n.openImages(cfg, cluster); err != nil {
		return nil, err
	}
	n.metrics.Watch(n.images)
	if n.watcher, err = console.NewWatcher(); err != nil {
		return nil, err
	}
	if n.changes, err = changes.Open(changes.Beside(cfg.CRISocket)); err != nil {
		return nil, err
	}
	if n.runtime, err = n.newRuntime(cfg, cluster); err != nil {
		return nil, err
	}
	n.metrics.WatchVMs(n.runtime)
	return n, nil
}

func (n *node) openImages(cfg *config.Config, cluster *kube.API) (*images.Store, error) {
	o := imageOptions(cfg, cluster)
	o.Warn = func(err error) { n.log.Warn("image store", "error", err) }
	o.Progress, o.Ended = n.tellProgress, n.metrics.PullEnded
	return images.Open(o)
}

// ImageOptions are those of a daemon with these settings, for who wants to know
// without a daemon where images would come from.
func ImageOptions(cfg *config.Config) images.Options {
	return imageOptions(cfg, &kube.API{Kubeconfig: cfg.Kubeconfig})
}

func imageOptions(cfg *config.Config, cluster *kube.API) images.Options {
	return images.Options{
		Dir:            cfg.ImageDir,
		TranslationDir: cfg.ImageTranslationDir,
		Mappings:       mappings(cluster),
		NoRegexp:       !cfg.RegexpImageTranslation,
		Protocol:       cfg.DownloadProtocol,
		MaxParallel:    cfg.ParallelPulls,
		FileDir:        cfg.ImageFileDir,
		MaxSize:        disks.DefaultVirtualSize,
		IsDisk:         disks.IsBase,
		Check:          checkImage,
	}
}

// adjust has what begins from now on follow the settings that may change while the
// daemon runs.
func (n *node) adjust(cfg *config.Config) {
	rawDevices, err := disks.ParseWhitelist(cfg.RawDevices)
	if err == nil {
		err = n.images.SetRules(images.Rules{
			TranslationDir: cfg.ImageTranslationDir,
			NoRegexp:       !cfg.RegexpImageTranslation,
			Protocol:       cfg.DownloadProtocol,
			FileDir:        cfg.ImageFileDir,
		})
	}
	if err != nil {
		n.log.Error("changed settings have no effect", "error", err)
		return
	}
	n.runtime.Adjust(runtime.Adjustable{VhostNet: cfg.VhostNet, RawDevices: rawDevices, DefaultCPUModel: cfg.CPUModel})
}

// mappings lists the cluster's VirtletImageMappings for the image store.
func mappings(cluster *kube.API) func(context.Context) ([]images.Mapping, error) {
	return func(ctx context.Context) ([]images.Mapping, error) {
		found, err := cluster.ImageMappings(ctx)
		var all []images.Mapping
		for _, m := range found {
			all = append(all, images.Mapping{Name: "VirtletImageMapping " + kube.MappingNamespace + "/" + m.Name, Spec: m.Spec})
		}
		return all, err
	}
}

// tellProgress logs a download that takes its time. CRI's PullImage says nothing
// before its end, which is logged there.
func (n *node) tellProgress(d images.Download) {
	n.log.Info("pulling", "image", d.Ref, "url", d.URL, "bytes", d.Bytes, "total", d.Total, "bytesPerSecond", int64(d.Rate))
}

// checkImage refuses what cannot be the base of a root disk.
func checkImage(r io.ReaderAt, size int64) (format string, virtualSize int64, err error) {
	img, err := disks.CheckBase(r, size, disks.Limits{})
	return string(img.Format), img.VirtualSize, err
}

func (n *node) newRuntime(cfg *config.Config, cluster *kube.API) (*runtime.Runtime, error) {
	network, err := netns.NewManager(netns.Options{
		ConfDir:       cfg.CNIConfDir,
		BinDirs:       cfg.CNIBinDirs,
		CacheDir:      filepath.Join(cfg.StateDir, "cni"),
		NetnsDir:      cfg.NetnsDir,
		PluginTimeout: cfg.CNITimeout,
		Plumbing:      netns.Plumbing(cfg.NetworkPlumbing),
	})
	if err != nil {
		return nil, err
	}
	rawDevices, err := disks.ParseWhitelist(cfg.RawDevices)
	if err != nil {
		return nil, fmt.Errorf("raw-devices: %w", err)
	}
	credential, err := qemuCredential(cfg.QEMUUser, n.log)
	if err != nil {
		return nil, err
	}
	return runtime.New(runtime.Options{
		DB:      n.db,
		Images:  n.images,
		Network: network,
		Watcher: n.watcher,
		Hypervisor: &runtime.Hypervisor{
			Binary:     qemuBinary(cfg.QEMUBinary),
			CacheDir:   filepath.Join(cfg.StateDir, "cache"),
			Mode:       qemu.AccelMode(cfg.Accel),
			Credential: credential,
			Decided:    n.tellAccel,
		},
		Objects:         kube.Objects{Dir: kube.Dir(cfg.ObjectsDir), API: cluster},
		RunDir:          cfg.RunDir,
		StateDir:        cfg.StateDir,
		NetnsDir:        cfg.NetnsDir,
		VhostNet:        cfg.VhostNet,
		CNIGC:           cfg.CNIGC,
		KubeletPods:     filepath.Join(cfg.KubeletRootDir, "pods"),
		RawDevices:      rawDevices,
		Credential:      credential,
		DefaultCPUModel: cfg.CPUModel,
		DebugCommands:   runtime.DebugCommands(cfg.DebugCommands),
		Log:             n.log,
		Observer:        n.metrics,
		Tell:            n.tellOwner,
		Changed:         n.countChange,
	})
}

// countChange lets the proxy see that its lists are out of date.
func (n *node) countChange() {
	if err := n.changes.Count(); err != nil {
		n.log.Error("changes are not counted any more, the proxy asks for each list", "error", err)
	}
}

// lookAtQEMU asks at the start already what VMs can be run with, so that the
// log says at once what is missing and the first pod need not wait. It returns
// when ctx ends.
func (n *node) lookAtQEMU(ctx context.Context) error {
	if _, err := n.runtime.Hypervisor.Ready(ctx); err != nil && ctx.Err() == nil {
		n.log.Error("QEMU is not usable", "error", err)
	}
	<-ctx.Done()
	return nil
}

// tellAccel says loudly when VMs are emulated: it is the first thing to look
// at when they are slow.
func (n *node) tellAccel(caps qemu.Capabilities, accel qemu.AccelDecision) {
	level, message := slog.LevelInfo, "QEMU is usable"
	if accel.Fallback {
		level, message = slog.LevelWarn, "KVM is not usable: VMs are emulated and SLOW"
	}
	n.metrics.Hypervisor(string(accel.Accel), caps.Version.String(), accel.Fallback)
	n.log.Log(context.Background(), level, message, "binary", caps.Binary, "accel", accel.Accel, "reason", accel.Reason)
}

func (n *node) close() error {
	var errs []error
	if n.runtime != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		errs = append(errs, n.runtime.Close(ctx))
	}
	if n.changes != nil {
		errs = append(errs, n.changes.Close())
	}
	if n.watcher != nil {
		errs = append(errs, n.watcher.Close())
	}
	if n.images != nil {
		errs = append(errs, n.images.Close())
	}
	if n.db != nil {
		errs = append(errs, n.db.Close())
	}
	if n.events != nil {
		n.events.Close()
	}
	if n.traces != nil {
		n.traces.close()
	}
	return errors.Join(errs...)
}
