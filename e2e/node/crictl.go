package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// crictl makes a command that runs crictl on the node.
func (n *Node) crictl(ctx context.Context, tb testing.TB, args ...string) *exec.Cmd {
	tb.Helper()
	argv := n.ns.enter(append([]string{Binary(tb, "crictl"), "--config", n.path("crictl.yaml")}, args...)...)
	return exec.CommandContext(ctx, argv[0], argv[1:]...)
}

// TryCrictl runs crictl and returns its output, and its error with what it printed on standard error.
func (n *Node) TryCrictl(tb testing.TB, args ...string) (string, error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := n.crictl(ctx, tb, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("crictl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// Crictl runs crictl, which must succeed, and returns its output without surrounding white space.
func (n *Node) Crictl(tb testing.TB, args ...string) string {
	tb.Helper()
	out, err := n.TryCrictl(tb, args...)
	must(tb, err)
	return strings.TrimSpace(out)
}

// CrictlFails runs crictl, which must fail, and returns the error's text.
func (n *Node) CrictlFails(tb testing.TB, args ...string) string {
	tb.Helper()
	out, err := n.TryCrictl(tb, args...)
	if err == nil {
		tb.Fatalf("crictl %s succeeded, expected an error; it printed:\n%s", strings.Join(args, " "), out)
	}
	return err.Error()
}

// CrictlJSON runs crictl and decodes what it prints.
func (n *Node) CrictlJSON(tb testing.TB, into any, args ...string) {
	tb.Helper()
	out := n.Crictl(tb, args...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		tb.Fatalf("crictl %s did not print JSON: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// StartCrictl starts a crictl command that goes on (port-forward, logs -f ...) and ends it with the test.
func (n *Node) StartCrictl(tb testing.TB, args ...string) *bytes.Buffer {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := n.crictl(ctx, tb, args...)
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	must(tb, cmd.Start())
	tb.Cleanup(func() {
		cancel()
		cmd.Wait()
	})
	return out
}
