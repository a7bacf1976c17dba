package streaming_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	utilexec "k8s.io/utils/exec"
)

func execute(t *testing.T, h *harness, req *runtimeapi.ExecRequest, o remotecommand.StreamOptions) error {
	t.Helper()
	req.ContainerId = h.container
	got, err := h.Server.Exec(req)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(got.Url)
	if err != nil {
		t.Fatal(err)
	}
	e, err := remotecommand.NewSPDYExecutor(&restclient.Config{}, http.MethodPost, u)
	if err != nil {
		t.Fatal(err)
	}
	return e.StreamWithContext(t.Context(), o)
}

func TestExec(t *testing.T) {
	h := newHarness(t)
	var out, stderr bytes.Buffer
	err := execute(t, h, &runtimeapi.ExecRequest{Cmd: []string{"uname", "-a"}, Stdout: true, Stderr: true}, remotecommand.StreamOptions{Stdout: &out, Stderr: &stderr})
	if err != nil || out.String() != "uname -a" || stderr.String() != "said" {
		t.Errorf("%v: %q, %q", err, out.String(), stderr.String())
	}
	out.Reset()
	err = execute(t, h, &runtimeapi.ExecRequest{Cmd: []string{"cat"}, Stdin: true, Stdout: true}, remotecommand.StreamOptions{Stdin: strings.NewReader("typed"), Stdout: &out})
	if err != nil || out.String() != "typed" {
		t.Errorf("%v: %q", err, out.String())
	}
	err = execute(t, h, &runtimeapi.ExecRequest{Cmd: []string{"false"}, Stdout: true}, remotecommand.StreamOptions{Stdout: &out})
	var exit utilexec.ExitError
	if !errors.As(err, &exit) || exit.ExitStatus() != 1 {
		t.Errorf("exit code: %v", err)
	}
	err = execute(t, h, &runtimeapi.ExecRequest{Cmd: []string{"agentless"}, Stdout: true}, remotecommand.StreamOptions{Stdout: &out})
	if err == nil || errors.As(err, &exit) || !strings.Contains(err.Error(), "no guest agent") || strings.HasSuffix(err.Error(), ": unavailable") {
		t.Errorf("without an agent: %v", err)
	}
	out.Reset()
	err = execute(t, h, &runtimeapi.ExecRequest{Cmd: []string{"flood"}, Stdout: true}, remotecommand.StreamOptions{Stdout: &out})
	if err == nil || !strings.Contains(err.Error(), "the output is cut off") || out.Len() != 16<<20 {
		t.Errorf("more than is kept: %v, %d bytes", err, out.Len())
	}
	if _, err := h.Server.Exec(&runtimeapi.ExecRequest{ContainerId: h.container, Cmd: []string{"x"}}); err == nil {
		t.Error("a session without a stream was accepted")
	}
}
