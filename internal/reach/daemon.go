package reach

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Dialer opens a connection to an api socket. The caller closes it.
type Dialer func(ctx context.Context) (net.Conn, error)

// Daemon is the daemon of one node. Its methods may be called concurrently.
type Daemon struct {
	// Node is the node's name.
	Node string
	// Way says in words how it is reached, for errors.
	Way string

	dial   Dialer
	client *http.Client
}

// NewDaemon makes a Daemon that is reached by dial. The caller closes it.
func NewDaemon(node, way string, dial Dialer) *Daemon {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}
	return &Daemon{Node: node, Way: way, dial: dial, client: &http.Client{Transport: transport}}
}

// Close ends connections that are not in use.
func (d *Daemon) Close() { d.client.CloseIdleConnections() }

// RefusedError is what the daemon answered instead of doing what was asked.
type RefusedError struct {
	// Code is HTTP's: 404 when the pod, or the path, is not there.
	Code int
	// Words are the daemon's.
	Words string
}

func (e *RefusedError) Error() string { return e.Words }

// NotFound tells whether the daemon said that something is not there.
func NotFound(err error) bool {
	var refused *RefusedError
	return errors.As(err, &refused) && refused.Code == http.StatusNotFound
}

// callLimit is how long an answer may take, and openLimit the opening of a stream.
const (
	callLimit = time.Minute
	openLimit = 30 * time.Second
)

// bounded gives ctx a limit that is told in words.
func bounded(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v", limit))
}

// Call asks the daemon and decodes the JSON of its answer; into may be nil. A
// refusal is a *RefusedError.
func (d *Daemon) Call(ctx context.Context, method, path string, query url.Values, into any) error {
	ctx, cancel := bounded(ctx, callLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, address(path, query), nil)
	if err != nil {
		return err
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return d.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(path, resp)
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("the answer of the daemon on node %s to %s: %w", d.Node, path, err)
	}
	return nil
}

func address(path string, query url.Values) string {
	u := url.URL{Scheme: "http", Host: "daemon", Path: path, RawQuery: query.Encode()}
	return u.String()
}

func refusal(path string, resp *http.Response) error {
	words, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	return &RefusedError{Code: resp.StatusCode, Words: cmp.Or(strings.TrimSpace(string(words)), path+": "+resp.Status)}
}

// unreachable says which daemon it was, and leaves out what is HTTP's.
func (d *Daemon) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err
	}
	var session *ExecError
	if errors.As(err, &session) {
		err = session
	}
	return fmt.Errorf("the daemon of node %s cannot be asked %s: %w", d.Node, d.Way, err)
}
