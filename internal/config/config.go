package config

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// DefaultFile is read when no file is named, if it exists.
const DefaultFile = "/etc/qemulet/config.yaml"

// Config is the settings in force. The comments of the table say what they
// mean.
type Config struct {
	RunDir, StateDir string

	CRISocket, APISocket string

	// NodeName is the node's in the cluster.
	NodeName string

	CNIConfDir string
	CNIBinDirs []string
	CNITimeout time.Duration
	NetnsDir   string
	// NetworkPlumbing is one of netns.Plumbing's values.
	NetworkPlumbing string
	VhostNet        bool
	CNIGC           bool
	// KubeletRootDir has the pods' volumes, RawDevices is a disks.Whitelist.
	KubeletRootDir, RawDevices string
	QEMUBinary                 string
	QEMUUser                   string
	Accel                      string
	CPUModel                   string
	CgroupDriver               string
	StreamAddress              string
	// StreamCertFile and StreamKeyFile are both set or neither; beside an
	// address that is not loopback's they are set.
	StreamCertFile, StreamKeyFile string

	Kubeconfig string
	ObjectsDir string

	ImageDir               string
	ImageTranslationDir    string
	ImageFileDir           string
	RegexpImageTranslation bool
	DownloadProtocol       string
	ParallelPulls          int

	// DebugCommands is one of runtime.DebugCommands' values.
	DebugCommands string

	// MetricsAddress and TracingEndpoint are empty for none. TracingSamplingRate
	// counts in millionths.
	MetricsAddress, TracingEndpoint string
	TracingSamplingRate             int

	LogLevel, LogFormat string

	// Warnings are about what was given and has no effect, or perhaps not the
	// one that was meant; a sentence each.
	Warnings []string

	settings []setting // whose values point to the fields above
	origins  map[string]Origin
	pending  []Value
}

// Origin says where a value comes from, in words: "default", "the file
// /etc/qemulet/config.yaml", "the environment (QEMULET_RUN_DIR)", "the flag
// --run-dir".
type Origin string

const originDefault Origin = "default"

// Value is one setting as it is in force.
type Value struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Origin Origin `json:"origin"`
}

// Values lists all settings in the order of the table.
func (c *Config) Values() []Value {
	var all []Value
	for _, s := range c.settings {
		all = append(all, Value{Name: s.name, Value: s.value.String(), Origin: c.origins[s.name]})
	}
	return all
}

// Level is the log level; everything from it on is logged.
func (c *Config) Level() slog.Level {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel)) // the table accepts no other
	return level
}

// derive fills in what follows from other settings.
func (c *Config) derive() {
	if c.CRISocket == "" {
		c.CRISocket = filepath.Join(c.RunDir, "cri.sock")
	}
	if c.APISocket == "" {
		c.APISocket = filepath.Join(c.RunDir, "api.sock")
	}
	if c.ImageDir == "" {
		c.ImageDir = filepath.Join(c.StateDir, "images")
	}
	if c.NodeName == "" {
		c.NodeName = hostName()
	}
	if c.ObjectsDir == "" {
		c.ObjectsDir = filepath.Join(c.RunDir, "objects")
	}
}

// hostName is how kubelet calls the node unless it is told otherwise.
func hostName() string {
	name, _ := os.Hostname() // what it cannot say, nobody is called
	return strings.ToLower(name)
}

// agree finds settings of which each is fine, but not with the others.
func (c *Config) agree() error {
	if (c.StreamCertFile == "") != (c.StreamKeyFile == "") {
		return fmt.Errorf("stream-tls-cert-file is %q and stream-tls-key-file is %q: accepted are both or neither", c.StreamCertFile, c.StreamKeyFile)
	}
	if host, _, _ := net.SplitHostPort(c.StreamAddress); c.StreamCertFile == "" && !net.ParseIP(host).IsLoopback() {
		return fmt.Errorf("stream-address is %q, which others can reach, and who connects has the consoles of VMs: "+
			"accepted is loopback, or set stream-tls-cert-file and stream-tls-key-file too", c.StreamAddress)
	}
	return nil
}

// IsDefault tells whether nobody has set the setting of this name.
func (c *Config) IsDefault(name string) bool { return c.origins[name] == originDefault }

// Names lists all settings in the order of the table.
func Names() []string {
	var names []string
	for _, s := range table(&Config{}) {
		names = append(names, s.name)
	}
	return names
}
