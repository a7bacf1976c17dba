package kube

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// serviceAccountDir is where kubelet mounts the service account of a pod.
const serviceAccountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// serviceHost and servicePort are the variables in which kubelet tells each pod
// where the API server is.
const (
	serviceHost = "KUBERNETES_SERVICE_HOST"
	servicePort = "KUBERNETES_SERVICE_PORT"
)

func inPod() bool { return os.Getenv(serviceHost) != "" && os.Getenv(servicePort) != "" }

// config is where the API server is and who asks. Its errors say what to set,
// and nothing of what a file holds.
func (a *API) config() (*rest.Config, error) {
	if a.Kubeconfig != "" {
		return kubeconfig(a.Kubeconfig)
	}
	if !inPod() {
		return nil, errors.New("the setting kubeconfig is empty, and the daemon does not run in a pod with a service account")
	}
	return serviceAccount(cmp.Or(a.ServiceAccountDir, serviceAccountDir))
}

// kubeconfig reads the file and no other: unlike clientcmd's usual rules it
// neither merges nor falls back to a service account.
func kubeconfig(path string) (*rest.Config, error) {
	if _, err := os.ReadFile(path); err != nil {
		return nil, fmt.Errorf("setting kubeconfig: %w", err)
	}
	loaded, err := clientcmd.LoadFromFile(path)
	if err != nil {
		// The decoder's words may quote the file.
		return nil, fmt.Errorf("setting kubeconfig: %s is no kubeconfig file", path)
	}
	if err := clientcmd.ResolveLocalPaths(loaded); err != nil {
		return nil, fmt.Errorf("setting kubeconfig: %s: %w", path, err)
	}
	cfg, err := clientcmd.NewDefaultClientConfig(*loaded, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("setting kubeconfig: %s: %w", path, err)
	}
	return cfg, nil
}

// serviceAccount reads what kubelet mounts. client-go reads the token again
// from time to time, as kubelet renews it.
func serviceAccount(dir string) (*rest.Config, error) {
	token, ca := filepath.Join(dir, "token"), filepath.Join(dir, "ca.crt")
	for _, file := range []string{token, ca} {
		if _, err := os.ReadFile(file); err != nil {
			return nil, fmt.Errorf("service account: %w", err)
		}
	}
	return &rest.Config{
		Host:            "https://" + net.JoinHostPort(os.Getenv(serviceHost), os.Getenv(servicePort)),
		TLSClientConfig: rest.TLSClientConfig{CAFile: ca},
		BearerTokenFile: token,
	}, nil
}
