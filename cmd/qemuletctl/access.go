package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/qemulet/qemulet/internal/config"
	"github.com/qemulet/qemulet/internal/reach"
)

// access is how the flags say to get at the daemons. All commands share one.
type access struct {
	flags  *pflag.FlagSet
	plugin bool // called by kubectl, which means the cluster

	socket     string
	node       string
	kubeconfig string
	overrides  clientcmd.ConfigOverrides
}

const namespaceFlag = "namespace"

func newAccess(flags *pflag.FlagSet, plugin bool) *access {
	a := &access{flags: flags, plugin: plugin}
	flags.StringVar(&a.socket, "socket", "", "`path` of the daemon's api socket on this machine (default: the daemon's setting api-socket)")
	flags.StringVar(&a.node, "node", "", "`name` of the only node that counts, asked through the API server")
	flags.StringVar(&a.kubeconfig, "kubeconfig", "", "`file` that says where the API server is and who you are (default: as kubectl)")
	clientcmd.BindOverrideFlags(&a.overrides, flags, clientcmd.RecommendedConfigOverrideFlags(""))
	flags.VisitAll(func(f *pflag.Flag) { f.Hidden = !slices.Contains(shown, f.Name) })
	flags.Lookup(namespaceFlag).Usage = "`namespace` of the pod"
	flags.Lookup("context").Usage = "`name` of the context of the kubeconfig file"
	return a
}

// shown are the flags in the help; kubectl's others are accepted.
var shown = []string{"socket", "node", "kubeconfig", "context", namespaceFlag}

// namespace is what --namespace says, "" for nothing.
func (a *access) namespace() string { return a.overrides.Context.Namespace }

// faraway tells whether a flag speaks of the API server, and which.
func (a *access) faraway() (name string) {
	// Not Visit: the flags were set through the set of the command, which shares them.
	a.flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed && f.Name != "socket" && f.Name != namespaceFlag && a.speaksOfCluster(f.Name) {
			name = f.Name
		}
	})
	return name
}

// speaksOfCluster tells whether the flag is one of those made by newAccess.
func (a *access) speaksOfCluster(name string) bool {
	if name == "node" || name == "kubeconfig" {
		return true
	}
	var o clientcmd.ConfigOverrides
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	clientcmd.BindOverrideFlags(&o, own, clientcmd.RecommendedConfigOverrideFlags(""))
	return own.Lookup(name) != nil
}

// reach decides which way to go. The caller closes what it returns.
func (a *access) reach() (reach.Reach, error) {
	far := a.faraway()
	if a.flags.Changed("socket") {
		if far != "" {
			return nil, fmt.Errorf("--socket means this machine, --%s another: give one of them", far)
		}
		return reach.NewLocal(a.socket), nil
	}
	if far == "" && !a.plugin {
		cfg, err := config.Load(nil, os.Environ())
		if err != nil {
			return nil, err
		}
		if _, err := os.Lstat(cfg.APISocket); err == nil {
			return reach.NewLocal(cfg.APISocket), nil
		}
	}
	return a.cluster()
}

// clientConfig reads kubeconfig files as kubectl does.
func (a *access) clientConfig() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = a.kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &a.overrides)
}

func (a *access) cluster() (reach.Reach, error) {
	config := a.clientConfig()
	rest, err := config.ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, fmt.Errorf("no daemon listens on this machine, and no kubeconfig file says where a cluster is: use --socket on a node, or --kubeconfig")
	}
	if err != nil {
		return nil, fmt.Errorf("going through the API server: %w", err)
	}
	namespace, _, err := config.Namespace()
	if err != nil {
		return nil, fmt.Errorf("going through the API server: %w", err)
	}
	return reach.NewCluster(rest, namespace, a.node)
}

// with makes a command that asks daemons.
func (a *access) with(cmd *cobra.Command, do func(cmd *cobra.Command, r reach.Reach, args []string) error) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := a.reach()
		if err != nil {
			return err
		}
		defer r.Close()
		return do(cmd, r, args)
	}
	return cmd
}

// withPod makes a command whose first argument is a pod. rest are the others.
func (a *access) withPod(cmd *cobra.Command, do func(cmd *cobra.Command, p *reach.Pod, rest []string) error) *cobra.Command {
	if cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = a.completePod
	}
	return a.with(cmd, func(cmd *cobra.Command, r reach.Reach, args []string) error {
		p, err := a.pod(cmd, r, args[0])
		if err != nil {
			return err
		}
		return do(cmd, p, args[1:])
	})
}

// pod finds a pod by what a person has typed: NAME or NAMESPACE/NAME, or Virtlet's
// @NAME.
func (a *access) pod(cmd *cobra.Command, r reach.Reach, text string) (*reach.Pod, error) {
	namespace, name, err := reach.ParsePod(a.namespace(), strings.TrimPrefix(text, "@"))
	if err != nil {
		return nil, err
	}
	return r.Pod(cmd.Context(), namespace, name)
}
