package runtime

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/qemulet/qemulet/qmp"
)

// DebugCommands says which commands people may send to a VM's monitor.
type DebugCommands string

// What people may send. Some commands are refused also with DebugAll: see taken.
const (
	DebugRead DebugCommands = "read" // what only looks
	DebugAll  DebugCommands = "all"  // also what changes the VM
)

// rule is what a client's commands are held to.
func (d DebugCommands) rule() qmp.MuxRule {
	if d == DebugAll {
		return allowWrites
	}
	return allowReads
}

// looks are the commands that only look, beside those that begin with one of
// lookPrefixes. What reads the guest's memory, disks or screen, or writes files,
// is not among them.
var (
	looks = map[string]bool{
		"device-list-properties":    true,
		"qom-get":                   true,
		"qom-list":                  true,
		"qom-list-properties":       true,
		"qom-list-types":            true,
		"trace-event-get-state":     true,
		"x-debug-query-block-graph": true,
	}
	lookPrefixes = []string{"query-", "x-query-"}
	// humanLooks are the human monitor's. It takes a command by its whole name
	// only, and one command to a line.
	humanLooks = map[string]bool{"info": true, "help": true, "?": true}
)

// Why commands are never relayed.
const (
	takesMonitor = "it would take the VM from the daemon"
	takesFiles   = "descriptors cannot be passed through this socket, and those that QEMU has are the daemon's"
	takesMemory  = "VMs stay on their node, and a guest's memory in it"
	takesEnd     = "the daemon learns from it how the VM ended"
	takesDisplay = "it would open the display to the network; qemuletctl vnc POD shows it"
)

// taken are the commands that are never relayed. The human monitor's have the
// same names, but for those in humanTaken.
var (
	taken = map[string]string{
		"add-fd":                 takesFiles,
		"remove-fd":              takesFiles,
		"getfd":                  takesFiles,
		"closefd":                takesFiles,
		"add_client":             takesFiles,
		"chardev-change":         takesMonitor,
		"chardev-remove":         takesMonitor,
		"yank":                   takesMonitor,
		"migrate":                takesMemory,
		"migrate-incoming":       takesMemory,
		"migrate-recover":        takesMemory,
		"xen-save-devices-state": takesMemory,
		"xen-load-devices-state": takesMemory,
		"x-colo-lost-heartbeat":  takesMemory,
		"set-action":             takesEnd,
		"watchdog-set-action":    takesEnd,
		"display-update":         takesDisplay,
		"display-reload":         takesDisplay,
	}
	humanTaken = map[string]string{
		"migrate_incoming":      takesMemory,
		"migrate_recover":       takesMemory,
		"x_colo_lost_heartbeat": takesMemory,
		"watchdog_action":       takesEnd,
		"change":                takesDisplay,
	}
)

// allowReads relays what only looks.
func allowReads(command string, args json.RawMessage) error {
	shown := command
	if command == qmp.HumanMonitor {
		verb := qmp.HumanVerb(args)
		if humanLooks[verb] {
			return nil
		}
		shown += " " + verb
	} else if onlyLooks(command) {
		return nil
	}
	if err := allowWrites(command, args); err != nil {
		return err
	}
	return fmt.Errorf("%s is refused: it may do more than look. `qemuletctl qmp POD --allow-writes` allows it, "+
		"and for debug.sock the node's setting debug-commands: all", shortened(shown))
}

func onlyLooks(command string) bool {
	for _, prefix := range lookPrefixes {
		if strings.HasPrefix(command, prefix) {
			return true
		}
	}
	return looks[command]
}

// allowWrites relays all but what is taken.
func allowWrites(command string, args json.RawMessage) error {
	why, shown := taken[command], command
	if command == qmp.HumanMonitor {
		verb := qmp.HumanVerb(args)
		if why = humanTaken[verb]; why == "" {
			why = taken[verb]
		}
		shown += " " + verb
	}
	if why == "" {
		return nil
	}
	return fmt.Errorf("%s is never relayed: %s", shortened(shown), why)
}

// shortened keeps what a client made up from filling a log.
func shortened(text string) string {
	const most = 64
	if len(text) <= most {
		return text
	}
	return text[:most] + "..."
}
