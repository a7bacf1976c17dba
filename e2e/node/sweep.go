package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// dirPrefix begins the folders of all nodes.
const dirPrefix = "/tmp/qe2e-"

// claim writes down which process a node's folder belongs to.
func claim(dir string) error {
	return os.WriteFile(filepath.Join(dir, "owner"), []byte(fmt.Sprintf("%d %s", os.Getpid(), startTime(os.Getpid()))), 0o644)
}

// sweep removes nodes whose test process was killed before it could do so itself.
func sweep(tb testing.TB) {
	owners, _ := filepath.Glob(dirPrefix + "*/owner")
	for _, file := range owners {
		data, _ := os.ReadFile(file)
		var pid int
		var start string
		if _, err := fmt.Sscan(string(data), &pid, &start); err != nil || startTime(pid) == start {
			continue
		}
		dir := filepath.Dir(file)
		tb.Logf("removing %s, left behind by process %d", dir, pid)
		n := &Node{Dir: dir, ns: namespace{"qe2e-" + strings.TrimPrefix(dir, dirPrefix)}}
		n.remove(discard{tb})
	}
}

// discard is a TB that has not failed: the remains of another test are no concern of this one.
type discard struct{ testing.TB }

func (discard) Failed() bool { return false }

// startTime returns the start time of a process in clock ticks after boot, "" if there is none. A pid alone may have
// been given to another process since.
func startTime(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The name, in parentheses, may hold blanks.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	return fields[19]
}
