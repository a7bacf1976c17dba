package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// oneVM is a node with the pod default/web.
type oneVM struct{ guest net.Conn }

func (oneVM) there(namespace, name string) error {
	if namespace+"/"+name != "default/web" {
		return fmt.Errorf("no pod %s/%s: %w", namespace, name, errdefs.ErrNotFound)
	}
	return nil
}

func (oneVM) Node(context.Context) Node { return Node{Version: "1"} }

func (oneVM) List(context.Context) []VM {
	return []VM{{Namespace: "default", Name: "web", IPs: []string{}}}
}

func (m oneVM) Get(_ context.Context, namespace, name string) (VMDetails, error) {
	return VMDetails{Machine: "q35"}, m.there(namespace, name)
}

func (m oneVM) Stats(_ context.Context, namespace, name string) (VMStats, error) {
	return VMStats{RSS: 5}, m.there(namespace, name)
}

func (m oneVM) Do(_ context.Context, namespace, name string, verb Verb) (VM, error) {
	if verb == Suspend {
		return VM{}, fmt.Errorf("it is exited: %w", errdefs.ErrFailedPrecondition)
	}
	return VM{State: State("after " + verb)}, m.there(namespace, name)
}

func (m oneVM) Console(_ context.Context, namespace, name string) (func(context.Context, io.Reader, io.Writer) error, error) {
	return func(_ context.Context, in io.Reader, out io.Writer) error {
		line, err := bufio.NewReader(in).ReadString('\n')
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "you said %s", line)
		return errors.New("too slow")
	}, m.there(namespace, name)
}

func (m oneVM) Dial(_ context.Context, namespace, name string, port uint16) (net.Conn, error) {
	if port == 23 {
		return nil, errors.New("connection refused")
	}
	return m.guest, m.there(namespace, name)
}

func serveVM(t *testing.T, m oneVM) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(Handler(Options{Machines: m, Metrics: http.NotFoundHandler(), Sessions: http.NotFoundHandler()}))
	t.Cleanup(s.Close)
	return s
}

func TestVMs(t *testing.T) {
	url := serveVM(t, oneVM{}).URL
	for _, test := range []struct {
		method, path string
		code         int
		words        string
	}{
		{"GET", NodePath, 200, `"version":"1"`},
		{"GET", VMsPath, 200, `[{"namespace":"default"`},
		{"GET", VMPath("default", "web"), 200, `"machine":"q35"`},
		{"GET", VMPath("default", "web", "stats"), 200, `"rss":5`},
		{"GET", VMPath("default", "none"), 404, "no pod default/none"},
		{"GET", VMPath("default", "none", "stats"), 404, "no pod default/none"},
		{"POST", VMPath("default", "web", "reset"), 200, `"state":"after reset"`},
		{"POST", VMPath("default", "web", "suspend"), 409, "it is exited"},
		{"POST", VMPath("default", "web", "explode"), 404, ""},
		{"GET", VMPath("default", "web", "reset"), 405, ""},
		{"GET", VMPath("default", "web", "console"), 426, "is a stream of bytes"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), test.method, url+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if code, body := read(t, res); code != test.code || !strings.Contains(body, test.words) {
			t.Errorf("%s %s: %d %s", test.method, test.path, code, body)
		}
	}
}

// open asks for a stream and returns the answer's status line, and the stream.
func open(t *testing.T, s *httptest.Server, path string) (string, *bufio.Reader, net.Conn) {
	t.Helper()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\nhello\n", path, StreamProtocol)
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	status := res.Status
	if res.StatusCode != http.StatusSwitchingProtocols {
		_, body := read(t, res)
		status += ": " + body
	}
	return status, r, conn
}

// What is sent right behind the question belongs to the stream; who is cut off is
// told why.
func TestConsoleStream(t *testing.T) {
	s := serveVM(t, oneVM{})
	status, r, _ := open(t, s, VMPath("default", "web", "console"))
	all, err := io.ReadAll(r)
	if !strings.HasPrefix(status, "101") || err != nil || string(all) != "you said hello\n\r\n[too slow]\r\n" {
		t.Errorf("%s: %q, %v", status, all, err)
	}
	if status, _, _ := open(t, s, VMPath("default", "none", "console")); !strings.HasPrefix(status, "404") {
		t.Errorf("%s", status)
	}
}

func TestPortStream(t *testing.T) {
	near, far := net.Pipe()
	s := serveVM(t, oneVM{guest: near})
	status, r, conn := open(t, s, VMPath("default", "web", "port", "22"))
	got := make([]byte, 6)
	if _, err := io.ReadFull(far, got); err != nil || string(got) != "hello\n" || !strings.HasPrefix(status, "101") {
		t.Errorf("%s: %q, %v", status, got, err)
	}
	io.WriteString(far, "SSH-2")
	if _, err := io.ReadFull(r, got[:5]); err != nil || string(got[:5]) != "SSH-2" {
		t.Errorf("%q, %v", got[:5], err)
	}
	conn.Close()
	if _, err := far.Read(got); err != io.EOF {
		t.Errorf("the guest's end after the client's: %v", err)
	}
	for path, want := range map[string]string{"0": "400", "70000": "400", "ssh": "400", "23": "500 Internal Server Error: connection refused"} {
		if status, _, _ := open(t, s, VMPath("default", "web", "port", path)); !strings.HasPrefix(status, want) {
			t.Errorf("port %s: %s", path, status)
		}
	}
}

func TestStatesInJSON(t *testing.T) {
	raw, err := json.Marshal(VM{State: StateNone, IPs: []string{}})
	if err != nil || strings.Contains(string(raw), "startedAt") || !strings.Contains(string(raw), `"ips":[]`) {
		t.Errorf("%s, %v", raw, err)
	}
}
