package cluster

import (
	"os"
	"sync"
	"testing"

	"github.com/qemulet/qemulet/e2e/node"
)

// shared is one cluster for all tests: bringing one up takes longer than most of them.
var shared struct {
	once    sync.Once
	cluster *Cluster
}

func TestMain(m *testing.M) {
	status := m.Run()
	if shared.cluster != nil {
		shared.cluster.Close()
	}
	os.Exit(status)
}

func theCluster(t *testing.T) *Cluster {
	t.Helper()
	node.NeedLong(t)
	shared.once.Do(func() { shared.cluster = Start(t) })
	if shared.cluster == nil {
		t.Fatal("the cluster did not come up, see the test that was first")
	}
	return shared.cluster
}
