// Command criproxy stands between kubelet and two CRI runtimes: ordinary pods
// go to the primary, VM pods to qemulet.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// usageCode is the exit code for a command line that makes no sense.
const usageCode = 2

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	var usage usageError
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(help)
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "criproxy: %v; see criproxy --help\n", err)
		os.Exit(usageCode)
	default:
		fmt.Fprintln(os.Stderr, "criproxy:", err)
		os.Exit(1)
	}
}

type usageError struct{ error }

func run(ctx context.Context, args []string, out, log io.Writer) error {
	if len(args) > 0 && args[0] == "doctor" {
		o, err := readOptions(args[1:])
		if err != nil {
			return err
		}
		return doctor(ctx, o, out)
	}
	if len(args) > 0 && args[0] == "version" {
		return printVersion(out)
	}
	if len(args) == 2 && args[0] == "man" {
		return page().Write(args[1])
	}
	o, err := readOptions(args)
	if err != nil {
		return err
	}
	return serve(ctx, o, log)
}

const help = `criproxy stands between kubelet and two CRI runtimes. Ordinary pods go to the
primary, pods with the annotation kubernetes.io/target-runtime or with a
RuntimeClass of qemulet's to qemulet. No id and no answer of the primary is
changed.

Usage:
  criproxy [flags]            serve
  criproxy doctor [flags]     tell whether kubelet really talks through the proxy
  criproxy version

Flags, with one dash or two:
  -connect PRIMARY,ID:SOCKET  the primary's socket; and qemulet's, after the value of
                              the annotation that means it
                              (/run/containerd/containerd.sock,virtlet.cloud:/run/qemulet/cri.sock)
  -listen SOCKET              where kubelet connects (/run/criproxy.sock)
  -handlers NAME[,NAME]       RuntimeClass handlers that mean qemulet (virtlet)
  -state-dir DIR              keeps what qemulet has, for a start while it is away;
                              "" keeps nothing (/var/lib/criproxy)
  -patience DURATION          how long lists wait for qemulet before what it answered
                              last stands in (10s)
  -log-level LEVEL            debug, info, warn or error (info)

Examples:
  criproxy
  criproxy -connect /run/crio/crio.sock,virtlet.cloud:/run/qemulet/cri.sock -listen /run/qemulet/run/crio/crio.sock
  criproxy doctor

kubelet is pointed at it by containerRuntimeEndpoint: unix:///run/criproxy.sock in its
configuration, or by --container-runtime-endpoint.
`
