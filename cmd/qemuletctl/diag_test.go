package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qemulet/qemulet/internal/api"
)

func TestDiagnosesReadBack(t *testing.T) {
	all, err := readDiagnoses(strings.NewReader(`{"nodes": {"n1": {"files": {"a/b.txt": "text"}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := all.write(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "nodes/n1/a/b.txt")); err != nil || string(got) != "text" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestDiagnosesRefused(t *testing.T) {
	for in, want := range map[string]string{"": "EOF", "{}": "no nodes", "[]": "not what"} {
		if _, err := readDiagnoses(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
	}
	for _, node := range []string{"..", "a/b", "/a", ""} {
		all := diagnoses{Nodes: map[string]api.Diagnosis{node: {}}}
		if err := all.write(t.TempDir()); err == nil || !strings.Contains(err.Error(), "no node's name") {
			t.Errorf("node %q: %v", node, err)
		}
	}
}
