package runtime

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/qemulet/qemulet/qmp"
)

func human(line string) json.RawMessage {
	raw, _ := json.Marshal(map[string]string{"command-line": line})
	return raw
}

func TestDebugRules(t *testing.T) {
	const looks, writes, never = "", "--allow-writes", "never"
	for _, test := range []struct {
		command string
		args    json.RawMessage
		want    string
	}{
		{"query-status", nil, looks},
		{"query-qmp-schema", nil, looks},
		{"x-query-roms", nil, looks},
		{"qom-get", nil, looks},
		{"device-list-properties", nil, looks},
		{"nonesuch", nil, writes},
		{"Query-status", nil, writes},
		{"stop", nil, writes},
		{"quit", nil, writes},
		{"qom-set", nil, writes},
		{"screendump", nil, writes},
		{"dump-guest-memory", nil, writes},
		{"pmemsave", nil, writes},
		{"ringbuf-read", nil, writes},
		{"device_add", nil, writes},
		{"migrate", nil, never},
		{"getfd", nil, never},
		{"remove-fd", nil, never},
		{"chardev-change", nil, never},
		{"yank", nil, never},
		{"set-action", nil, never},
		{"display-update", nil, never},
		{qmp.HumanMonitor, human("info registers"), looks},
		{qmp.HumanMonitor, human("  info\tversion"), looks},
		{qmp.HumanMonitor, human(" info version"), looks},
		{qmp.HumanMonitor, human("help"), looks},
		{qmp.HumanMonitor, human("infos"), writes},
		{qmp.HumanMonitor, human("i /w 0x60"), writes}, // reads an I/O port, which has effects
		{qmp.HumanMonitor, human("x/8x 0"), writes},    // guest memory
		{qmp.HumanMonitor, human("quit"), writes},
		{qmp.HumanMonitor, human("\tmigrate exec:cat"), never},
		{qmp.HumanMonitor, human("migrate\texec:cat"), never},
		{qmp.HumanMonitor, human("change/x vnc 0.0.0.0:1"), never},
		{qmp.HumanMonitor, human("change vnc 0.0.0.0:1"), never},
		{qmp.HumanMonitor, human("closefd x"), never},
		{qmp.HumanMonitor, human(""), writes},
		{qmp.HumanMonitor, nil, writes},
		{qmp.HumanMonitor, json.RawMessage(`{"command-line":7}`), writes},
		{qmp.HumanMonitor, json.RawMessage(`{"command-line":"quit","COMMAND-LINE":"info version"}`), writes},
	} {
		err := DebugRead.rule()(test.command, test.args)
		if (err == nil) != (test.want == looks) || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %s with read: %v, want %q", test.command, test.args, err, test.want)
		}
		if err != nil && !strings.Contains(err.Error(), test.command) {
			t.Errorf("%s is not named: %v", test.command, err)
		}
		err = DebugAll.rule()(test.command, test.args)
		if (err == nil) != (test.want != never) {
			t.Errorf("%s %s with all: %v", test.command, test.args, err)
		}
	}
}

// What a client makes up does not fill the log.
func TestDebugRefusalIsShort(t *testing.T) {
	if err := allowReads(strings.Repeat("x", 1<<20), nil); len(err.Error()) > 400 {
		t.Errorf("%d bytes", len(err.Error()))
	}
}
