package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// virtletName is one setting of Virtlet's under the names that its users know,
// and what becomes of it here.
type virtletName struct {
	// env is its environment variable, key its key in the ConfigMap
	// virtlet-config, and field that of a VirtletConfigMapping's config. What is
	// empty it did not have.
	env, key, field string
	// flag was Virtlet's; it is not understood, only documented.
	flag string
	// form is what a field may hold.
	form Schema
	// setting is ours. translate makes its value of Virtlet's, nil takes that as it
	// is; differs says in words what it does.
	setting   string
	translate func(string) (string, error)
	differs   string
	// gone says, of a setting that has no counterpart, why, and what to do.
	gone string
}

// Forms of fields.
var (
	aText    = Schema{Type: "string"}
	aPath    = Schema{Type: "string", Pattern: "^(/.*)?$"}
	aTruth   = Schema{Type: "boolean"}
	aNumber  = Schema{Type: "integer", Minimum: new(0)}
	aPort    = Schema{Type: "integer", Minimum: new(1), Maximum: new(65535)}
	aNetmask = Schema{Type: "integer", Minimum: new(0), Maximum: new(32)}
)

// virtletNames are all of Virtlet's settings.
var virtletNames = []virtletName{
	{env: "KUBE_NODE_NAME", setting: "node-name"},
	{env: "KUBERNETES_CLUSTER_URL", gone: "name the API server in a file and that in the setting kubeconfig"},
	{env: "VIRTLET_FD_SERVER_SOCKET_PATH", field: "fdServerSocketPath", flag: "fd-server-socket-path", form: aText,
		gone: "QEMU inherits its network devices from the daemon, there is no server for them; leave it out"},
	{env: "VIRTLET_DATABASE_PATH", field: "databasePath", flag: "database-path", form: aText,
		gone: "records are in qemulet.db in the directory of the setting state-dir"},
	{env: "VIRTLET_DOWNLOAD_PROTOCOL", key: "download_protocol", field: "downloadProtocol", flag: "image-download-protocol",
		form: Schema{Type: "string", Pattern: "^https?$"}, setting: "download-protocol"},
	{env: "VIRTLET_IMAGE_DIR", field: "imageDir", flag: "image-dir", form: aPath, setting: "image-dir"},
	{env: "VIRTLET_IMAGE_TRANSLATIONS_DIR", field: "imageTranslationConfigsDir", flag: "image-translation-configs-dir", form: aPath, setting: "image-translation-dir"},
	{field: "skipImageTranslation", form: aTruth,
		gone: "names that no rule is for are taken for URLs anyway; leave it out"},
	{env: "VIRTLET_LIBVIRT_URI", field: "libvirtURI", flag: "libvirt-uri", form: aText,
		gone: "there is no libvirt; leave it out"},
	{env: "VIRTLET_RAW_DEVICES", key: "raw_devices", field: "rawDevices", flag: "raw-devices", form: aText, setting: "raw-devices"},
	{env: "VIRTLET_CRI_SOCKET_PATH", field: "criSocketPath", flag: "listen", form: aPath, setting: "cri-socket"},
	{env: "VIRTLET_DISABLE_LOGGING", key: "disable_logging", field: "disableLogging", flag: "disable-logging", form: aTruth,
		gone: "consoles are always logged; kubelet bounds the logs by its containerLogMaxSize"},
	{env: "VIRTLET_DISABLE_KVM", key: "disable_kvm", field: "disableKVM", flag: "disable-kvm", form: aTruth,
		setting: "accel", translate: accelOf, differs: "true is tcg and false is auto"},
	{env: "VIRTLET_SRIOV_SUPPORT", key: "sriov_support", field: "enableSriov", flag: "enable-sriov", form: aTruth,
		gone: "VFs of SR-IOV cards are always passed through; leave it out"},
	{env: "VIRTLET_CNI_PLUGIN_DIR", field: "cniPluginDir", flag: "cni-bin-dir", form: aPath, setting: "cni-bin-dir"},
	{env: "VIRTLET_CNI_CONFIG_DIR", field: "cniConfigDir", flag: "cni-conf-dir", form: aPath, setting: "cni-conf-dir"},
	{env: "VIRTLET_CALICO_SUBNET", key: "calico-subnet", field: "calicoSubnetSize", flag: "calico-subnet-size", form: aNetmask,
		gone: "guests reach a gateway outside of their subnet by a route of its own; leave it out"},
	{env: "IMAGE_REGEXP_TRANSLATION", key: "image_regexp_translation", field: "enableRegexpImageTranslation", flag: "enable-regexp-image-translation",
		form: aTruth, setting: "regexp-image-translation"},
	{env: "VIRTLET_CPU_MODEL", key: "cpu-model", field: "cpuModel", flag: "cpu-model", form: aText, setting: "cpu-model"},
	{env: "VIRTLET_STREAM_PORT", field: "streamPort", flag: "stream-port", form: aPort,
		setting: "stream-address", translate: streamAddressOf, differs: "with 127.0.0.1 before the port"},
	{env: "KUBELET_ROOT_DIR", key: "kubelet_root_dir", field: "kubeletRootDir", flag: "kubelet-root-dir", form: aPath,
		setting: "kubelet-root-dir", translate: kubeletRootOf, differs: "but the directory of pods in it"},
	{env: "VIRTLET_LOGLEVEL", key: "loglevel", field: "logLevel", flag: "v", form: aNumber,
		setting: "log-level", translate: logLevelOf, differs: "0 to 2 are info, from 3 on it is debug"},
}

// truth reads a boolean as Virtlet did: whatever is not empty is true. The
// warning is for what was hardly meant so.
func truth(text string) (value, warning string) {
	if text == "" {
		return "false", ""
	}
	if slices.Contains([]string{"false", "0", "no", "off", "n"}, strings.ToLower(text)) {
		warning = fmt.Sprintf("%q is true, as it was for Virtlet: only an empty text is false", text)
	}
	return "true", warning
}

func accelOf(disableKVM string) (string, error) {
	if disableKVM == "true" {
		return "tcg", nil
	}
	return "auto", nil
}

func streamAddressOf(port string) (string, error) {
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "", fmt.Errorf("a port from 1 to 65535 is accepted")
	}
	return "127.0.0.1:" + port, nil
}

func kubeletRootOf(pods string) (string, error) {
	pods = filepath.Clean(pods)
	if !filepath.IsAbs(pods) || filepath.Base(pods) != "pods" {
		return "", fmt.Errorf("the directory of pods is accepted, such as /var/lib/kubelet/pods; for kubelet's --root-dir itself use kubelet-root-dir")
	}
	return filepath.Dir(pods), nil
}

func logLevelOf(verbosity string) (string, error) {
	switch n, err := strconv.Atoi(verbosity); {
	case err != nil || n < 0:
		return "", fmt.Errorf("a number from 0 on is accepted")
	case n < 3:
		return "info", nil
	}
	return "debug", nil
}

// value is ours for Virtlet's text, where that of a boolean is true or false.
func (v virtletName) value(text string) (string, error) {
	if v.translate == nil {
		return text, nil
	}
	return v.translate(text)
}

// VirtletEnv is the variable in which Virtlet had a setting, if it had the same
// values, and else "".
func VirtletEnv(setting string) string {
	v, ok := findVirtlet(func(v virtletName) bool { return v.setting == setting && v.env != "" })
	if !ok || v.translate != nil || v.form.Type == "boolean" {
		return ""
	}
	return v.env
}
