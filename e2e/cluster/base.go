package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qemulet/qemulet/e2e/node"
)

// base is deploy/base as the programs carry it, and the documents of each of its kinds.
func base(tb testing.TB) (all string, kinds map[string]string) {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join(node.Top(), "cmd/qemuletctl/deployment.yaml"))
	must(tb, err)
	kinds = map[string]string{}
	for document := range strings.SplitSeq(string(data), "\n---\n") {
		for line := range strings.Lines(document) {
			if kind, ok := strings.CutPrefix(line, "kind: "); ok {
				kinds[strings.TrimSpace(kind)] += "---\n" + document + "\n"
			}
		}
	}
	return string(data), kinds
}

// define makes the base's CRDs, which stay as long as the cluster: for each definition that comes or goes, the garbage collector looks for
// all kinds anew, and what waits for it, such as a foreground deletion, takes minutes when they come and go with tests.
func (c *Cluster) define(tb testing.TB) {
	tb.Helper()
	_, kinds := base(tb)
	must(tb, c.feed(tb, kinds["CustomResourceDefinition"], "apply", "-f", "-"))
	for _, name := range []string{"virtletimagemappings", "virtletconfigmappings"} {
		c.Kubectl(tb, "wait", "--for=condition=Established", "--timeout=60s", "crd/"+name+".virtlet.k8s")
	}
}
