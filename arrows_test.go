// Package qemulet_test holds what is true of the whole tree and of no single
// package in it.
package qemulet_test

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/qemulet/qemulet/"

// arrows says which rooms each room may import; docs/architecture.md draws
// them. A room is a folder of the top level, or of internal/ or cmd/, with all
// below it. The building blocks come first: they know nothing of Kubernetes
// and nothing of each other.
var arrows = map[string][]string{
	"qmp":       {},
	"qemu":      {"qmp"},
	"netns":     {},
	"disks":     {},
	"cloudinit": {},

	"internal/changes":    {},
	"internal/config":     {},
	"internal/flexvolume": {},
	"internal/console":    {},
	"internal/httpd":      {},
	"internal/ids":        {},
	"internal/images":     {},
	"internal/kube":       {},
	"internal/manual":     {},
	"internal/store":      {},
	"internal/terminal":   {},
	"internal/unixsock":   {},
	"internal/version":    {},
	"internal/vmpod":      {},
	"internal/watchdog":   {},

	"internal/runtime": {
		"cloudinit", "disks", "netns", "qemu", "qmp",
		"internal/console", "internal/flexvolume", "internal/ids", "internal/images", "internal/kube", "internal/store", "internal/unixsock", "internal/vmpod",
	},
	"internal/cri":     {"internal/ids", "internal/images", "internal/runtime"},
	"internal/api":     {"internal/images"},
	"internal/metrics": {"internal/ids", "internal/images", "internal/runtime"},
	"internal/daemon": {
		"disks", "netns", "qemu",
		"internal/api", "internal/changes", "internal/config", "internal/console", "internal/cri", "internal/httpd", "internal/ids", "internal/images", "internal/kube",
		"internal/metrics",
		"internal/runtime", "internal/store", "internal/unixsock", "internal/version", "internal/watchdog",
	},
	"internal/podrun":   {"internal/flexvolume", "internal/kube", "internal/terminal"},
	"internal/qmpshell": {"qmp"},
	"internal/reach":    {"internal/api"},
	"internal/imagecli": {"internal/api", "internal/images", "internal/podrun"},
	"internal/criproxy": {"internal/changes", "internal/ids"},

	"cmd/criproxy":          {"internal/criproxy", "internal/manual", "internal/unixsock", "internal/version", "internal/watchdog"},
	"cmd/flexvolume_driver": {"internal/flexvolume"},
	"cmd/qemuletctl":        {"internal/api", "internal/config", "internal/manual", "internal/qmpshell", "internal/reach", "internal/terminal", "internal/version", "qmp"},
	"cmd/qemulet":           {"disks", "internal/config", "internal/daemon", "internal/imagecli", "internal/manual", "internal/podrun", "internal/version"},
}

func room(pkg string) string {
	parts := strings.Split(strings.TrimPrefix(pkg, module), "/")
	if parts[0] == "internal" || parts[0] == "cmd" {
		return strings.Join(parts[:min(2, len(parts))], "/")
	}
	return parts[0]
}

func TestImportsFollowTheArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	checked := 0
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		pkg, imports, _ := strings.Cut(lines.Text(), " ")
		if !strings.HasPrefix(pkg, module) {
			continue // the root, which has tests only
		}
		checked++
		from := room(pkg)
		allowed, known := arrows[from]
		if !known {
			t.Errorf("%s: the room %s is not on the plan: add it here and in docs/architecture.md", pkg, from)
			continue
		}
		for imported := range strings.FieldsSeq(imports) {
			to := room(imported)
			if strings.HasPrefix(imported, module) && to != from && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s: no arrow leads from %s to %s", pkg, imported, from, to)
			}
		}
	}
	if checked < 10 {
		t.Errorf("only %d packages were checked", checked)
	}
}

// The page says of each room what it is for.
func TestArchitectureNamesTheRooms(t *testing.T) {
	page, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(page), "## Rooms\n")
	list, _, _ = strings.Cut(list, "Arrows run one way")
	for room := range arrows {
		name := strings.TrimPrefix(room, "internal/") + "/"
		if !slices.Contains(strings.Fields(list), name) {
			t.Errorf("docs/architecture.md: the list of rooms lacks %s", name)
		}
	}
}

// The building blocks must stay usable by programs that are no Kubernetes
// runtimes.
func TestBlocksKnowNothingOfKubernetes(t *testing.T) {
	for _, block := range []string{"qmp", "qemu", "netns", "disks", "cloudinit"} {
		out, err := exec.Command("go", "list", "-deps", "./"+block).Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		for dep := range strings.FieldsSeq(string(out)) {
			if strings.HasPrefix(dep, "k8s.io/") {
				t.Errorf("%s depends on %s", block, dep)
			}
		}
	}
}
