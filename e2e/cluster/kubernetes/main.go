// Command kubernetes is every component of a one-node cluster and what measures it, in one program, for the end-to-end tests: one link, and one compilation of what
// they share. The component is chosen by the name it is run as, or by the first argument.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	_ "time/tzdata"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	if run := component(filepath.Base(os.Args[0])); run != nil {
		run()
		return
	}
	if len(os.Args) > 1 {
		os.Args = os.Args[1:]
		if run := component(os.Args[0]); run != nil {
			run()
			return
		}
	}
	fmt.Fprintln(os.Stderr, "usage: kubernetes etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kube-proxy|kubelet|kubectl|metrics-server ...")
	os.Exit(2)
}

// component is what runs under a name, or nil.
func component(name string) func() {
	switch name {
	case "etcd":
		return func() { etcdmain.Main(os.Args) }
	case "kubectl":
		return runKubectl
	case "kube-apiserver":
		return daemon(apiserver.NewAPIServerCommand)
	case "kube-controller-manager":
		return daemon(manager.NewControllerManagerCommand)
	case "kube-scheduler":
		return daemon(func() *cobra.Command { return scheduler.NewSchedulerCommand() })
	case "kube-proxy":
		return daemon(proxy.NewProxyCommand)
	case "kubelet":
		return daemon(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) })
	case "metrics-server":
		return daemon(newMetricsServerCommand)
	}
	return nil
}

func daemon(command func() *cobra.Command) func() {
	return func() { os.Exit(cli.Run(command())) }
}

func runKubectl() {
	logs.GlogSetter(kubectl.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
}
