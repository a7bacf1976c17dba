// Package e2e runs the real daemon, real QEMU, real CNI plugins and crictl, and holds them to what the project promises.
package e2e

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qemulet/qemulet/e2e/node"
)

func TestMain(m *testing.M) {
	status := m.Run()
	node.RemoveFailpointBinary()
	os.Exit(status)
}

// seconds gives a call's context that many.
func seconds(t testing.TB, n int) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(n)*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mentions fails unless the text contains every one of the words, in any case of letters.
func mentions(t testing.TB, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(strings.ToLower(text), strings.ToLower(w)) {
			t.Errorf("%q does not mention %q", text, w)
		}
	}
}

// matches fails unless the text matches the pattern.
func matches(t testing.TB, what, text, pattern string) {
	t.Helper()
	if !regexp.MustCompile(pattern).MatchString(text) {
		t.Errorf("%s: %q does not match %q", what, text, pattern)
	}
}
