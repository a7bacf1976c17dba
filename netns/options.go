package netns

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"
)

// Prefix begins the name of every namespace that belongs to this package's users. [Manager.Stray] looks at no other.
const Prefix = "qemulet-"

// Defaults of [Options].
const (
	DefaultConfDir       = "/etc/cni/net.d"
	DefaultBinDir        = "/opt/cni/bin"
	DefaultCacheDir      = "/var/lib/cni"
	DefaultNetnsDir      = "/run/netns"
	DefaultSysDir        = "/sys"
	DefaultPluginTimeout = 90 * time.Second
)

// Options says where a Manager finds and keeps things. Empty fields take the defaults; all paths must be absolute.
type Options struct {
	// ConfDir is searched for network configurations (*.conf, *.conflist, *.json; the first usable in name order counts).
	ConfDir string
	// BinDirs are searched for plugins, in this order.
	BinDirs []string
	// CacheDir keeps libcni's cached results and the journal of attached pods. It must survive the daemon.
	CacheDir string
	// NetnsDir is where namespaces are pinned, one bind mount each. It is made, and made a shared mount, when needed.
	NetnsDir string
	// SysDir is where sysfs is mounted, by which VFs are found and change drivers. It has to be the mount of the node: the
	// links of the physical functions are seen there.
	SysDir string
	// PluginTimeout bounds one run of one plugin. A plugin that exceeds it is killed with all processes of its group.
	PluginTimeout time.Duration
	// Plumbing is how frames pass between the plugins' links and guests; empty means PlumbingAuto. A network that is there
	// already keeps its own.
	Plumbing Plumbing
}

// Manager attaches pods to the node's CNI network and detaches them. It is safe for concurrent use; calls for one pod
// wait for each other, calls for different pods do not.
type Manager struct {
	o     Options
	locks keyedMutex

	mu   sync.Mutex
	open map[string]*Network // by pod ID

	sys sysfs
	pfs physicalFunctions

	statusTimeout time.Duration       // bounds a plugin's answer to STATUS
	observe       func(time.Duration) // if set, is told how long each plugin ran
}

// defaultStatusTimeout is well below what kubelet waits for a runtime before it believes the whole of it to be down (30 s).
const defaultStatusTimeout = 10 * time.Second

// NewManager returns a Manager. It touches nothing on the machine; directories are made when they are first needed.
func NewManager(o Options) (*Manager, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	return &Manager{
		o: o, open: make(map[string]*Network), sys: sysfs{o.SysDir, writeSysfs}, pfs: hostPFs{}, statusTimeout: defaultStatusTimeout,
	}, nil
}

func (o Options) withDefaults() Options {
	if o.ConfDir == "" {
		o.ConfDir = DefaultConfDir
	}
	if len(o.BinDirs) == 0 {
		o.BinDirs = []string{DefaultBinDir}
	}
	if o.CacheDir == "" {
		o.CacheDir = DefaultCacheDir
	}
	if o.NetnsDir == "" {
		o.NetnsDir = DefaultNetnsDir
	}
	if o.SysDir == "" {
		o.SysDir = DefaultSysDir
	}
	if o.PluginTimeout == 0 {
		o.PluginTimeout = DefaultPluginTimeout
	}
	if o.Plumbing == "" {
		o.Plumbing = PlumbingAuto
	}
	return o
}

func (o Options) validate() error {
	errs := []error{o.Plumbing.validate()}
	absolute := func(field, value string) {
		if !filepath.IsAbs(value) {
			errs = append(errs, fmt.Errorf("netns: option %s is %q: an absolute path is required", field, value))
		}
	}
	absolute("ConfDir", o.ConfDir)
	absolute("CacheDir", o.CacheDir)
	absolute("NetnsDir", o.NetnsDir)
	absolute("SysDir", o.SysDir)
	for _, dir := range o.BinDirs {
		absolute("BinDirs", dir)
	}
	if o.PluginTimeout < 0 {
		errs = append(errs, fmt.Errorf("netns: option PluginTimeout is %s: a positive duration is required", o.PluginTimeout))
	}
	return errors.Join(errs...)
}
