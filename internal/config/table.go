package config

import "time"

// setting is one row: its name, what it means to a person, and its value,
// which holds the default until it is set.
type setting struct {
	name  string
	usage string
	value value
	// local settings are a node's own: no object of the cluster may give them,
	// since they say how the cluster is reached, or what other programs of the
	// node count on.
	local bool
	// live settings change while the daemon runs, all others with its next start.
	live bool
}

// table is all settings. The values point into c and hold their defaults.
func table(c *Config) []setting {
	return []setting{
		{name: "run-dir", local: true, value: path(&c.RunDir, "/run/qemulet"),
			usage: "directory of sockets; a reboot may empty it"},
		{name: "state-dir", local: true, value: path(&c.StateDir, "/var/lib/qemulet"),
			usage: "directory of records, images and the disks of pods"},
		{name: "node-name", local: true, value: nodeName(&c.NodeName),
			usage: "name of the node in the cluster, by which VirtletConfigMappings find it (default: the host's name, as kubelet's)"},
		{name: "cri-socket", local: true, value: optionalPath(&c.CRISocket),
			usage: "socket on which CRI is served (default cri.sock in run-dir)"},
		{name: "api-socket", local: true, value: optionalPath(&c.APISocket),
			usage: "socket on which consoles, port-forward, details of images and metrics are served over HTTP (default api.sock in run-dir)"},
		{name: "stream-address", value: address(&c.StreamAddress, "127.0.0.1:0"),
			usage: "address and port to which kubelet connects attach, exec and port-forward; port 0 takes any free one; away from loopback only with a certificate"},
		{name: "stream-tls-cert-file", value: optionalPath(&c.StreamCertFile),
			usage: "certificate of stream-address, with those that lead to one that the node's system trusts: kubelet checks it; with it, streams are encrypted"},
		{name: "stream-tls-key-file", value: optionalPath(&c.StreamKeyFile),
			usage: "key of that certificate"},
		{name: "cni-conf-dir", value: path(&c.CNIConfDir, "/etc/cni/net.d"),
			usage: "directory of CNI network configurations; the first in the order of their names counts"},
		{name: "cni-bin-dir", value: paths(&c.CNIBinDirs, "/opt/cni/bin", "/usr/lib/cni"),
			usage: "directories of CNI plugins, searched in this order"},
		{name: "cni-timeout", value: duration(&c.CNITimeout, 90*time.Second, time.Second),
			usage: "how long one CNI plugin may run before it is killed"},
		{name: "cni-gc", value: boolean(&c.CNIGC, false),
			usage: "whether CNI plugins of version 1.1 are told at the start to release what belongs to no pod of ours; no other runtime may use the same CNI networks then"},
		{name: "netns-dir", value: path(&c.NetnsDir, "/run/netns"),
			usage: "directory in which network namespaces are pinned"},
		{name: "network-plumbing", value: choice(&c.NetworkPlumbing, "auto", "redirect", "bridge"),
			usage: "how packets pass between a pod's links and its guest: redirect hands them over by traffic control, bridge puts a bridge between; auto redirects where the kernel can"},
		{name: "vhost-net", live: true, value: boolean(&c.VhostNet, true),
			usage: "whether the kernel moves the packets of guests under KVM where it has /dev/vhost-net; it is faster, but lets guests speak to more of the kernel"},
		{name: "kubelet-root-dir", value: path(&c.KubeletRootDir, "/var/lib/kubelet"),
			usage: "kubelet's --root-dir: the FlexVolumes of pods are found below it"},
		{name: "raw-devices", live: true, value: patterns(&c.RawDevices, "loop*"),
			usage: "devices that FlexVolumes of the type raw may name: shell patterns of paths below /dev, with commas between them"},
		{name: "qemu-binary", value: text(&c.QEMUBinary, ""),
			usage: "QEMU, by path or by name; empty takes qemu-system-x86_64 from PATH, or else /usr/libexec/qemu-kvm"},
		{name: "qemu-user", value: text(&c.QEMUUser, "qemulet"),
			usage: "user that QEMU runs as; nobody is taken when it does not exist"},
		{name: "accel", value: choice(&c.Accel, "auto", "kvm", "tcg"),
			usage: "auto uses KVM where it works and emulates elsewhere, kvm demands it, tcg always emulates"},
		{name: "cpu-model", live: true, value: text(&c.CPUModel, ""),
			usage: "CPU of VMs that name none: a model of QEMU's, or host-model"},
		{name: "cgroup-driver", value: choice(&c.CgroupDriver, "auto", "systemd", "cgroupfs"),
			usage: "who manages cgroups, as kubelet is told; auto says systemd where that is the init process"},
		{name: "kubeconfig", local: true, value: optionalPath(&c.Kubeconfig),
			usage: "file that says where the API server is and who asks it for ConfigMaps, Secrets and image mappings (default: the service account, when the daemon runs in a pod)"},
		{name: "objects-dir", local: true, value: optionalPath(&c.ObjectsDir),
			usage: "directory of the ConfigMaps and Secrets that pods of the one-machine mode bring along (default objects in run-dir)"},
		{name: "image-dir", value: optionalPath(&c.ImageDir),
			usage: "directory of the image store (default images in state-dir)"},
		{name: "image-translation-dir", live: true, value: path(&c.ImageTranslationDir, "/etc/qemulet/images"),
			usage: "directory of YAML files that say from where which image comes"},
		{name: "image-file-dir", live: true, value: optionalPath(&c.ImageFileDir),
			usage: "directory of the node whose files image URLs of the form file:///path may name; empty allows none"},
		{name: "regexp-image-translation", live: true, value: boolean(&c.RegexpImageTranslation, true),
			usage: "whether regular expressions in these files count"},
		{name: "download-protocol", live: true, value: choice(&c.DownloadProtocol, "https", "http", "oci", "none"),
			usage: "protocol of image names that no rule translates; oci takes them for names in a registry, none refuses them"},
		{name: "parallel-pulls", value: number(&c.ParallelPulls, 3, 1, 64),
			usage: "how many images are fetched at the same time"},
		{name: "debug-commands", value: choice(&c.DebugCommands, "read", "all"),
			usage: "commands that a VM's debug.sock relays to QEMU's monitor: read those that only look, all also those that change the VM"},
		{name: "metrics-address", value: listenAddress(&c.MetricsAddress),
			usage: "address and port on which metrics are served to Prometheus over HTTP, without encryption and to all who ask; empty serves them on api-socket only"},
		{name: "tracing-endpoint", value: endpoint(&c.TracingEndpoint),
			usage: "collector of OpenTelemetry (OTLP over gRPC, without encryption) that traces are sent to, as host:port; empty makes none"},
		{name: "tracing-sampling-rate", value: number(&c.TracingSamplingRate, 0, 0, 1_000_000),
			usage: "how many of a million calls are traced that belong to no trace of kubelet's; those that do are traced as kubelet decided"},
		{name: "log-level", live: true, value: choice(&c.LogLevel, "info", "debug", "warn", "error"),
			usage: "least important messages that are logged"},
		{name: "log-format", value: choice(&c.LogFormat, "text", "json"),
			usage: "form of the log, on stderr"},
	}
}
