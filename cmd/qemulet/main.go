// Command qemulet runs virtual machines as Kubernetes pods.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/qemulet/qemulet/disks/injector"
	"github.com/qemulet/qemulet/internal/podrun"
)

// interruptedCode is what a shell reports of a program that Ctrl-C ended.
const interruptedCode = 130

func main() {
	injector.Main() // returns, except in the machine that writes into disks
	err := newRootCommand().ExecuteContext(context.Background())
	var code exitCode
	switch {
	case err == nil:
	case errors.As(err, &code):
		os.Exit(int(code))
	case errors.Is(err, podrun.ErrInterrupted):
		fmt.Fprintln(os.Stderr, "qemulet:", err)
		os.Exit(interruptedCode)
	default:
		fmt.Fprintln(os.Stderr, "qemulet:", err)
		os.Exit(1)
	}
}

// exitCode ends the program with the VM's exit code; what happened has been
// said already.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("the VM's exit code was %d", int(c)) }
