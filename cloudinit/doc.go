// Package cloudinit makes the seed from which cloud-init configures a guest at
// its first boot: meta-data, user-data and network configuration, as a NoCloud
// or ConfigDrive disk (cloud-init's pages "NoCloud" and "Config drive").
//
// A Seed renders to a few Files, WriteISO packs them. Both are pure: the same
// seed gives the same bytes.
package cloudinit
