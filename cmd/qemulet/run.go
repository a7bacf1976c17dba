package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/qemulet/qemulet/internal/config"
	"github.com/qemulet/qemulet/internal/podrun"
)

const runHelp = `Run the pod of a manifest on this machine, without a cluster.

The file holds one v1 Pod, or a Deployment, StatefulSet, DaemonSet, ReplicaSet
or Job whose first pod is run, and what the pod refers to: ConfigMaps, Secrets,
PersistentVolumeClaims and their PersistentVolumes (local or hostPath). It is run
as kubelet would run it: its volumes are made, the image is pulled, the VM
booted, its console shown. In the console every key goes to the guest; Ctrl-] leaves it,
Enter returns to it, Ctrl-C powers the guest off, and once more ends it by
force. SIGTERM and the end of the terminal power it off too. When the VM has
ended the pod is removed, and nothing is left behind but the image. The exit
code is the VM's: 0 when the guest has powered off.

restartPolicy counts when it is written in the manifest. Without one the VM is
not booted again when it ends. Fields that need a cluster (affinity,
nodeSelector, probes...) are accepted and named.

A daemon is started in this process unless one is running; with --detach it
stays in the background until its last pod is removed. If this command is
killed its VM runs on, and qemulet ps, attach, stop, rm find it. Without a CNI
configuration pods are connected to a bridge of their own, ` + podrun.DefaultBridge + `.`

const runExamples = `  # Boot it and look at its console:
  qemulet run pod.yaml

  # Leave it running:
  qemulet run --detach pod.yaml
  qemulet ps
  qemulet attach cirros-vm

  # From a generator; images from a directory of translations:
  cat pod.yaml configmap.yaml | qemulet run --image-translation-dir ./images -`

func newRunCommand() *cobra.Command {
	var detach bool
	cmd := &cobra.Command{
		Use:     "run [flags] MANIFEST",
		Short:   "Run a pod on this machine and show its console",
		Long:    runHelp,
		Example: runExamples,
		Args:    exactlyOne("the manifest's file, or - for standard input"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := config.Load(cmd.Flags(), os.Environ())
			if err != nil {
				return err
			}
			return runManifest(cmd, cfg, args[0], detach)
		},
	}
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "leave the pod running, and a daemon for it")
	config.AddFlags(cmd.Flags())
	return cmd
}

// exactlyOne is cobra.ExactArgs(1) in words.
func exactlyOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s takes one argument and got %d: %s; `%[1]s --help` has examples", cmd.CommandPath(), len(args), what)
		}
		return nil
	}
}

func runManifest(cmd *cobra.Command, cfg *config.Config, file string, detach bool) error {
	m, err := readManifest(cmd.InOrStdin(), file)
	if err != nil {
		return err
	}
	// The first interruption is a wish to end the pod in good order, so ctx
	// ends only with the second.
	ctx, wishes := hearWishes(cmd.Context())
	defer wishes.stop()
	silenceKlog() // a daemon in this process gives it its log
	d, err := ensureDaemon(ctx, cfg, detach, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	in, done := person(file)
	defer done()
	code, err := podrun.Run(ctx, d.client, m, podrun.Options{
		LogDir:      d.logDir(),
		In:          in,
		Out:         cmd.OutOrStdout(),
		Err:         cmd.ErrOrStderr(),
		Detach:      detach,
		Interrupted: wishes.end,
	})
	if err := errors.Join(err, d.leave(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	if code != 0 {
		return exitCode(code)
	}
	return nil
}

// person is where the person's keys come from: standard input, or, when that
// was the manifest, the terminal itself.
func person(manifest string) (in *os.File, done func()) {
	if manifest == "-" {
		if tty, err := os.Open("/dev/tty"); err == nil {
			return tty, func() { _ = tty.Close() }
		}
	}
	return os.Stdin, func() {}
}

func readManifest(stdin io.Reader, file string) (*podrun.Manifest, error) {
	if file == "-" {
		file = "standard input"
	} else {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		stdin = f
	}
	m, err := podrun.ReadManifest(stdin)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return m, nil
}
