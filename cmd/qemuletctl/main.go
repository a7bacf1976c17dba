// Command qemuletctl looks after VM pods: on a node through the daemon's socket,
// from afar through the API server.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	name := nameOf(os.Args[0])
	ctx, stop := untilSignal(context.Background())
	defer stop()
	err := newRootCommand(name).ExecuteContext(ctx)
	var code exitCode
	switch {
	case err == nil:
	case errors.As(err, &code):
		os.Exit(int(code))
	default:
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// exitCode ends the program with another program's exit code, which has said what
// there was to say.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// The names under which the program is called: its own, and as a plugin.
const (
	ownName    = "qemuletctl"
	pluginFile = "kubectl-virt"
	pluginName = "kubectl virt"
)

func nameOf(argv0 string) string {
	if filepath.Base(argv0) == pluginFile {
		return pluginName
	}
	return ownName
}
