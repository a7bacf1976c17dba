package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/qemulet/qemulet/internal/config"
	"github.com/qemulet/qemulet/internal/daemon"
)

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show and check settings",
		Long:  "Show the settings of this node, and check files with settings before they count.",
		Example: `  qemulet config dump
  qemulet config check new.yaml`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(newConfigDumpCommand(), newConfigCheckCommand())
	return cmd
}

const configDumpHelp = `Show all settings, and where the value of each comes from.

They are those that a daemon would have that is started now, with the environment
of this command: its flags, the environment, the file, and objects of the cluster, if
the setting kubeconfig says where that is. With --running they are those of the
daemon that runs, and below them what its next start will change.`

const configDumpExamples = `  qemulet config dump
  qemulet config dump --running -o json | jq '.pending'

  # As variables, for a shell and for the unit of a service:
  qemulet config dump -o shell`

func newConfigDumpCommand() *cobra.Command {
	var output string
	var running bool
	cmd := &cobra.Command{
		Use:     "dump [flags]",
		Short:   "Show all settings and where they come from",
		Long:    configDumpHelp,
		Example: configDumpExamples,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			print, ok := dumpFormats[output]
			if !ok {
				return fmt.Errorf("--output %q: accepted are text, json, yaml and shell", output)
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			d, err := settingsToShow(ctx, cmd, running)
			if err != nil {
				return err
			}
			return print(cmd.OutOrStdout(), d)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text, json, yaml or shell")
	cmd.Flags().BoolVar(&running, "running", false, "ask the daemon that runs")
	config.AddFlags(cmd.Flags())
	return cmd
}

// dump is what `config dump` shows, in the form of the daemon's API.
type dump struct {
	Values  []config.Value `json:"values"`
	Pending []config.Value `json:"pending,omitempty"`
}

func settingsToShow(ctx context.Context, cmd *cobra.Command, running bool) (dump, error) {
	if running {
		return settingsOfDaemon(ctx, cmd)
	}
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	settings, err := daemon.OpenSettings(ctx, loadWith(cmd), log, nil)
	if err != nil {
		return dump{}, err
	}
	cfg := settings.Config()
	for _, warning := range cfg.Warnings {
		log.Warn("settings", "warning", warning)
	}
	return dump{Values: cfg.Values()}, nil
}

func settingsOfDaemon(ctx context.Context, cmd *cobra.Command) (d dump, err error) {
	cfg, err := loadWith(cmd)()
	if err != nil {
		return d, err
	}
	client, err := dial(ctx, cfg.CRISocket, cfg.APISocket)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	return d, client.Call(ctx, http.MethodGet, daemon.SettingsPath, nil, &d)
}

var dumpFormats = map[string]func(io.Writer, dump) error{
	"text": dumpText, "json": dumpJSON, "yaml": dumpYAML, "shell": dumpShell,
}

func dumpText(w io.Writer, d dump) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SETTING\tVALUE\tFROM")
	for _, v := range d.Values {
		fmt.Fprintf(t, "%s\t%s\t%s\n", v.Name, cmp.Or(v.Value, `""`), v.Origin)
	}
	if len(d.Pending) > 0 {
		fmt.Fprintln(t, "\nAFTER A RESTART\t\t")
	}
	for _, v := range d.Pending {
		fmt.Fprintf(t, "%s\t%s\t%s\n", v.Name, cmp.Or(v.Value, `""`), v.Origin)
	}
	return t.Flush()
}

func dumpJSON(w io.Writer, d dump) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(d)
}

func dumpYAML(w io.Writer, d dump) error {
	raw, err := yaml.Marshal(d)
	if err != nil {
		return err
	}
	_, err = w.Write(raw)
	return err
}

// dumpShell prints variables of ours, and of those that Virtlet's scripts knew
// with the same values also theirs.
func dumpShell(w io.Writer, d dump) error {
	for _, v := range d.Values {
		names := []string{config.EnvName(v.Name)}
		if virtlets := config.VirtletEnv(v.Name); virtlets != "" {
			names = append(names, virtlets)
		}
		for _, name := range names {
			if _, err := fmt.Fprintf(w, "export %s=%s\n", name, shellQuote(v.Value)); err != nil {
				return err
			}
		}
	}
	return nil
}

var shellSpecial = regexp.MustCompile(`[^A-Za-z0-9_@%+=:,./\n-]`)

// shellQuote makes one word of a text, for any shell.
func shellQuote(s string) string {
	if s == "" || strings.Contains(s, "\n") {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return shellSpecial.ReplaceAllString(s, `\$0`)
}

func newConfigCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE...]",
		Short: "Tell whether files with settings are understood",
		Long: `Tell whether files with settings are understood: a settings file, or in YAML a
VirtletConfigMapping or the ConfigMap virtlet-config. Without one it is the node's
own, ` + config.DefaultFile + `. All that is wrong is said, with what would be
accepted; the exit code is 1 then.`,
		Example: `  qemulet config check
  qemulet config check new.yaml
  kubectl get -n kube-system vcm ssd-nodes -o yaml | qemulet config check -`,
		RunE: func(cmd *cobra.Command, files []string) error {
			if len(files) == 0 {
				files = []string{config.DefaultFile}
			}
			var errs []error
			for _, file := range files {
				errs = append(errs, checkSettings(cmd, file))
			}
			return errors.Join(errs...)
		},
	}
}

func checkSettings(cmd *cobra.Command, file string) error {
	raw, err := readAll(cmd.InOrStdin(), file)
	if err != nil {
		return err
	}
	if file == "-" {
		file = "standard input"
	}
	warnings, err := config.Check(file, raw)
	for _, w := range warnings {
		fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
	}
	if err == nil {
		fmt.Fprintln(cmd.OutOrStdout(), file+": understood")
	}
	return err
}
