package node

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestNodeIsApartAndGone(t *testing.T) {
	before, err := namespaceLinks()
	must(t, err)
	var n *Node
	t.Run("node", func(t *testing.T) {
		n = New(t, Options{})
		n.Web.Bytes(t, "page", []byte("hello"))
		r, err := n.HTTPClient().Get("http://127.0.0.1/page.qcow2")
		must(t, err)
		body, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if string(body) != "hello" {
			t.Errorf("served %q", body)
		}
		n.Mark(t)
		n.NoLeaks(t)
	})
	if _, err := os.Stat(n.Dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", n.Dir, err)
	}
	if _, err := os.Stat(n.ns.path()); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", n.ns.path(), err)
	}
	after, err := namespaceLinks()
	must(t, err)
	if before != after {
		t.Errorf("the machine's own links have changed:\n%s\n%s", before, after)
	}
}

func namespaceLinks() (string, error) {
	out, err := exec.Command("ip", "-o", "link").Output()
	return string(out), err
}

// Every kind of thing that a VM could leave behind must be seen, or NoLeaks proves nothing.
func TestLeaksSeesEverything(t *testing.T) {
	n := New(t, Options{})
	n.Mark(t)
	must(t, os.MkdirAll(n.path("run", "vm", "abc"), 0o755))
	must(t, os.MkdirAll(n.path("state", "images", "data"), 0o755))
	must(t, os.WriteFile(n.path("state", "images", "data", "part_1"), nil, 0o644))
	must(t, os.WriteFile(n.path("state", "images", "data", "whole"), nil, 0o644))
	must(t, os.MkdirAll(n.path("ipam", "e2e"), 0o755))
	must(t, os.WriteFile(n.path("ipam", "e2e", "10.88.0.2"), nil, 0o644))
	must(t, os.WriteFile(n.path("ipam", "e2e", "last_reserved_ip.0"), nil, 0o644))
	must(t, os.WriteFile(n.path("netns", "qemulet-1"), nil, 0o644))
	must(t, command("mount", "--bind", n.path("netns", "qemulet-1"), n.path("netns", "qemulet-1")))
	must(t, command("ip", "-n", n.ns.name, "link", "add", "veth0", "type", "veth", "peer", "name", "veth1"))
	must(t, command("ip", "-n", n.ns.name, "link", "add", bridge, "type", "bridge"))
	cgroup := "/sys/fs/cgroup/pids"
	if _, err := os.Stat(cgroup); err != nil {
		cgroup = "/sys/fs/cgroup"
	}
	must(t, os.MkdirAll(cgroup+n.CgroupParent()+"/pod1/qemulet-1", 0o755))
	inside := exec.Command("nsenter", "--net="+n.ns.path(), "sleep", "1000")
	must(t, inside.Start())
	byFile := exec.Command("sleep", "1001")
	byFile.Dir = n.path("run")
	must(t, byFile.Start())

	leaks := strings.Join(n.Leaks(), "\n")
	for _, want := range []string{
		"process", "sleep 1000", "sleep 1001", "file run/vm/abc", "file state/images/data/part_1", "address e2e/10.88.0.2",
		"network namespace qemulet-1", "mount ", "link veth0", "link veth1", "pod1/qemulet-1",
	} {
		if !strings.Contains(leaks, want) {
			t.Errorf("no %q among\n%s", want, leaks)
		}
	}
	for _, not := range []string{"last_reserved", bridge, "data/whole"} {
		if strings.Contains(leaks, not) {
			t.Errorf("%q is no leak:\n%s", not, leaks)
		}
	}
	go inside.Wait()
	go byFile.Wait()
}

func TestReadLog(t *testing.T) {
	path := t.TempDir() + "/0.log"
	write := func(text string) { must(t, os.WriteFile(path, []byte(text), 0o644)) }
	write("2026-01-01T00:00:00.000000001Z stdout P ab\n2026-01-01T00:00:00.000000002Z stdout F c\n2026-01-01T00:00:01Z stdout F \n2026-01-01T00:00:02Z stdout P login: \n2026-01-0")
	lines, err := ReadLog(path)
	must(t, err)
	if len(lines) != 3 || lines[0].Text != "abc" || lines[1].Text != "" || lines[2].Text != "login: " || lines[2].Full {
		t.Errorf("%+v", lines)
	}
	for _, bad := range []string{"text\n", "2026-01-01T00:00:01Z stdout X a\n", "2026-01-01T00:00:02Z stdout F a\n2026-01-01T00:00:01Z stdout F b\n"} {
		write(bad)
		if _, err := ReadLog(path); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
