package runtime

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/ids"
	"github.com/qemulet/qemulet/internal/store"
)

func TestLinesNameTheVM(t *testing.T) {
	var out bytes.Buffer
	r := &Runtime{Options: Options{Log: slog.New(slog.NewJSONHandler(&out, nil))}}
	sandbox, id := ids.New(), ids.New()
	p := newPod(&store.Sandbox{ID: sandbox, Config: store.Message[*runtimeapi.PodSandboxConfig]{M: &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Namespace: "shop", Name: "db-0", Uid: "u-1"},
	}}})
	r.vmLog(newVM(p, &store.Container{ID: id})).Warn("it is late")
	var line map[string]string
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"msg": "it is late", "namespace": "shop", "pod": "db-0", "uid": "u-1", "sandbox": sandbox, "vm": ids.Short(id), "container": id,
	} {
		if line[key] != want {
			t.Errorf("%s is %q instead of %q", key, line[key], want)
		}
	}
}

// Lines about a pod or a VM are written through podLog and vmLog.
func TestNoLineNamesItsObjectByItself(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	byItself := regexp.MustCompile(`\.(Debug|Info|Warn|Error)\(.*"(pod|namespace|uid|container|vm)",`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			if !strings.HasSuffix(file, "_test.go") && byItself.MatchString(line) {
				t.Errorf("%s:%d: %s", file, i+1, strings.TrimSpace(line))
			}
		}
	}
}
