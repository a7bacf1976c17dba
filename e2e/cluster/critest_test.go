package cluster

import (
	"encoding/xml"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
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
	direct, proxied := map[string]string{}, map[string]string{}
	c.critestBoth(t, direct, proxied)
	passed := 0
	for _, spec := range slices.Sorted(maps.Keys(direct)) {
		if direct[spec] == "passed" {
			passed++
		}
		if proxied[spec] != direct[spec] && !c.evenAfterAll(t, spec, direct[spec]) {
			t.Errorf("%s: %q through the proxy, %q without", spec, proxied[spec], direct[spec])
		}
	}
	if len(direct) != len(proxied) || passed < 60 {
		t.Errorf("%d specs without the proxy, %d through it, %d passed", len(direct), len(proxied), passed)
	}
	t.Logf("%d of %d specs pass", passed, len(direct))
}

// alone are the specs that bear no others beside them: they count images, or take a port of the node.
const alone = "Image|host port|host network|hostPort|support portforward"

// hopeless are the specs that wait minutes for the nginx of an image that the registry here does not have.
const hopeless = "Multiple Containers|HostPID|ContainerPID"

// critestBoth fills in how each spec ended. Most take their time with waiting, and those of both sides are run side by side.
func (c *Cluster) critestBoth(t *testing.T, direct, proxied map[string]string) {
	t.Helper()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { maps.Copy(proxied, c.critest(t, c.ProxySocket(), "-ginkgo.skip", alone+"|"+hopeless)) })
	maps.Copy(direct, c.critest(t, c.ContainerdSocket(), "-ginkgo.skip", alone+"|"+hopeless))
	wg.Wait()
	maps.Copy(direct, c.critest(t, c.ContainerdSocket(), "-ginkgo.focus", alone))
	maps.Copy(proxied, c.critest(t, c.ProxySocket(), "-ginkgo.focus", alone))
}

// evenAfterAll tries a spec again on the side that did not pass it, alone and some times: some are races of containerd's own, such as the
// removal of a container that ends at that moment. It tells whether both sides ended alike at last.
func (c *Cluster) evenAfterAll(t *testing.T, spec, direct string) bool {
	t.Helper()
	socket := c.ProxySocket()
	if direct != "passed" {
		socket = c.ContainerdSocket()
	}
	for range 10 {
		if c.critest(t, socket, "-ginkgo.focus", focusOn(spec))[spec] == "passed" {
			return true
		}
	}
	return false
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// focusOn is a pattern of one spec, from its name in a report: "[It] NAME [Label, Label]".
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
			Name    string  `xml:"name,attr"`
			Status  string  `xml:"status,attr"`
			Time    float64 `xml:"time,attr"` // in seconds
			Failure struct {
				Message string `xml:"message,attr"`
			} `xml:"failure"`
		} `xml:"testsuite>testcase"`
	}
	text, readErr := os.ReadFile(report)
	if readErr != nil {
		t.Errorf("critest: %v, %v\n%s", err, readErr, out)
		return nil
	}
	if err := xml.Unmarshal(text, &suites); err != nil {
		t.Error(err)
	}
	specs, counts := map[string]string{}, map[string]int{}
	for _, s := range suites.Cases {
		if strings.HasPrefix(s.Name, "[It]") && s.Status != "skipped" {
			specs[s.Name] = s.Status
			counts[s.Status]++
			if s.Time > 8 || s.Status != "passed" {
				t.Logf("%s: %s, %.0f s: %s: %s", filepath.Base(socket), s.Status, s.Time, s.Name, firstLine(s.Failure.Message))
			}
		}
	}
	t.Logf("%s: %v in %v", filepath.Base(socket), counts, time.Since(begin).Round(time.Second))
	return specs
}
