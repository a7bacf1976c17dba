package vmpod

import "slices"

// annotation is one that Virtlet's users write: its name, what it takes, and
// how it changes the settings. Settings are changed only by good values.
type annotation struct {
	name string
	// accepted is what the value has to be, in words.
	accepted string
	// secret values are never shown in an error.
	secret bool
	// set takes the value over. Its error is the reason for refusing it.
	set func(s *Settings, value string) error
}

// annotations are all that are known, in the order of Virtlet's evaluation.
func annotations() []annotation {
	return []annotation{
		{name: "VirtletLibvirtCPUSetting", set: notYet},
		{name: "VirtletCPUModel", accepted: `"host-model", or empty for the node's default`, set: setCPUModel},
		{name: "VirtletCloudInitUserDataOverwrite", set: ignore}, // decides over a source only
		{name: "VirtletCloudInitUserDataSource", set: notYetUnlessEmpty},
		{name: "VirtletSSHKeySource", set: notYet},
		{name: "VirtletFilesFromDataSource", set: notYet},
		{name: "VirtletVCPUCount", accepted: "a whole number up to 255", set: setVCPUCount},
		{name: "VirtletCloudInitMetaData", accepted: "a mapping in YAML or JSON", secret: true, set: setMetaData},
		{name: "VirtletCloudInitUserData", accepted: "a mapping in YAML or JSON", secret: true, set: setUserData},
		{name: "VirtletCloudInitUserDataScript", secret: true, set: setUserDataScript},
		{name: "VirtletCloudInitUserDataSourceKey", set: notYet},
		{name: "VirtletCloudInitUserDataSourceEncoding", set: ignore}, // looked at with a source key only
		{name: "VirtletSSHKeys", secret: true, set: setSSHKeys},
		{name: "VirtletCloudInitImageType", accepted: "nocloud or configdrive, in any case", set: setImageType},
		{name: "VirtletDiskDriver", accepted: "scsi or virtio", set: setDiskDriver},
		{name: "VirtletRootVolumeSize", accepted: "a whole number of bytes as a Kubernetes quantity, such as 4Gi or 1500M, up to 2Pi", set: setRootVolumeSize},
		{name: "VirtletChown9pfsMounts", set: notYetIfTrue},
		{name: "VirtletSystemUUID", accepted: "a UUID of version 1 to 5, such as 53008994-44c0-4017-ad44-9c49758083da", set: setSystemUUID},
		{name: "VirtletForceDHCPNetworkConfig", set: setForceDHCP},
	}
}

func known(name string) bool {
	return slices.ContainsFunc(annotations(), func(a annotation) bool { return a.name == name })
}

func defaultSettings() Settings {
	return Settings{
		VCPUs:      1,
		DiskDriver: DiskSCSI,
		CloudInit:  CloudInit{ImageType: NoCloud},
	}
}

// parse reads what is there. Annotations that are not there change nothing;
// most that are there and empty do.
func (s *Settings) parse(values map[string]string, bad *problems) {
	for _, a := range annotations() {
		value, there := values[a.name]
		if !there {
			continue
		}
		if err := a.set(s, value); err != nil {
			bad.annotation(a, value, err)
		}
	}
}

func (p *problems) annotation(a annotation, value string, err error) {
	if a.secret {
		value = ""
	}
	p.add(a.name, value, err.Error(), a.accepted)
	(*p)[len(*p)-1].Annotation = true
}
