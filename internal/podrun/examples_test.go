package podrun

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/qemulet/qemulet/internal/podrun/volumes"
)

// The examples are the first thing that a newcomer tries.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			m, err := ReadManifest(f)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.containerConfig(0, "image", "10.0.0.1", &volumes.Made{}); err != nil {
				t.Error(err)
			}
		})
	}
}
