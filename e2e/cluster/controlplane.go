package cluster

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"testing"
	"time"
)

// adminToken is what kubectl and the components show to the API server.
const adminToken = "e2e-admin-token"

const kubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: e2e, cluster: {server: "https://127.0.0.1:6443", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: %s}}]
contexts: [{name: e2e, context: {cluster: e2e, user: admin}}]
current-context: e2e
`

// startControlPlane starts what a cluster has apart from its nodes. The API server signs its own certificate.
func (c *Cluster) startControlPlane(tb testing.TB) {
	tb.Helper()
	must(tb, os.WriteFile(c.Path("kubeconfig"), []byte(fmt.Sprintf(kubeconfig, adminToken)), 0o600))
	must(tb, os.WriteFile(c.Path("pki/tokens.csv"), []byte(adminToken+",admin,admin,system:masters\n"), 0o600))
	c.kubernetes(tb, "etcd", "--data-dir", c.Path("etcd"), "--unsafe-no-fsync", "--log-level", "warn",
		"--listen-client-urls", "http://127.0.0.1:2379", "--advertise-client-urls", "http://127.0.0.1:2379", "--listen-peer-urls", "http://127.0.0.1:2380").Start(tb)
	c.kubernetes(tb, "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379",
		"--bind-address=0.0.0.0", "--secure-port=6443", "--advertise-address="+NodeIP, "--cert-dir="+c.Path("pki"),
		"--service-cluster-ip-range=10.96.0.0/16", "--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+c.Path("pki/sa.pub"), "--service-account-signing-key-file="+c.Path("pki/sa.key"),
		"--token-auth-file="+c.Path("pki/tokens.csv"), "--authorization-mode=RBAC", "--anonymous-auth=false",
		"--kubelet-preferred-address-types=InternalIP", "--allow-privileged=true", "--profiling=false", "--v=1").Start(tb)
	eventually(tb, 120*time.Second, "the API server is ready", func() error { return c.try(c.kubectl(tb, "get", "--raw", "/readyz")...) })
	c.kubernetes(tb, "kube-controller-manager", "--kubeconfig="+c.Path("kubeconfig"), "--leader-elect=false", "--bind-address=127.0.0.1",
		"--service-account-private-key-file="+c.Path("pki/sa.key"), "--root-ca-file="+c.Path("pki/apiserver.crt"),
		"--flex-volume-plugin-dir="+c.Path("flex"), "--profiling=false", "--v=1").Start(tb)
	c.kubernetes(tb, "kube-scheduler", "--kubeconfig="+c.Path("kubeconfig"), "--leader-elect=false", "--bind-address=127.0.0.1", "--profiling=false", "--v=1").Start(tb)
	c.kubernetes(tb, "kube-proxy", "--kubeconfig="+c.Path("kubeconfig"), "--proxy-mode=iptables", "--hostname-override="+NodeName,
		"--cluster-cidr=10.244.0.0/16", "--bind-address="+NodeIP, "--conntrack-max-per-core=0", "--v=1").Start(tb)
}

func (c *Cluster) kubernetes(tb testing.TB, name string, args ...string) *Component {
	tb.Helper()
	return c.component(name, nil, append([]string{program(tb, "kubernetes"), name}, args...)...)
}

// writeKeyPair makes the key that service accounts' tokens are signed with.
func writeKeyPair(tb testing.TB, private, public string) {
	tb.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(tb, err)
	must(tb, os.WriteFile(private, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}), 0o600))
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	must(tb, err)
	must(tb, os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644))
}
