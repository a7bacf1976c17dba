package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/reach"
)

// diagnoses are those of nodes, by their names.
type diagnoses struct {
	Nodes map[string]api.Diagnosis `json:"nodes"`
}

func newDiagCommand(a *access) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diag",
		Short: "Collect what there is to know of the nodes",
		Long: `Collect what there is to know of the nodes, for whoever is to find out what is
wrong: versions, settings with their origins, the daemon's log and goroutines, what
is recorded of pods and VMs, QEMU's logs and arguments, addresses and routes of node
and pods, cgroups, images, the names of CNI's configurations, and the proxy's state.

There are no secrets in it: no user-data, no SSH keys, no values of environment
variables, no files of Secrets, no credentials, and nothing that a guest has printed.`,
		Example: diagExamples,
		Args:    cobra.NoArgs,
	}
	cmd.AddCommand(newDiagDumpCommand(a), newDiagUnpackCommand())
	return cmd
}

const diagExamples = `  PROGRAM diag dump /tmp/diagnosis
  PROGRAM diag dump --json > diagnosis.json
  PROGRAM diag unpack /tmp/diagnosis < diagnosis.json`

func newDiagDumpCommand(a *access) *cobra.Command {
	var asJSON bool
	cmd := a.with(&cobra.Command{
		Use: "dump {DIR | --json}", Short: "Write it into a directory, or as one JSON document",
		Long: "Collect what there is to know of the nodes, and write it below nodes/NODE of a directory, or as one JSON document.", Example: diagExamples,
	}, func(cmd *cobra.Command, r reach.Reach, args []string) error {
		// What was answered is written also when a node did not.
		all, err := diagnose(cmd.Context(), r)
		if asJSON {
			return errors.Join(json.NewEncoder(cmd.OutOrStdout()).Encode(all), err)
		}
		return errors.Join(all.write(args[0]), err)
	})
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 && !asJSON || len(args) == 0 && asJSON {
			return nil
		}
		return argumentsError(cmd, "a directory, or --json")
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}

func newDiagUnpackCommand() *cobra.Command {
	return &cobra.Command{
		Use: "unpack DIR", Short: "Write what dump --json has printed into a directory",
		Long: "Read what `diag dump --json` has printed from the standard input, and write it below nodes/NODE of a directory.", Example: diagExamples,
		Args: exactlyOne("one argument: a directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := readDiagnoses(cmd.InOrStdin())
			if err != nil {
				return err
			}
			return all.write(args[0])
		},
	}
}

func readDiagnoses(in io.Reader) (diagnoses, error) {
	var all diagnoses
	if err := json.NewDecoder(in).Decode(&all); err != nil {
		return all, fmt.Errorf("the standard input is not what `diag dump --json` prints: %w", err)
	}
	if len(all.Nodes) == 0 {
		return all, fmt.Errorf("the standard input has no nodes: it is not what `diag dump --json` prints")
	}
	return all, nil
}

func diagnose(ctx context.Context, r reach.Reach) (diagnoses, error) {
	found, nodes, err := everyNode(ctx, r, func(ctx context.Context, d *reach.Daemon) (one api.Diagnosis, err error) {
		err = d.Call(ctx, http.MethodGet, api.DiagPath, nil, &one)
		return one, err
	})
	all := diagnoses{Nodes: map[string]api.Diagnosis{}}
	for i, d := range found {
		all.Nodes[nodes[i].Node] = d
	}
	return all, err
}

// write makes nodes/<node>/... below dir.
func (d diagnoses) write(dir string) error {
	for node, one := range d.Nodes {
		if !filepath.IsLocal(node) || filepath.Base(node) != node {
			return fmt.Errorf("node %q: that is no node's name", node)
		}
		if err := one.Write(filepath.Join(dir, "nodes", node)); err != nil {
			return err
		}
	}
	return nil
}
