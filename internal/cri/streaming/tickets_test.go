package streaming

import (
	"net/http"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

func TestTickets(t *testing.T) {
	now := time.Now()
	book := tickets{now: func() time.Time { return now }}
	serve := session(func(http.ResponseWriter, *http.Request, *connection) {})
	issue := func() string {
		t.Helper()
		token, err := book.issue("attach", serve)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	token := issue()
	if book.redeem("portforward", token) != nil {
		t.Error("a ticket is good for another kind of session")
	}
	if book.redeem("attach", token) == nil {
		t.Error("a fresh ticket is not good")
	}
	if book.redeem("attach", token) != nil {
		t.Error("a ticket is good twice")
	}
	if book.redeem("attach", "") != nil {
		t.Error("no ticket is good")
	}
	old := issue()
	now = now.Add(ticketLife + time.Second)
	if book.redeem("attach", old) != nil {
		t.Error("an old ticket is good")
	}
}

func TestTicketsAreBounded(t *testing.T) {
	now := time.Now()
	book := tickets{now: func() time.Time { return now }}
	for range maxTickets {
		if _, err := book.issue("attach", nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := book.issue("attach", nil); !errdefs.IsResourceExhausted(err) {
		t.Errorf("got %v, want that resources are exhausted", err)
	}
	now = now.Add(ticketLife + time.Second)
	if _, err := book.issue("attach", nil); err != nil {
		t.Errorf("old tickets are in the way: %v", err)
	}
	if len(book.all) != 1 {
		t.Errorf("%d tickets are kept", len(book.all))
	}
}
