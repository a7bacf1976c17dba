package main

import (
	_ "embed"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// deployment is what deploy/base builds; a test in deploy keeps it up to date.
//
//go:embed deployment.yaml
var deployment string

const genHelp = `Print what a cluster has to know of qemulet, as YAML for kubectl apply: CRDs, access
rights, the RuntimeClass, image translations and the DaemonSet that installs the
nodes with the label extraRuntime=virtlet.

The image of the DaemonSet is one that you have built and pushed, see the installation
guide: --image names it. To change more, use the kustomize base in deploy/base.`

const genExamples = `  PROGRAM gen --image registry.example.com/qemulet-node:1 | kubectl apply -f -
  PROGRAM gen --crd | kubectl apply -f -`

func newGenCommand() *cobra.Command {
	var crd bool
	var image string
	cmd := &cobra.Command{
		Use: "gen", Short: "Print the YAML that installs qemulet in a cluster", Long: genHelp, Example: genExamples, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("image") && !imageName.MatchString(image) {
				return fmt.Errorf("--image %q: the name of a container image is accepted, such as registry.example.com/qemulet-node:1", image)
			}
			return gen(cmd.OutOrStdout(), crd, image)
		},
	}
	cmd.Flags().BoolVar(&crd, "crd", false, "only the CustomResourceDefinitions")
	cmd.Flags().StringVar(&image, "image", nodeImage, "`name` of the image of the DaemonSet")
	return cmd
}

// nodeImage is how the base calls the image.
const nodeImage = "qemulet-node"

var imageName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._:/@-]*$`)

const separator = "---\n"

func gen(out io.Writer, crd bool, image string) error {
	var wanted []string
	for o := range strings.SplitSeq(deployment, separator) {
		if !crd || strings.Contains(o, "\nkind: CustomResourceDefinition\n") {
			wanted = append(wanted, strings.ReplaceAll(o, "image: "+nodeImage+"\n", "image: "+image+"\n"))
		}
	}
	_, err := io.WriteString(out, strings.Join(wanted, separator))
	return err
}
