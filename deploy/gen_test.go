package deploy

import (
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write base/crd-config.yaml, and what qemuletctl gen prints, anew")

// generated is what qemuletctl has in it, so that gen needs no source.
const generated = "../cmd/qemuletctl/deployment.yaml"

func TestGenPrintsTheBase(t *testing.T) {
	base, err := built()
	if err != nil {
		t.Fatal(err)
	}
	want, err := base.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(generated, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(generated)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Error("cmd/qemuletctl/deployment.yaml is not what base builds: (cd deploy && go test -run TestGenPrintsTheBase . -update)")
	}
}
