package streaming

import (
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

const (
	ticketLife = time.Minute
	maxTickets = 1000
)

// tickets are the URLs that were handed out and not used yet. A ticket is the
// only proof that a client may use a session, so it cannot be guessed, works
// once, and not for long.
type tickets struct {
	now func() time.Time

	mu  sync.Mutex
	all map[string]ticket
}

type ticket struct {
	kind    string
	serve   session
	expires time.Time
}

func (t *tickets) issue(kind string, serve session) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for token, one := range t.all {
		if now.After(one.expires) {
			delete(t.all, token)
		}
	}
	if len(t.all) >= maxTickets {
		return "", fmt.Errorf("%d sessions are waiting for their clients already, try again in a minute: %w", maxTickets, errdefs.ErrResourceExhausted)
	}
	if t.all == nil {
		t.all = map[string]ticket{}
	}
	token := rand.Text()
	t.all[token] = ticket{kind: kind, serve: serve, expires: now.Add(ticketLife)}
	return token, nil
}

// redeem returns nil for a ticket that is not valid (any more).
func (t *tickets) redeem(kind, token string) session {
	t.mu.Lock()
	defer t.mu.Unlock()
	one, ok := t.all[token]
	if !ok || one.kind != kind {
		return nil
	}
	delete(t.all, token)
	if t.now().After(one.expires) {
		return nil
	}
	return one.serve
}
