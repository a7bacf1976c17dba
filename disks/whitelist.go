package disks

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Whitelist has the devices of the host that may be named in a manifest, each a
// shell pattern (filepath.Match) of a path below /dev: "loop*", "disk/by-id/*".
// A pattern's star does not match a slash. An empty list allows none.
type Whitelist []string

// ParseWhitelist reads a comma-separated list. Blanks around patterns and a
// leading /dev/ are taken off.
func ParseWhitelist(text string) (Whitelist, error) {
	var w Whitelist
	for item := range strings.SplitSeq(text, ",") {
		pattern := strings.TrimPrefix(strings.TrimSpace(item), devDir)
		if pattern == "" {
			continue
		}
		if _, err := filepath.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("raw device pattern %q: %w: accepted are shell patterns of paths below /dev, such as loop*", item, err)
		}
		w = append(w, pattern)
	}
	return w, nil
}

const devDir = "/dev/"

// Check tells whether a path is on the list. It looks at the path's text only:
// links below /dev are the node's own, and lead where it wants them to.
func (w Whitelist) Check(path string) error {
	if !strings.HasPrefix(path, devDir) || filepath.Clean(path) != path {
		return fmt.Errorf("raw device %q: accepted is a path below /dev, with no dots between its slashes", path)
	}
	for _, pattern := range w {
		if ok, err := filepath.Match(pattern, strings.TrimPrefix(path, devDir)); err == nil && ok {
			return nil
		}
	}
	return fmt.Errorf("raw device %q is not whitelisted on this node: %s", path, w.accepted())
}

func (w Whitelist) accepted() string {
	if len(w) == 0 {
		return "no device is"
	}
	return "accepted is " + devDir + strings.Join(w, ", "+devDir)
}
