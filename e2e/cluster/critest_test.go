package cluster

import (
	"encoding/xml"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qemulet/qemulet/e2e/node"
)

// containerd passes through the proxy exactly the specs that it passes without it.
func TestCritestThroughProxy(t *testing.T) {
	c := theCluster(t)
	// kubelet would remove what it does not know.
	k := c.Component(t, "kubelet")
	k.Kill9()
	t.Cleanup(func() { k.Start(t); c.WaitNodeReady(t) })
	c.ServeRegistry(t)
	direct := c.critest(t, c.ContainerdSocket())
	proxied := c.critest(t, c.ProxySocket())
	passed := 0
	for _, spec := range slices.Sorted(maps.Keys(direct)) {
		if direct[spec] == "passed" {
			passed++
		}
		if proxied[spec] != direct[spec] && c.critest(t, c.ProxySocket(), "-ginkgo.focus", focusOn(spec))[spec] != direct[spec] {
			t.Errorf("%s: %q through the proxy, %q without", spec, proxied[spec], direct[spec])
		}
	}
	if len(direct) != len(proxied) || passed < 60 {
		t.Errorf("%d specs without the proxy, %d through it, %d passed", len(direct), len(proxied), passed)
	}
	t.Logf("%d of %d specs pass", passed, len(direct))
}

// focusOn is a pattern of one spec, from its name in a report: "[It] NAME [Label, Label]". Some specs are races of their own; what differs is
// tried once more.
func focusOn(spec string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(spec, "[It] [k8s.io] "), " [")
	return regexp.QuoteMeta(name)
}

// critest returns how each spec ended.
func (c *Cluster) critest(t *testing.T, socket string, args ...string) map[string]string {
	t.Helper()
	begin := time.Now()
	report := filepath.Join(t.TempDir(), "report.xml")
	argv := append([]string{node.Binary(t, "critest"), "-runtime-endpoint", "unix://" + socket, "-image-endpoint", "unix://" + socket,
		"-ginkgo.junit-report", report, "-ginkgo.no-color", "-ginkgo.seed", "1", "-ginkgo.timeout", "15m"}, args...)
	out, err := c.Command(argv...).CombinedOutput()
	var suites struct {
		Cases []struct {
			Name   string `xml:"name,attr"`
			Status string `xml:"status,attr"`
		} `xml:"testsuite>testcase"`
	}
	text, readErr := os.ReadFile(report)
	if readErr != nil {
		t.Fatalf("critest: %v, %v\n%s", err, readErr, out)
	}
	must(t, xml.Unmarshal(text, &suites))
	specs, counts := map[string]string{}, map[string]int{}
	for _, s := range suites.Cases {
		if strings.HasPrefix(s.Name, "[It]") && s.Status != "skipped" {
			specs[s.Name] = s.Status
			counts[s.Status]++
		}
	}
	t.Logf("%s: %v in %v", filepath.Base(socket), counts, time.Since(begin).Round(time.Second))
	return specs
}
