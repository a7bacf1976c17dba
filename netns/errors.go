package netns

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrGone: the pod's namespace does not exist any more, after a reboot for example. The pod needs Teardown and a new
	// Setup.
	ErrGone = errors.New("network namespace is gone")
	// ErrNoConfig: the configuration directory holds no usable CNI configuration.
	ErrNoConfig = errors.New("no usable CNI configuration")
	// ErrPluginMissing: a plugin that the configuration names is in none of the plugin directories.
	ErrPluginMissing = errors.New("CNI plugin not found")
	// ErrBadResult: the plugins reported success, but what they report is no result, or it and what is in the namespace do not fit.
	ErrBadResult = errors.New("unusable CNI result")
	// ErrUnsupportedLink: the plugins made a link of a kind that cannot carry a guest.
	ErrUnsupportedLink = errors.New("unsupported kind of link")
	// ErrNotGranted: the plugins cannot give, or have not given, an address that the pod must have.
	ErrNotGranted = errors.New("not granted by the CNI plugins")
	// ErrUndo: a failed Setup could not be undone completely. Teardown finishes the work.
	ErrUndo = errors.New("not everything could be undone")
)

// PluginError is a plugin's failure, with its own words.
type PluginError struct {
	Network string // name in the CNI configuration
	Plugin  string // type in the CNI configuration
	Command string // ADD, DEL, CHECK, STATUS or VERSION
	Code    uint   // the plugin's error code (CNI specification, section 5), 0 when it gave none
	Message string // what the plugin said on standard output, or what is wrong with what it said
	Details string // the plugin's details, if any
	Stderr  string // the end of what it wrote to standard error
	Err     error  // how the process ended, or ErrBadResult
}

// Error names network, plugin and command, and quotes the plugin.
func (e *PluginError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "network %q: CNI plugin %q failed on %s: %s", e.Network, e.Plugin, e.Command, e.Message)
	if e.Details != "" {
		fmt.Fprintf(&b, "; %s", e.Details)
	}
	if e.Stderr != "" && e.Stderr != e.Message {
		fmt.Fprintf(&b, "; it wrote %q", e.Stderr)
	}
	return b.String()
}

// Unwrap returns how the process ended: context.DeadlineExceeded for a plugin that was killed at its timeout, ErrBadResult for
// one that succeeded without a result.
func (e *PluginError) Unwrap() error { return e.Err }
