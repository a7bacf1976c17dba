package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/qemulet/qemulet/internal/version"
)

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Long:    "Print the version of this program. `qemuletctl version` compares those of all nodes.",
		Example: "  qemulet version",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "qemulet", version.Number())
			return err
		},
	}
}
