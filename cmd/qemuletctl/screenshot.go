package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/reach"
)

const screenshotHelp = `Take a picture of what the display of a VM shows, as a PNG.

The pod must have the annotation qemulet.io/display: vga from its start.`

const screenshotExamples = `  PROGRAM screenshot my-vm -o screen.png
  PROGRAM screenshot my-vm -o - | display`

func newScreenshotCommand(a *access) *cobra.Command {
	var file string
	cmd := a.withPod(&cobra.Command{
		Use: "screenshot POD [-o FILE]", Short: "Take a picture of the display of a VM",
		Long: screenshotHelp, Example: screenshotExamples, Args: exactlyOne(podArgument),
	}, func(cmd *cobra.Command, p *reach.Pod, _ []string) error {
		var picture bytes.Buffer
		if err := p.Download(cmd.Context(), p.Path(api.ScreenshotPath), nil, &picture); err != nil {
			return err
		}
		if file != "-" {
			return os.WriteFile(file, picture.Bytes(), 0o644)
		}
		if out, ok := cmd.OutOrStdout().(*os.File); ok && term.IsTerminal(int(out.Fd())) {
			return fmt.Errorf("a picture is nothing for a terminal: -o FILE")
		}
		_, err := picture.WriteTo(cmd.OutOrStdout())
		return err
	})
	cmd.Flags().StringVarP(&file, "output", "o", "-", "`file` for the picture; - is the standard output")
	return cmd
}
