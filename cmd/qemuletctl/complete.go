package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// completionLimit is how long a person waits for the shell.
const completionLimit = 3 * time.Second

// completePod offers the names of VM pods for a command's first argument.
func (a *access) completePod(cmd *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	name, at := strings.CutPrefix(start, "@")
	names := a.podNames(cmd.Context(), name)
	for i := range names {
		if at {
			names[i] = "@" + names[i]
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// podNames are the pods that begin so; what goes wrong is an empty list, for a
// shell has no use for errors.
func (a *access) podNames(ctx context.Context, start string) []string {
	r, err := a.reach()
	if err != nil {
		return nil
	}
	defer r.Close()
	ctx, cancel := context.WithTimeout(ctx, completionLimit)
	defer cancel()
	namespace, _, qualified := strings.Cut(start, "/")
	if !qualified {
		namespace = a.namespace()
	}
	found, err := r.Complete(ctx, namespace)
	if err != nil {
		return nil
	}
	var names []string
	for _, n := range found {
		name := n.Name
		if qualified {
			name = n.String()
		}
		if strings.HasPrefix(name, start) {
			names = append(names, name)
		}
	}
	return names
}

// exactlyOne is cobra.ExactArgs(1) in words.
func exactlyOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return argumentsError(cmd, what)
		}
		return nil
	}
}

const podArgument = "one argument: the pod's NAME or NAMESPACE/NAME"
