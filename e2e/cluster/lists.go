package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qemulet/qemulet/e2e/node"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ListWatch asks the proxy for the lists that kubelet lives by, again and again, and remembers what was wrong with them.
type ListWatch struct {
	client runtimeapi.RuntimeServiceClient
	conn   *grpc.ClientConn
	want   map[string]string // id -> what it is
	cancel context.CancelFunc
	done   chan struct{}

	// Answers is how many lists were answered.
	Answers atomic.Int64
	// Errors is what the others failed with, and Missing what was not in an answer. They are valid after Stop.
	Errors  map[string]int
	Missing []string
}

// WatchLists watches that no container and no sandbox that is there now is ever missing from a list.
func (c *Cluster) WatchLists(tb testing.TB) *ListWatch {
	tb.Helper()
	conn, err := grpc.NewClient("unix://"+c.ProxySocket(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithConnectParams(node.QuickReconnect))
	must(tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	w := &ListWatch{client: runtimeapi.NewRuntimeServiceClient(conn), conn: conn, cancel: cancel, done: make(chan struct{}), Errors: map[string]int{}}
	w.want, err = w.ids(ctx)
	must(tb, err)
	go w.watch(ctx)
	return w
}

// WaitAnswers waits until that many more lists were answered.
func (w *ListWatch) WaitAnswers(tb testing.TB, n int64) {
	tb.Helper()
	target := w.Answers.Load() + n
	eventually(tb, time.Minute, "lists are answered", func() error {
		if w.Answers.Load() < target {
			return errors.New("no answers")
		}
		return nil
	})
}

// Stop ends the watch.
func (w *ListWatch) Stop() {
	w.cancel()
	<-w.done
	w.conn.Close()
}

func (w *ListWatch) watch(ctx context.Context) {
	defer close(w.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(10 * time.Millisecond):
		}
		now, err := w.ids(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			w.Errors[err.Error()]++
			continue
		}
		w.Answers.Add(1)
		for id, what := range w.want {
			if now[id] != what {
				w.Missing = append(w.Missing, fmt.Sprintf("%s %s is now %q", id[:12], what, now[id]))
			}
		}
	}
}

// ids are all sandboxes and containers, with their states.
func (w *ListWatch) ids(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	sandboxes, err1 := w.client.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	containers, err2 := w.client.ListContainers(ctx, &runtimeapi.ListContainersRequest{})
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, s := range sandboxes.GetItems() {
		all[s.GetId()] = fmt.Sprintf("sandbox of %s %s", s.GetMetadata().GetName(), s.GetState())
	}
	for _, c := range containers.GetContainers() {
		all[c.GetId()] = fmt.Sprintf("container %s %s", c.GetMetadata().GetName(), c.GetState())
	}
	return all, nil
}

// ErrorTexts are the different errors, sorted.
func (w *ListWatch) ErrorTexts() []string { return slices.Sorted(maps.Keys(w.Errors)) }

// waitServed waits until a runtime answers at a socket.
func waitServed(tb testing.TB, socket string) {
	tb.Helper()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithConnectParams(node.QuickReconnect))
	must(tb, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	eventually(tb, time.Minute, socket+" is served", func() error {
		_, err := runtimeapi.NewRuntimeServiceClient(conn).Version(ctx, &runtimeapi.VersionRequest{}, grpc.WaitForReady(true))
		return err
	})
}
