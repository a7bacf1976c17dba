package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/qemulet/qemulet/internal/config"
	"github.com/qemulet/qemulet/internal/podrun"
)

const runHelp = `Run the pod of a manifest on this machine, without a cluster.

The file holds one v1 Pod, and the ConfigMaps and Secrets that it refers to.
It is run as kubelet would run it: the image is pulled, the VM booted, its
console shown. In the console every key goes to the guest; Ctrl-] leaves it.
Ctrl-C then powers the guest off; so does the end of this command in any other
way. When the VM has ended the pod is removed, and nothing is left behind but
the image.

restartPolicy counts when it is written in the manifest. Without one the VM is
not booted again when it ends. Fields that need a cluster (affinity,
nodeSelector, probes...) are accepted and named.

A daemon is started in this process unless one is running. Without a CNI
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
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("got %d arguments, want one: %s", len(args), what)
		}
		return nil
	}
}

func runManifest(cmd *cobra.Command, cfg *config.Config, file string, detach bool) error {
	m, err := readManifest(cmd.InOrStdin(), file)
	if err != nil {
		return err
	}
	// An interruption is a wish to end the pod in good order, so the command's
	// own context must not end with it.
	interrupted := make(chan os.Signal, 2)
	signal.Notify(interrupted, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(interrupted)
	ctx := context.WithoutCancel(cmd.Context())

	d, err := ensureDaemon(ctx, cmd, cfg, detach)
	if err != nil {
		return err
	}
	code, err := podrun.Run(ctx, d.client, m, podrun.Options{
		LogDir:      filepath.Join(cfg.StateDir, "logs"),
		In:          os.Stdin,
		Out:         cmd.OutOrStdout(),
		Err:         cmd.ErrOrStderr(),
		Detach:      detach,
		Interrupted: interrupted,
	})
	if err := errors.Join(err, d.close()); err != nil {
		return err
	}
	if code != 0 {
		return exitCode(code)
	}
	return nil
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

// exitCode ends the program with the VM's exit code; what happened has been
// said already.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("the VM's exit code was %d", int(c)) }
