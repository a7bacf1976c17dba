package main

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/qemulet/qemulet/internal/manual"
	"github.com/qemulet/qemulet/internal/version"
)

const rootHelp = `PROGRAM looks after VM pods.

On a node it asks the daemon of that node, through its socket. From afar it goes
through the API server, with the rights of your kubeconfig: it starts a relay in the
pod of qemulet's DaemonSet that is on the VM's node, so you need get and list for
pods, and create for pods/exec in kube-system.

Which of the two: --socket means the node; --node, --kubeconfig, --context and
kubectl's other global flags, which are accepted too, mean the API server. Without
them the socket is taken if it is there, but never by kubectl virt.

A POD is called NAME or NAMESPACE/NAME. It must be a VM pod: it has the annotation
kubernetes.io/target-runtime: virtlet.cloud, or runtimeClassName: virtlet, and one
container.`

const rootExamples = `  PROGRAM ps
  PROGRAM inspect my-vm
  PROGRAM console -n team my-vm
  PROGRAM ssh cirros@my-vm -- uptime`

// newRootCommand lists the commands; each has a file of its own.
func newRootCommand(name string) *cobra.Command {
	root := &cobra.Command{
		Use:           ownName,
		Short:         "Look after VM pods",
		Long:          rootHelp,
		Example:       rootExamples,
		Version:       version.Number(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Annotations:   map[string]string{},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; `%s --help` lists the flags", err, cmd.CommandPath())
	})
	if name == pluginName {
		root.Annotations[cobra.CommandDisplayNameAnnotation] = pluginName
	}
	a := newAccess(root.PersistentFlags(), name == pluginName)
	root.PersistentPreRun = func(*cobra.Command, []string) { silenceKlog() }
	root.AddCommand(
		newPsCommand(a),
		newInspectCommand(a),
		newSSHCommand(a),
		newVirshCommand(a),
		newValidateCommand(a),
		newGenCommand(),
		newInstallCommand(),
		newVersionCommand(a),
		newDiagCommand(a),
		newQMPCommand(a),
		newScreenshotCommand(a),
		newVNCCommand(a),
		newRelayCommand(),
		manual.Command(root, "1"),
	)
	root.AddCommand(domainCommands(a)...)
	root.AddCommand(manual.Command(root, "1"))
	sayName(root, name)
	return root
}

// sayName puts the name by which the program was called into all help.
func sayName(cmd *cobra.Command, name string) {
	for _, text := range []*string{&cmd.Short, &cmd.Long, &cmd.Example} {
		*text = strings.ReplaceAll(*text, "PROGRAM", name)
	}
	for _, sub := range cmd.Commands() {
		sayName(sub, name)
	}
}

// silenceKlog keeps what the streaming protocols log out of the terminal.
func silenceKlog() { klog.SetSlogLogger(slog.New(slog.DiscardHandler)) }
