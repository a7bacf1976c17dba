package main

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/qemulet/qemulet/internal/config"
	"github.com/qemulet/qemulet/internal/daemon"
	"github.com/qemulet/qemulet/internal/imagecli"
	"github.com/qemulet/qemulet/internal/podrun"
)

// completionLimit is how long a person waits for the shell.
const completionLimit = 2 * time.Second

// completeStored offers the names of the images that are there.
func completeStored(cmd *cobra.Command, _ []string, start string) ([]string, cobra.ShellCompDirective) {
	cfg, err := config.Load(cmd.Flags(), os.Environ())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionLimit)
	defer cancel()
	client, err := podrun.Connect(ctx, cfg.CRISocket, cfg.APISocket)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer client.Close()
	return imagecli.Stored(ctx, client, start), cobra.ShellCompDirectiveNoFileComp
}

// completeTranslated offers the names that translations are for.
func completeTranslated(cmd *cobra.Command, _ []string, start string) ([]string, cobra.ShellCompDirective) {
	cfg, err := config.Load(cmd.Flags(), os.Environ())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionLimit)
	defer cancel()
	return imagecli.Translated(ctx, daemon.ImageOptions(cfg), start), cobra.ShellCompDirectiveNoFileComp
}
