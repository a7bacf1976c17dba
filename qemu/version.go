package qemu

import (
	"cmp"
	"fmt"
)

// Version is a QEMU release.
type Version struct {
	Major int `json:"major"`
	Minor int `json:"minor"`
	Micro int `json:"micro"`
}

// String is the usual dotted form.
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Micro) }

// Less orders releases.
func (v Version) Less(o Version) bool {
	return cmp.Or(cmp.Compare(v.Major, o.Major), cmp.Compare(v.Minor, o.Minor), cmp.Compare(v.Micro, o.Micro)) < 0
}

// MinVersion is the oldest QEMU that is known to take what Build writes: JSON
// for -device needs 6.2, memory-backend ids and -action are older, and nothing
// below 7.2 has been tried.
var MinVersion = Version{Major: 7, Minor: 2}

// Feature is something that came with a release and cannot be asked for by
// looking at a device's properties.
type Feature string

// The features that differ between the supported releases.
const (
	FeatureFileMigration    Feature = "migration to a file: URI"
	FeatureMappedRAM        Feature = "the mapped-ram migration capability"
	FeatureIOThreadMapping  Feature = "iothread-vq-mapping of virtio-blk"
	FeatureStrictDeviceAdd  Feature = "device_add that refuses wrongly typed values"
	FeatureReconnectMS      Feature = "reconnect-ms= in place of reconnect="
	FeatureRunWithUser      Feature = "-run-with user= in place of -runas"
	FeatureExitWithParent   Feature = "-run-with exit-with-parent="
	FeatureStrictSCSISerial Feature = "refusal of SCSI serials over 36 bytes"
)

// gates is the one place that knows which release brought what.
var gates = map[Feature]Version{
	FeatureFileMigration:    {Major: 8, Minor: 2},
	FeatureMappedRAM:        {Major: 9, Minor: 0},
	FeatureIOThreadMapping:  {Major: 9, Minor: 0},
	FeatureRunWithUser:      {Major: 9, Minor: 1},
	FeatureStrictSCSISerial: {Major: 9, Minor: 1},
	FeatureStrictDeviceAdd:  {Major: 9, Minor: 2},
	FeatureReconnectMS:      {Major: 9, Minor: 2},
	FeatureExitWithParent:   {Major: 10, Minor: 2},
}

// Has tells whether the release has a feature; of an unknown one it says no.
func (v Version) Has(f Feature) bool {
	since, ok := gates[f]
	return ok && !v.Less(since)
}
