package qmp

import (
	"strings"
	"time"
)

// Time that a command is given unless the caller's context ends earlier. These
// are far above what QEMU needs: a loaded host is slow, and giving up early gains
// nothing, since a command that was sent cannot be called back.
const (
	patienceQuery     = 30 * time.Second // what QEMU answers at once
	patienceHotplug   = 60 * time.Second // what opens, plugs or tears down something
	patienceBlockJob  = 10 * time.Minute // what may wait for all I/O of a disk
	patienceMigration = time.Hour        // what copies the guest's memory
)

// patience returns the default time limit of a command.
func patience(command string) time.Duration {
	switch command {
	case "quit", "system_reset", "human-monitor-command", "screendump", "query-qmp-schema",
		"device_add", "device_del", "netdev_add", "netdev_del", "object-add", "object-del",
		"chardev-add", "chardev-remove", "chardev-change", "blockdev-add", "blockdev-del":
		return patienceHotplug
	case "block_resize", "transaction", "eject", "stop":
		return patienceBlockJob // these drain a disk's I/O first
	case "dump-guest-memory", "snapshot-save", "snapshot-load", "snapshot-delete":
		return patienceMigration
	}
	switch {
	case strings.HasPrefix(command, "migrat"):
		return patienceMigration
	case strings.HasPrefix(command, "block"), strings.HasPrefix(command, "drive-"),
		strings.HasPrefix(command, "job-"), strings.HasPrefix(command, "nbd-"):
		return patienceBlockJob
	}
	return patienceQuery
}
