package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
)

const installHelp = `Make this program a plugin of kubectl, so that "kubectl virt ps" works: it is copied
as kubectl-virt into DIR, ~/.local/bin by default, which must be in your PATH. A
script beside it lets kubectl's completion complete it.

As a plugin it goes through the API server, also on a node. kubectl wants its own
flags behind the plugin's name: kubectl virt -n team ps.`

const installExamples = `  PROGRAM install
  sudo PROGRAM install /usr/local/bin
  kubectl virt ps`

func newInstallCommand() *cobra.Command {
	return &cobra.Command{
		Use: "install [DIR]", Short: "Make this program a plugin of kubectl", Long: installHelp, Example: installExamples, Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			home, err := os.UserHomeDir()
			dir := filepath.Join(home, ".local", "bin")
			if len(args) > 0 {
				dir, err = filepath.Abs(args[0])
			}
			if err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			return install(self, dir, cmd.OutOrStdout())
		},
	}
}

// kubectl asks a program of this name to complete the arguments of the plugin.
const (
	completionFile   = "kubectl_complete-virt"
	completionScript = "#!/bin/sh\nexec kubectl-virt __complete \"$@\"\n"
)

func install(self, dir string, out io.Writer) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	target := filepath.Join(dir, pluginFile)
	if err := copyProgram(self, target); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, completionFile), []byte(completionScript), 0o755); err != nil {
		return err
	}
	fmt.Fprintf(out, "installed %s: kubectl virt --help\n", target)
	if !slices.Contains(filepath.SplitList(os.Getenv("PATH")), dir) {
		fmt.Fprintf(out, "%s is not in your PATH: kubectl will not find it before it is\n", dir)
	}
	return nil
}

// copyProgram replaces by rename, so that a copy may be running meanwhile.
func copyProgram(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), ".kubectl-virt-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = out.Close()
			_ = os.Remove(out.Name())
		}
	}()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	if err := out.Chmod(0o755); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Rename(out.Name(), to)
}
