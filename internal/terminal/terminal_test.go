package terminal

import (
	"context"
	"io"
	"strings"
	"testing"
)

func TestCtrlBracketEndsInputOnce(t *testing.T) {
	k := NewKeyboard(strings.NewReader("abc\x1ddef"))
	in, detached := k.Reader(t.Context())
	got, err := io.ReadAll(in)
	if string(got) != "abc" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	<-detached
}

func TestKeyboardIsHandedOn(t *testing.T) {
	r, w := io.Pipe()
	k := NewKeyboard(r)
	ctx, cancel := context.WithCancel(t.Context())
	first, _ := k.Reader(ctx)
	cancel()
	if n, err := first.Read(make([]byte, 8)); n != 0 || err != io.EOF {
		t.Errorf("the first reader got %d, %v after its end", n, err)
	}
	second, _ := k.Reader(t.Context())
	go func() { _, _ = w.Write([]byte("keys")); _ = w.Close() }()
	got, err := io.ReadAll(iotestOneByte{second})
	if string(got) != "keys" || err != nil {
		t.Errorf("the second reader got %q, %v", got, err)
	}
}

// iotestOneByte reads a byte at a time.
type iotestOneByte struct{ r io.Reader }

func (o iotestOneByte) Read(p []byte) (int, error) { return o.r.Read(p[:1]) }
