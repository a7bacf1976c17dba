package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/qemulet/qemulet/internal/config"
	"github.com/qemulet/qemulet/internal/daemon"
	"github.com/qemulet/qemulet/internal/imagecli"
	"github.com/qemulet/qemulet/internal/podrun"
)

const imageHelp = `Fetch, list and remove the disk images that VMs boot.

An image is called as in a pod's manifest, with virtlet.cloud/ before its name
or without. All commands but resolve need a daemon.`

func newImageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Look after the disk images of this machine",
		Long:  imageHelp,
		Example: `  qemulet image resolve virtlet.cloud/cirros
  qemulet image pull virtlet.cloud/cirros
  qemulet image ls`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newImagePullCommand(),
		newImageLsCommand(),
		newImageInspectCommand(),
		newImageRmCommand(),
		newImageGCCommand(),
		newImageResolveCommand(),
	)
	return cmd
}

// someNames is cobra.MinimumNArgs(1) in words.
func someNames(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%s takes the name, id or digest of an image, or several; `%[1]s --help` has examples", cmd.CommandPath())
	}
	return nil
}

// formatFlag adds -o.
func formatFlag(cmd *cobra.Command) *imagecli.Format {
	f := imagecli.Text
	cmd.Flags().VarP(&f, "output", "o", "text for people, json for programs")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{string(imagecli.Text), string(imagecli.JSON)}, cobra.ShellCompDirectiveNoFileComp))
	return &f
}

func newImagePullCommand() *cobra.Command {
	var o imagecli.PullOptions
	var passwordStdin bool
	cmd := withClient(&cobra.Command{
		Use:   "pull NAME...",
		Short: "Fetch images",
		Long: `Fetch images, unless the server says that they have not changed. How far it is
is shown on standard error: as a bar on a terminal, else as a line every now and
then. Standard output gets the ids.`,
		Example: `  qemulet image pull virtlet.cloud/cirros virtlet.cloud/ubuntu/24.04
  qemulet image pull --digest sha256:2f6f... virtlet.cloud/cirros
  qemulet image pull virtlet.cloud/cirros@sha256:2f6f...
  pass show registry | qemulet image pull --username joe --password-stdin virtlet.cloud/private/vm`,
		Args:              someNames,
		ValidArgsFunction: completeTranslated,
	}, func(ctx context.Context, c *podrun.Client, args []string) error {
		if passwordStdin {
			var err error
			if o.Password, err = imagecli.ReadPassword(os.Stdin); err != nil {
				return err
			}
		}
		return imagecli.Pull(ctx, c, args, o, os.Stdout, os.Stderr)
	})
	cmd.Flags().StringVar(&o.Digest, "digest", "", "the `SHA-256` that the image must have")
	cmd.Flags().StringVarP(&o.Username, "username", "u", "", "the `name` that the server knows you by; sent over TLS only")
	cmd.Flags().BoolVar(&passwordStdin, "password-stdin", false, "read the password from standard input")
	cmd.MarkFlagsRequiredTogether("username", "password-stdin")
	return cmd
}

func newImageLsCommand() *cobra.Command {
	var o imagecli.ListOptions
	var format *imagecli.Format
	cmd := withClient(&cobra.Command{
		Use:               "ls [NAME...]",
		Aliases:           []string{"list"},
		Short:             "List images",
		Long:              "List all images of this machine, or those that go by the names, with a line for each name.",
		Example:           "  qemulet image ls\n  qemulet image ls --digests\n  qemulet image ls -o json | jq '.[] | select(.usedBy == []) | .names'",
		ValidArgsFunction: completeStored,
	}, func(ctx context.Context, c *podrun.Client, args []string) error {
		o.Format = *format
		return imagecli.List(ctx, c, args, o, os.Stdout)
	})
	format = formatFlag(cmd)
	cmd.Flags().BoolVar(&o.Digests, "digests", false, "show the SHA-256 of the files too")
	cmd.Flags().BoolVarP(&o.Quiet, "quiet", "q", false, "show ids only")
	return cmd
}

func newImageInspectCommand() *cobra.Command {
	var format *imagecli.Format
	cmd := withClient(&cobra.Command{
		Use:               "inspect NAME...",
		Short:             "Show all that is known of images",
		Long:              "Show the format, sizes, digests and names of images, where they came from, and which pods use them.",
		Example:           "  qemulet image inspect virtlet.cloud/cirros\n  qemulet image inspect -o json 0374dfac0fa4",
		Args:              someNames,
		ValidArgsFunction: completeStored,
	}, func(ctx context.Context, c *podrun.Client, args []string) error {
		return imagecli.Inspect(ctx, c, args, *format, os.Stdout)
	})
	format = formatFlag(cmd)
	return cmd
}

func newImageRmCommand() *cobra.Command {
	var force bool
	cmd := withClient(&cobra.Command{
		Use:   "rm NAME...",
		Short: "Remove images",
		Long: `Remove images with all their names. One that a pod uses is refused: its disk
stands on it.`,
		Example:           "  qemulet image rm virtlet.cloud/cirros\n  qemulet image rm 0374dfac0fa4\n  qemulet image rm virtlet.cloud/cirros@sha256:2f6f...",
		Args:              someNames,
		ValidArgsFunction: completeStored,
	}, func(ctx context.Context, c *podrun.Client, args []string) error {
		return imagecli.Remove(ctx, c, args, force, os.Stderr)
	})
	cmd.Flags().BoolVarP(&force, "force", "f", false, "take an image that is used off the list at once; it is freed with its last pod")
	return cmd
}

func newImageGCCommand() *cobra.Command {
	var o imagecli.GCOptions
	var format *imagecli.Format
	cmd := withClient(&cobra.Command{
		Use:   "gc",
		Short: "Free images that nobody needs",
		Long: `Free what no VM uses: data without a name, which is what an update of an image
or a crash leaves, and with --all also images that have a name. Downloads that run
are left alone. On a node kubelet frees images itself when the disk gets full.`,
		Example: "  qemulet image gc\n  qemulet image gc --all --dry-run\n  qemulet image gc --all",
		Args:    cobra.NoArgs,
	}, func(ctx context.Context, c *podrun.Client, _ []string) error {
		o.Format = *format
		return imagecli.GC(ctx, c, o, os.Stdout)
	})
	format = formatFlag(cmd)
	cmd.Flags().BoolVarP(&o.All, "all", "a", false, "also images that have a name")
	cmd.Flags().BoolVarP(&o.DryRun, "dry-run", "n", false, "only say what would be freed")
	return cmd
}

// translating are the settings that decide where images come from.
var translating = []string{"image-translation-dir", "regexp-image-translation", "download-protocol", "image-file-dir", "kubeconfig"}

func newImageResolveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resolve NAME...",
		Short: "Show where an image would be fetched from, and why",
		Long: `Show the URL that a name leads to, which rule of which file or object says so,
how it would be fetched, which checksum it must have, and why the other rules
do not count. Nothing is fetched.

The daemon answers if one runs. Without one, or when one of the settings below
that decide on it is given as a flag, the answer follows from the settings.`,
		Example: `  qemulet image resolve virtlet.cloud/cirros
  qemulet image resolve --image-translation-dir ./images.d virtlet.cloud/ubuntu/24.04`,
		Args:              someNames,
		ValidArgsFunction: completeTranslated,
	}
	format := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := config.Load(cmd.Flags(), os.Environ())
		if err != nil {
			return err
		}
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		resolver, done, err := chooseResolver(ctx, cmd, cfg)
		if err != nil {
			return err
		}
		defer done()
		return imagecli.Resolve(ctx, resolver, args, *format, cmd.OutOrStdout())
	}
	addSettings(cmd, append([]string{"cri-socket", "api-socket", "run-dir"}, translating...))
	return cmd
}

// chooseResolver takes the daemon, if there is one and nobody wants to know of
// other settings than the daemon's.
func chooseResolver(ctx context.Context, cmd *cobra.Command, cfg *config.Config) (_ imagecli.Resolver, done func(), _ error) {
	offline := imagecli.Settings(daemon.ImageOptions(cfg))
	for _, name := range translating {
		if cmd.Flags().Changed(name) {
			return offline, func() {}, nil
		}
	}
	listening, err := podrun.Listening(cfg.CRISocket)
	if err != nil || !listening {
		return offline, func() {}, err
	}
	client, err := dial(ctx, cfg.CRISocket, cfg.APISocket)
	if err != nil {
		return nil, nil, err
	}
	return imagecli.Daemon(client), func() { _ = client.Close() }, nil
}
