package podrun

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
)

func TestCtrlBracketEndsInputOnce(t *testing.T) {
	k := newKeyboard(strings.NewReader("abc\x1ddef"))
	in, detached := k.reader(t.Context())
	got, err := io.ReadAll(in)
	if string(got) != "abc" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	<-detached
}

func TestKeyboardIsHandedOn(t *testing.T) {
	r, w := io.Pipe()
	k := newKeyboard(r)
	ctx, cancel := context.WithCancel(t.Context())
	first, _ := k.reader(ctx)
	cancel()
	if n, err := first.Read(make([]byte, 8)); n != 0 || err != io.EOF {
		t.Errorf("the first reader got %d, %v after its end", n, err)
	}
	second, _ := k.reader(t.Context())
	go func() { _, _ = w.Write([]byte("keys")); _ = w.Close() }()
	got, err := io.ReadAll(iotestOneByte{second})
	if string(got) != "keys" || err != nil {
		t.Errorf("the second reader got %q, %v", got, err)
	}
}

// iotestOneByte reads a byte at a time.
type iotestOneByte struct{ r io.Reader }

func (o iotestOneByte) Read(p []byte) (int, error) { return o.r.Read(p[:1]) }

func TestLogReader(t *testing.T) {
	var out bytes.Buffer
	in := "2026-01-02T03:04:05.000000006Z stdout F one\n" +
		"2026-01-02T03:04:06Z stdout P two \n2026-01-02T03:04:06Z stdout F parts\n" +
		"garbage\n2026-01-02T03:04:07Z stdout F \n2026-01-02T03:04:08Z stdout P half"
	r := &logReader{in: bufio.NewReaderSize(strings.NewReader(in), 16), out: &out}
	if err := r.copy(); err != nil || out.String() != "one\ntwo parts\n\n" {
		t.Errorf("copied %q, %v", out.String(), err)
	}
	out.Reset()
	r = &logReader{in: bufio.NewReader(strings.NewReader(in)), out: &out, timestamps: true}
	if err := r.copy(); err != nil || !strings.Contains(out.String(), "2026-01-02T03:04:06Z two parts\n") {
		t.Errorf("copied %q, %v", out.String(), err)
	}
}

func TestBar(t *testing.T) {
	third := &Pull{Total: 3 << 30, Bytes: 1 << 30, Rate: 1 << 20}
	for _, c := range []struct {
		pull  *Pull
		width int
		want  string
	}{
		{third, 100, "pulling x  [==========                    ]  33%  1.0 GiB of 3.0 GiB, 1.0 MiB/s"},
		{third, 60, "pulling x  [===        ]  33%  1.0 GiB of 3.0 GiB, 1.0 MiB/s"},
		{third, 52, "pulling x   33%  1.0 GiB of 3.0 GiB, 1.0 MiB/s"},
		{third, 20, "pulling x   33%  1.0"},
		{third, -1, ""},
		{&Pull{Total: -1, Bytes: 5}, 80, "pulling x  5 B, 0 B/s"},
		{&Pull{Total: 10, Bytes: 20}, 80, "pulling x  [==============================] 100%  20 B of 10 B, 0 B/s"},
		{&Pull{Waiting: true, Total: -1}, 80, "pulling x  waits for other downloads"},
	} {
		if got := bar("pulling x", c.pull, c.width); got != c.want {
			t.Errorf("bar of %+v in %d columns is\n%q, want\n%q", c.pull, c.width, got, c.want)
		}
	}
}
