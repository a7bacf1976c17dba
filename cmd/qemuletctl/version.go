package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/reach"
	"github.com/qemulet/qemulet/internal/version"
)

// versions are those of the program and of the daemons.
type versions struct {
	Client string        `json:"client"`
	Nodes  []nodeVersion `json:"nodes,omitempty"`
}

type nodeVersion struct {
	Node    string `json:"node"`
	Version string `json:"version"`
}

const versionHelp = `Print the version of this program and those of the daemons of the nodes.

It is an error when the nodes have different versions, or one does not answer.`

const versionExamples = `  PROGRAM version
  PROGRAM version --client
  PROGRAM version -o json`

func newVersionCommand(a *access) *cobra.Command {
	var f *format
	var client bool
	cmd := &cobra.Command{
		Use: "version", Short: "Print the versions of this program and of the daemons",
		Long: versionHelp, Example: versionExamples, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := versions{Client: version.Number()}
			var err error
			if !client {
				all.Nodes, err = a.nodeVersions(cmd.Context())
			}
			return errors.Join(all.print(cmd.OutOrStdout(), f), err, all.check())
		},
	}
	cmd.Flags().BoolVar(&client, "client", false, "only that of this program")
	f = formatFlag(cmd, formatText, formatShort, formatJSON, formatYAML)
	return cmd
}

func (a *access) nodeVersions(ctx context.Context) ([]nodeVersion, error) {
	r, err := a.reach()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	found, _, err := everyNode(ctx, r, func(ctx context.Context, d *reach.Daemon) (nodeVersion, error) {
		var n api.Node
		err := d.Call(ctx, http.MethodGet, api.NodePath, nil, &n)
		return nodeVersion{d.Node, n.Version}, err
	})
	return found, err
}

func (v versions) print(out io.Writer, f *format) error {
	if f.isStructured() {
		return f.structured(out, v)
	}
	client, node := "client %s\n", "node %s: %s\n"
	if f.value == formatShort {
		client, node = "%s\n", "%s: %s\n"
	}
	fmt.Fprintf(out, client, v.Client)
	for _, n := range v.Nodes {
		fmt.Fprintf(out, node, n.Node, n.Version)
	}
	return nil
}

// check finds nodes that differ.
func (v versions) check() error {
	if len(v.Nodes) == 0 {
		return nil
	}
	var others []string
	for _, n := range v.Nodes[1:] {
		if n.Version != v.Nodes[0].Version {
			others = append(others, n.Node+" has "+n.Version)
		}
	}
	if len(others) == 0 {
		return nil
	}
	return fmt.Errorf("the nodes have different versions: %s has %s, %s", v.Nodes[0].Node, v.Nodes[0].Version, strings.Join(others, ", "))
}
