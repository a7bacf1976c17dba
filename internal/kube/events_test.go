package kube

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// eventServer keeps what is written to it.
type eventServer struct {
	*httptest.Server
	mu      sync.Mutex
	refuse  int // a status for all requests, 0 for none
	calls   []string
	created []corev1.Event
}

func newEventServer(t *testing.T) *eventServer {
	t.Helper()
	s := &eventServer{}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *eventServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, r.Method+" "+r.URL.Path)
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/json")
	if s.refuse != 0 {
		w.WriteHeader(s.refuse)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d,"message":"no"}`,
			map[int]string{403: "Forbidden", 404: "NotFound"}[s.refuse], s.refuse)
		return
	}
	if r.Method == http.MethodPost {
		var e corev1.Event
		if err := json.Unmarshal(body, &e); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		e.ResourceVersion = "1"
		s.created = append(s.created, e)
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(e)
		return
	}
	var patch struct{ Count int32 }
	last := &s.created[len(s.created)-1]
	if err := json.Unmarshal(body, &patch); err == nil {
		last.Count = patch.Count
	}
	_ = json.NewEncoder(w).Encode(last)
}

func (s *eventServer) setRefuse(code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = code
}

// seen waits until so many calls have come.
func (s *eventServer) seen(t *testing.T, calls int) ([]string, []corev1.Event) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		got, created := append([]string(nil), s.calls...), append([]corev1.Event(nil), s.created...)
		s.mu.Unlock()
		if len(got) >= calls {
			return got, created
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d calls instead of %d: %v", len(got), calls, got)
		}
	}
}

func (s *eventServer) events(t *testing.T) (*Events, *logBuffer) {
	t.Helper()
	file := writeFile(t, "kubeconfig", fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: k}}], clusters: [{name: k, cluster: {server: %q}}]}`, s.URL))
	log := &logBuffer{}
	e := (&API{Kubeconfig: file, Timeout: 5 * time.Second}).Events("node-1", slog.New(slog.NewTextHandler(log, nil)))
	t.Cleanup(e.Close)
	return e, log
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestEvents(t *testing.T) {
	s := newEventServer(t)
	e, _ := s.events(t)
	e.Tell(testPod, true, "GuestPanic", "the guest's kernel panicked")
	e.Tell(testPod, true, "GuestPanic", "the guest's kernel panicked")
	e.Tell(testPod, false, "GuestReset", "the guest restarted")
	calls, created := s.seen(t, 3)
	if !strings.HasPrefix(calls[0], "POST /api/v1/namespaces/"+testPod.Namespace+"/events") || !strings.HasPrefix(calls[1], "PATCH ") || len(created) != 2 {
		t.Fatalf("calls %v, Events %v", calls, created)
	}
	first := created[0]
	want := corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: testPod.Namespace, Name: testPod.Name, UID: "uid"}
	want.UID = first.InvolvedObject.UID
	if first.InvolvedObject != want || string(want.UID) != testPod.UID {
		t.Errorf("it is about %+v", first.InvolvedObject)
	}
	if first.Reason != "GuestPanic" || first.Message != "the guest's kernel panicked" || first.Type != "Warning" || first.Count != 2 ||
		first.Source != (corev1.EventSource{Component: "qemulet", Host: "node-1"}) || created[1].Type != "Normal" {
		t.Errorf("Events %+v", created)
	}
}

// A guest that restarts for ever does not flood the API server.
func TestEventsAreBounded(t *testing.T) {
	s := newEventServer(t)
	e, _ := s.events(t)
	for i := range 200 {
		e.Tell(testPod, false, "GuestReset", fmt.Sprintf("restart %d", i))
	}
	other := testPod
	other.Name, other.UID = "last", "last"
	e.Tell(other, false, "GuestReset", "the guest restarted")
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		calls, created := s.seen(t, 1)
		if len(created) > 0 && created[len(created)-1].InvolvedObject.Name == "last" {
			if len(calls) > 40 {
				t.Errorf("%d calls", len(calls))
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the last one is missing")
		}
	}
}

// Without the right one line is logged, and nothing is tried twice.
func TestEventsForbidden(t *testing.T) {
	s := newEventServer(t)
	s.setRefuse(403)
	e, log := s.events(t)
	for i := range 3 {
		e.Tell(testPod, true, fmt.Sprintf("Reason%d", i), "text")
	}
	if calls, _ := s.seen(t, 3); len(calls) != 3 {
		t.Errorf("calls %v", calls)
	}
	s.setRefuse(0)
	e.Tell(testPod, true, "Last", "text")
	s.seen(t, 4)
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "the verbs create and patch for events") {
		t.Errorf("logged: %s", got)
	}
}

// The pods of one machine are none of the cluster's.
func TestEventsWithoutNamespace(t *testing.T) {
	s := newEventServer(t)
	s.setRefuse(404)
	e, log := s.events(t)
	e.Tell(testPod, true, "One", "text")
	e.Tell(testPod, true, "Two", "text")
	if calls, _ := s.seen(t, 2); len(calls) != 2 || log.String() != "" {
		t.Errorf("calls %v, logged: %s", calls, log.String())
	}
}

func TestEventsWithoutAPIServer(t *testing.T) {
	t.Setenv(serviceHost, "")
	log := &logBuffer{}
	e := (&API{}).Events("node-1", slog.New(slog.NewTextHandler(log, nil)))
	e.Tell(testPod, true, "One", "text")
	e.Close()
	if log.String() != "" {
		t.Errorf("logged: %s", log.String())
	}
}

// A server that is away holds nobody up, and is told of once.
func TestEventsServerAway(t *testing.T) {
	s := newEventServer(t)
	e, log := s.events(t)
	s.Close()
	begin := time.Now()
	for range 2000 {
		e.Tell(testPod, true, "One", "text")
	}
	for deadline := time.Now().Add(10 * time.Second); log.String() == "" && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	e.Close()
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "Events cannot be written at the moment") {
		t.Errorf("logged: %s", got)
	}
}
