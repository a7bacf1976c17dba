package qmp

import (
	"encoding/json"
	"strings"
)

// HumanMonitor is the command that carries a line for the human monitor.
const HumanMonitor = "human-monitor-command"

// HumanVerb is the command in the line in the arguments of [HumanMonitor], as QEMU
// cuts it out: without white space before it, up to white space or the slash of a
// format. "" if there is none, which QEMU refuses itself.
func HumanVerb(args json.RawMessage) string {
	var members map[string]json.RawMessage
	var line string
	if json.Unmarshal(args, &members) != nil || json.Unmarshal(members["command-line"], &line) != nil {
		return ""
	}
	const space = " \t\r\n\v\f"
	line = strings.TrimLeft(line, space)
	if end := strings.IndexAny(line, space+"/"); end >= 0 {
		line = line[:end]
	}
	return line
}
