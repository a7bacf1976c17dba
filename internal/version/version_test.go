package version

import (
	"runtime/debug"
	"testing"
)

func TestFrom(t *testing.T) {
	setting := func(k, v string) debug.BuildSetting { return debug.BuildSetting{Key: k, Value: v} }
	for _, c := range []struct {
		name string
		info debug.BuildInfo
		want string
	}{
		{"release", debug.BuildInfo{Main: debug.Module{Version: "v" + number}}, number},
		{"no repository", debug.BuildInfo{}, number + "-dev"},
		{"commit", debug.BuildInfo{Settings: []debug.BuildSetting{setting("vcs.revision", "0123456789abcdef")}}, number + "-dev+0123456789ab"},
		{"changed", debug.BuildInfo{Settings: []debug.BuildSetting{setting("vcs.revision", "0123"), setting("vcs.modified", "true")}}, number + "-dev+0123.dirty"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := from(&c.info); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
