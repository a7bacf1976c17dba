package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/qemulet/qemulet/internal/config"
	node "github.com/qemulet/qemulet/internal/daemon"
	"github.com/qemulet/qemulet/internal/podrun"
)

const validateHelp = `Show what qemulet would make of a manifest, and all that is wrong with it.

It prints the machine with its disks, directories and cloud-init documents, what
has no effect, and QEMU's command line. Values of Secrets are not shown. Nothing is
started, made or fetched, and no daemon, no cluster and no privileges are needed.
What is on another machine, such as the device of a volume, is not missed.

The file is one for qemulet run: see its help. The exit code is 1 when something is
wrong. The settings count that a daemon would have: which QEMU, which accelerator.`

const validateExamples = `  qemulet validate pod.yaml
  cat pod.yaml configmap.yaml | qemulet validate -

  # For another machine: one without KVM.
  qemulet validate --accel=tcg pod.yaml

  # For programs:
  qemulet validate -o json pod.yaml | jq -r '.args[]'
  qemulet validate -o json pod.yaml | jq -r '.problems[]'`

func newValidateCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "validate [flags] MANIFEST",
		Short:   "Show what a manifest would become, and what is wrong with it",
		Long:    validateHelp,
		Example: validateExamples,
		Args:    exactlyOne("the manifest's file, or - for standard input"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("--output %q: accepted are text and json", output)
			}
			cfg, err := config.Load(cmd.Flags(), os.Environ())
			if err != nil {
				return err
			}
			return validate(cmd, cfg, args[0], output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	config.AddFlags(cmd.Flags())
	return cmd
}

func validate(cmd *cobra.Command, cfg *config.Config, file, output string) error {
	raw, err := readAll(cmd.InOrStdin(), file)
	if err != nil {
		return err
	}
	ctx, stop := untilSignal(cmd.Context())
	defer stop()
	report, err := inspect(ctx, cfg, raw)
	if err != nil {
		return err
	}
	if output == "json" {
		e := json.NewEncoder(cmd.OutOrStdout())
		e.SetIndent("", "  ")
		err = e.Encode(report)
	} else {
		err = report.print(cmd.OutOrStdout())
	}
	if err == nil && len(report.Problems) > 0 {
		return exitCode(1)
	}
	return err
}

func readAll(stdin io.Reader, file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(file)
}

// inspect looks at the manifest twice: as it is, for what is wrong, and with its
// Secrets masked, for what is shown.
func inspect(ctx context.Context, cfg *config.Config, raw []byte) (*report, error) {
	m, real, err := look(ctx, cfg, raw, false)
	if err != nil {
		return nil, err
	}
	r := newReport(m, real)
	if len(m.Secrets) == 0 {
		return r, nil
	}
	_, masked, err := look(ctx, cfg, raw, true)
	if err != nil {
		return nil, err
	}
	r.mask(masked)
	return r, nil
}

// looked is a look at a manifest.
type looked struct {
	// Preview is nil when there is no pod to speak of.
	*node.Preview
	problems []string
	notes    []string
}

// look makes what the pod would have in a directory for the time of the look.
func look(ctx context.Context, cfg *config.Config, raw []byte, masked bool) (m *podrun.Manifest, l *looked, err error) {
	l = &looked{}
	m, err = podrun.Inspect(bytes.NewReader(raw), masked)
	l.problems = problemsOf(err)
	if m.Pod == nil || len(m.Pod.Spec.Containers) != 1 {
		return m, l, nil
	}
	root, err := os.MkdirTemp("", "qemulet-validate-")
	if err != nil {
		return m, l, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	own := *cfg
	own.KubeletRootDir, own.ObjectsDir = filepath.Join(root, "kubelet"), filepath.Join(root, "objects")
	return m, l, l.preview(ctx, &own, m)
}

func (l *looked) preview(ctx context.Context, cfg *config.Config, m *podrun.Manifest) error {
	req, notes, err := m.Pretend(cfg.KubeletRootDir, cfg.ObjectsDir)
	l.notes = notes
	l.problems = append(l.problems, problemsOf(err)...)
	if len(l.problems) > 0 {
		req.Container = nil // which is not as it should be
	}
	l.Preview, err = node.PreviewPod(ctx, cfg, req.Sandbox, req.Container)
	if err == nil {
		l.problems = append(l.problems, l.Problems...)
	}
	return err
}

// problemsOf takes the errors of a manifest apart.
func problemsOf(err error) (all []string) {
	var several *podrun.ManifestError
	switch {
	case errors.As(err, &several):
		for _, e := range several.Problems {
			all = append(all, e.Error())
		}
	case err != nil:
		all = append(all, err.Error())
	}
	return all
}
