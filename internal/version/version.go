// Package version says which qemulet this is.
package version

import (
	"runtime/debug"
	"strings"
)

// number is the release that this source becomes.
const number = "0.1.0"

// Number is the version in the form of semver.org, which kubelet parses: the
// release, or "-dev" behind the next one and the commit it was built from.
func Number() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return number + "-dev"
	}
	return from(info)
}

func from(info *debug.BuildInfo) string {
	if v := strings.TrimPrefix(info.Main.Version, "v"); v == number {
		return v
	}
	var revision, dirty string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = ".dirty"
		}
	}
	if revision == "" {
		return number + "-dev"
	}
	return number + "-dev+" + revision[:min(12, len(revision))] + dirty
}
