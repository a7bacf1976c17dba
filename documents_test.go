package qemulet_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents are the pages for people, with their text outside of what is
// generated line by line.
func documents(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string]string{}
	for _, path := range append(paths, "README.md", "CONTRIBUTING.md") {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		pages[path] = string(raw)
	}
	return pages
}

var (
	codeBlock  = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	link       = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading    = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	notInNames = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// anchors are the names by which GitHub finds a page's headings.
func anchors(page string) []string {
	var all []string
	for _, h := range heading.FindAllStringSubmatch(codeBlock.ReplaceAllString(page, ""), -1) {
		name := notInNames.ReplaceAllString(strings.ToLower(h[1]), "")
		all = append(all, strings.ReplaceAll(name, " ", "-"))
	}
	return all
}

func TestLinksOfDocumentsLead(t *testing.T) {
	pages := documents(t)
	for from, page := range pages {
		for _, found := range link.FindAllStringSubmatch(codeBlock.ReplaceAllString(page, ""), -1) {
			if strings.Contains(found[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(found[1], "#")
			path := from
			if file != "" {
				path = filepath.Join(filepath.Dir(from), file)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s: the link %s leads nowhere: %v", from, found[1], err)
			} else if anchor != "" && !slices.Contains(anchors(pages[path]), anchor) {
				t.Errorf("%s: the link %s: %s has no such heading", from, found[1], path)
			}
		}
	}
}

// A page that no other names is found by nobody.
func TestReadmeNamesTheDocuments(t *testing.T) {
	pages := documents(t)
	for path := range pages {
		if path != "README.md" && !strings.Contains(pages["README.md"], "("+path+")") {
			t.Errorf("README.md has no link to %s", path)
		}
	}
}

var (
	makeCommand = regexp.MustCompile("(?m)(?:`|^ *|sudo |\\$ )make ((?:[a-z0-9-]+ ?)+)")
	makeTarget  = regexp.MustCompile(`(?m)^([a-z0-9-]+(?: [a-z0-9-]+)*):`)
	codeOfPage  = regexp.MustCompile("(?s)```.*?```|`[^`\n]+`")
)

func TestDocumentsNameMakesTargets(t *testing.T) {
	raw, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, found := range makeTarget.FindAllStringSubmatch(string(raw), -1) {
		targets = append(targets, strings.Fields(found[1])...)
	}
	for path, page := range documents(t) {
		for _, code := range codeOfPage.FindAllString(page, -1) {
			for _, found := range makeCommand.FindAllStringSubmatch(code, -1) {
				for target := range strings.FieldsSeq(found[1]) {
					if !slices.Contains(targets, target) {
						t.Errorf("%s says `make %s`, which the Makefile has not", path, target)
					}
				}
			}
		}
	}
}

var flagOfPage = regexp.MustCompile(`(?:^|[^\w-])--([a-z][a-z0-9-]+)`)

// foreign are flags of other programs that the pages name: crictl, kubectl,
// kubelet, systemd's and curl.
var foreign = strings.Fields(`
	collect delete-emptydir-data enable-controller-attach-detach ignore-daemonsets
	previous root-dir runtime-endpoint system unit unix-socket wait dump-config`)

// ours are texts in which our flags stand: sources of programs, and their tests
// of what has been given up.
func ours(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, pattern := range []string{"cmd/*/*.go", "internal/*/*.go", "deploy/node-install.sh", "deploy/uninstall.sh"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(raw)
		}
	}
	return all.String()
}

// A flag that a page names is one of a program of ours, by its name in quotes
// where flags are declared, or one of those known above.
func TestDocumentsNameFlagsThatAre(t *testing.T) {
	sources := ours(t)
	for path, page := range documents(t) {
		for _, code := range codeOfPage.FindAllString(page, -1) {
			for _, found := range flagOfPage.FindAllStringSubmatch(code, -1) {
				name := found[1]
				if !slices.Contains(foreign, name) && !strings.Contains(sources, `"`+name+`"`) && !strings.Contains(sources, "--"+name+")") {
					t.Errorf("%s names the flag --%s, which no program of ours has; if it is another program's, add it to foreign in %s", path, name, "documents_test.go")
				}
			}
		}
	}
}

func TestReadmeOrDocumentsNameTheExamples(t *testing.T) {
	var all strings.Builder
	for _, page := range documents(t) {
		all.WriteString(page)
	}
	raw, err := os.ReadFile("examples/README.md")
	if err != nil {
		t.Fatal(err)
	}
	all.Write(raw)
	paths, err := filepath.Glob("examples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if !strings.Contains(all.String(), filepath.Base(path)) {
			t.Errorf("no page names %s", path)
		}
	}
}
