package main

import (
	"github.com/spf13/cobra"
	"k8s.io/apiserver/pkg/endpoints/openapi"
	"k8s.io/apiserver/pkg/server"
	generated "k8s.io/kubernetes/pkg/generated/openapi"
	"sigs.k8s.io/metrics-server/cmd/metrics-server/app/options"
	"sigs.k8s.io/metrics-server/pkg/api"
)

// newMetricsServerCommand is metrics-server with the description of its API from this Kubernetes. Its own is of an older one, and names types in
// another way.
func newMetricsServerCommand() *cobra.Command {
	o := options.NewOptions()
	cmd := &cobra.Command{Use: "metrics-server", RunE: func(*cobra.Command, []string) error {
		config, err := o.ServerConfig()
		if err != nil {
			return err
		}
		names := openapi.NewDefinitionNamer(api.Scheme)
		config.Apiserver.OpenAPIConfig = server.DefaultOpenAPIConfig(generated.GetOpenAPIDefinitions, names)
		config.Apiserver.OpenAPIV3Config = server.DefaultOpenAPIV3Config(generated.GetOpenAPIDefinitions, names)
		s, err := config.Complete()
		if err != nil {
			return err
		}
		return s.RunUntil(server.SetupSignalHandler())
	}}
	flags := o.Flags()
	for _, set := range flags.FlagSets {
		cmd.Flags().AddFlagSet(set)
	}
	return cmd
}
