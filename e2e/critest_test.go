package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qemulet/qemulet/e2e/node"
)

// critestDigest is of an image in a registry. No disk of ours has it, so critest is given another in its place.
const critestDigest = "9700f9a2f5bf2c45f2f605a0bd3bce7cf37420ec9d3ed50ac2758413308766bf"

// The specs of critest that say how a runtime keeps images. One more there is, "image status get image fields should
// not have Uid|Username empty": it wants the users of four images to be those that their Dockerfiles name. Who
// runs in a virtual machine is decided by the system on the disk, and the disk does not say.
var critestSpecs = map[string][]string{
	"Image Manager": {
		"public image with tag should be pulled and removed",
		"public image should timeout if requested",
		"public image without tag should be pulled and removed",
		"public image with digest should be pulled and removed",
		"image status should support all kinds of references",
		"listImage should get exactly 3 image in the result list",
		"listImage should get exactly 3 repoTags in the result image",
		"removing image by one tag should remove all tags",
		"removing image from one registry should remove all tags from other registries",
	},
	"Image Consistency": {
		"should not list or get image status immediately after removal",
		"should list and get image status immediately after pulling",
		"should not fail on simultaneous RemoveImage calls",
	},
	"Image Identifier Consistency": {
		"should return the same image identifier across all APIs",
		"should return the same image identifier when pulled from different registries",
	},
}

// The names that critest has in it lead, by translation, to disks on a server of ours.
func TestCritest(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	disks := t.TempDir()
	certificate := n.ServeTLS(t, http.FileServer(http.Dir(disks)))
	digest := critestDisks(t, disks)
	n.Translate(t, "critest.yaml", critestTranslation(certificate))

	passed := runCritest(t, n, critestBinary(t, digest), 2*time.Minute, "Image Manager|Image Consistency|Image Identifier Consistency", "Uid")
	wantSpecs(t, passed, critestSpecs)
	n.NoLeaks(t)
}

func wantSpecs(t *testing.T, passed []string, groups map[string][]string) {
	t.Helper()
	var want []string
	for group, specs := range groups {
		for _, spec := range specs {
			want = append(want, group+" "+spec)
		}
	}
	slices.Sort(want)
	slices.Sort(passed)
	if !slices.Equal(passed, want) {
		t.Errorf("passed:\n%s\nwant:\n%s", strings.Join(passed, "\n"), strings.Join(want, "\n"))
	}
}

// The specs of critest that say how a runtime keeps pods and containers, and need nothing in the guest. The rest looks at processes,
// users and mounts of a container in the node's kernel, which a virtual machine has none of, or runs commands, see critestAgentSpecs.
var critestLifeSpecs = map[string][]string{
	"Runtime info runtime should support returning runtime info runtime should return": {"version info", "runtime conditions"},
	"PodSandbox runtime should support basic operations on PodSandbox runtime should support": {
		"running PodSandbox", "stopping PodSandbox", "removing PodSandbox", "preserving PodSandbox attributes",
	},
	"Container runtime should support basic operations on container runtime should support": {
		"creating container", "preserving container attributes", "starting container", "stopping container",
		"removing created container", "removing running container", "removing stopped container",
		"listing container stats", "listing stats for started containers", "listing stats for started containers when filter is nil",
		"listing stats for containers filtered by labels",
	},
	"Container runtime should support log runtime should support": {"reopening container log"},
	"Idempotence": {
		"StopPodSandbox should not return an error if not found", "StopPodSandbox should not return an error if already stopped",
		"RemovePodSandbox should not return an error if not found",
		"StopContainer should not return an error if not found", "StopContainer should not return an error if already stopped",
		"RemoveContainer should not return an error if not found", "RemoveImage should not return an error if not found",
	},
	"Networking runtime should support networking runtime should support": {
		"port mapping with only container port", "port mapping with host port and container port",
	},
	"Streaming runtime should support streaming interfaces runtime should support": {"portforward"},
}

// The specs that run a command in a container, and pass with a guest agent. There are more: a guest agent has no terminals for "exec
// with tty=true"; "exec with tty=false" comes while the guest boots, when a person is told that there is no agent yet; neither DHCP nor
// cloud-init carries the options that "DNS config" looks for; the volumes' guest has no cloud-init to mount them where they belong; and
// sysctls are those of another kernel.
var critestAgentSpecs = map[string][]string{
	"Container runtime should support basic operations on container runtime should support": {"execSync", "execSync with timeout"},
	"Networking runtime should support networking runtime should support":                   {"set hostname"},
}

// A guest that serves a page stands for all containers.
func TestLongCritest(t *testing.T) {
	node.NeedLong(t)
	t.Parallel()
	n, program := critestNode(t, "tiny")
	passed := runCritest(t, n, program, 20*time.Minute,
		"Runtime info|Idempotence|PodSandbox runtime should support basic operations|returning metrics descriptors|"+
			"Container runtime should support basic operations|reopening container log|port mapping with|support portforward",
		"execSync|three created containers|host network")
	wantSpecs(t, passed, critestLifeSpecs)
	n.NoLeaks(t)
}

// A guest with an agent runs commands, also those that are asked for while it boots.
func TestLongCritestAgent(t *testing.T) {
	node.NeedLong(t)
	n, program := critestNode(t, "tiny-9p")
	passed := runCritest(t, n, program, 10*time.Minute, "execSync|set hostname", "$^")
	wantSpecs(t, passed, critestAgentSpecs)
	n.NoLeaks(t)
}

// critestNode is a node on which a guest stands for the containers of critest, and critest itself.
func critestNode(t *testing.T, guest string) (n *node.Node, program string) {
	t.Helper()
	n = node.Start(t, node.Options{})
	n.WriteCNI(t, n.BridgeConfig(`, {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}}`))
	disks := t.TempDir()
	certificate := n.ServeTLS(t, http.FileServer(http.Dir(disks)))
	digest := critestDisks(t, disks)
	check(t, os.Mkdir(filepath.Join(disks, "e2e-test-images"), 0o755))
	for _, name := range []string{"busybox", "nginx"} {
		check(t, os.Symlink(node.Guest(t, guest), filepath.Join(disks, "e2e-test-images", name)))
	}
	n.Translate(t, "critest.yaml", critestTranslation(certificate))
	return n, critestBinary(t, digest)
}

// critestDisks puts the disks into a directory, named as critest names the images, and returns the digest of the one
// that is pulled by digest. A guest that boots stands for what critest starts.
func critestDisks(t *testing.T, dir string) (digest string) {
	t.Helper()
	for _, name := range []string{"test-image-tag", "pause"} {
		check(t, os.Symlink(node.Guest(t, "tiny"), filepath.Join(dir, name)))
	}
	for i, name := range []string{"test-image-latest", "test-image-digest", "test-image-1", "test-image-2", "test-image-3", "test-image-tags"} {
		out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", filepath.Join(dir, name), fmt.Sprintf("%dM", i+1)).CombinedOutput()
		if err != nil {
			t.Fatalf("qemu-img create: %v: %s", err, out)
		}
	}
	disk, err := os.ReadFile(filepath.Join(dir, "test-image-digest"))
	check(t, err)
	sum := sha256.Sum256(disk)
	return hex.EncodeToString(sum[:])
}

func critestTranslation(certificate string) string {
	return `translations:
- regexp: '^(?:gcr\.io/k8s-staging-cri-tools|registry\.k8s\.io|k8s\.gcr\.io)/(.+)$'
  url: https://127.0.0.1/$1
transports:
  "":
    tls:
      certificates:
      - cert: |
          ` + strings.ReplaceAll(strings.TrimSpace(certificate), "\n", "\n          ") + "\n"
}

// critestBinary is critest with another digest in it.
func critestBinary(t *testing.T, digest string) string {
	t.Helper()
	program, err := os.ReadFile(node.Binary(t, "critest"))
	check(t, err)
	if !bytes.Contains(program, []byte(critestDigest)) {
		t.Fatalf("critest does not pull by the digest %s any more", critestDigest)
	}
	path := filepath.Join(t.TempDir(), "critest")
	check(t, os.WriteFile(path, bytes.ReplaceAll(program, []byte(critestDigest), []byte(digest)), 0o755))
	return path
}

// runCritest runs the specs that are in focus and not skipped, on the node, and returns those that passed.
func runCritest(t *testing.T, n *node.Node, program string, limit time.Duration, focus, skip string) (passed []string) {
	t.Helper()
	report := filepath.Join(t.TempDir(), "report.xml")
	argv := n.Enter(program, "-runtime-endpoint", "unix://"+n.Socket(), "-ginkgo.junit-report", report, "-ginkgo.no-color",
		"-ginkgo.timeout", limit.String(), "-ginkgo.focus", focus, "-ginkgo.skip", skip)
	out, err := exec.CommandContext(seconds(t, int(limit.Seconds())+30), argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Errorf("critest: %v\n%s", err, out)
	}
	var suites struct {
		Cases []struct {
			Name   string `xml:"name,attr"`
			Status string `xml:"status,attr"`
		} `xml:"testsuite>testcase"`
	}
	text, err := os.ReadFile(report)
	check(t, err)
	check(t, xml.Unmarshal(text, &suites))
	for _, c := range suites.Cases {
		// The labels behind the name, [Conformance] and others, are not part of it.
		name, _, _ := strings.Cut(strings.TrimPrefix(c.Name, "[It] [k8s.io] "), " [")
		if c.Status == "passed" && strings.HasPrefix(c.Name, "[It]") {
			passed = append(passed, name)
		}
	}
	return passed
}
