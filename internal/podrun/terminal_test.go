package podrun

import (
	"bufio"
	"bytes"
	"strings"
	"testing"
)

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
