package node

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// Top is the folder of the clone.
func Top() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Guest returns the path of a built guest image: "tiny", "tiny-9p", "debian" or "node". It fails when the image was not built.
func Guest(tb testing.TB, name string) string {
	tb.Helper()
	path, err := guestPath(name)
	if err != nil {
		tb.Fatalf("guest %s: %v", name, err)
	}
	if _, err := os.Stat(path); err != nil {
		tb.Fatalf("guest %s is not built: run \"make guest-%s\"", name, name)
	}
	return path
}

// guestPaths remembers what build.sh answered, which reads every file of a recipe to answer.
var guestPaths sync.Map

func guestPath(name string) (string, error) {
	if p, ok := guestPaths.Load(name); ok {
		return p.(string), nil
	}
	out, err := exec.Command(filepath.Join(Top(), "e2e/guests/build.sh"), "--path", name).Output()
	if err != nil {
		return "", fmt.Errorf("build.sh --path: %w", err)
	}
	path := strings.TrimSpace(string(out))
	guestPaths.Store(name, path)
	return path, nil
}

// Binary returns the path of a program in bin/, or of the one that E2E_BIN names instead of bin/.
func Binary(tb testing.TB, name string) string {
	tb.Helper()
	dir := os.Getenv("E2E_BIN")
	if dir == "" {
		dir = filepath.Join(Top(), "bin")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		tb.Fatalf("%s is not built: run \"make build crictl critest\"", path)
	}
	return path
}
