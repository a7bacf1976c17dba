package console

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestLineFormat(t *testing.T) {
	var l lines
	l.begin(time.Date(2026, 2, 3, 4, 5, 6, 7000, time.FixedZone("", 3600)), false)
	l.fill([]byte("hello\r\n"), restWaits)
	equal(t, string(l.out), "2026-02-03T03:05:06.000007000Z stdout F hello\n")
}

func TestPieces(t *testing.T) {
	long := strings.Repeat("x", maxPiece)
	for _, c := range []struct {
		name, raw string
		rest      rest
		open      bool
		want      string
		left      string
	}{
		{name: "nothing", raw: ""},
		{name: "empty line", raw: "\n", want: "F \n"},
		{name: "carriage returns of two terminals", raw: "a\r\r\n", want: "F a\n"},
		{name: "carriage return inside", raw: "a\rb\n", want: "F a\rb\n"},
		{name: "text waits", raw: "a\nlogin: ", want: "F a\n", left: "login: "},
		{name: "text shows", raw: "a\nlogin: ", rest: restShows, want: "F a\nP login: \n"},
		{name: "carriage return does not show", raw: "a\r", rest: restShows, want: "P a\n", left: "\r"},
		{name: "only carriage return", raw: "\r", rest: restShows, left: "\r"},
		{name: "last text", raw: "bye", rest: restIsFinal, want: "F bye\n"},
		{name: "last text is closed", raw: "", rest: restIsFinal, open: true, want: "F \n"},
		{name: "last carriage return", raw: "\r", rest: restIsFinal, left: "\r"},
		{name: "exactly fits", raw: long + "\r\n", want: "F " + long + "\n"},
		{name: "may still fit", raw: long, left: long},
		{name: "one too long", raw: long + "y\n", want: "P " + long + "\nF y\n"},
		{name: "too long without newline", raw: long + "y", want: "P " + long + "\n", left: "y"},
		{name: "not split before a carriage return", raw: long[1:] + "\r\r\ny", want: "F " + long[1:] + "\n", left: "y"},
		{name: "not split after a carriage return", raw: long[1:] + "\ry\n", want: "P " + long[1:] + "\nF \ry\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var l lines
			l.begin(time.Now(), c.open)
			used := l.fill([]byte(c.raw), c.rest)
			equal(t, short(parse(t, string(l.out))), c.want)
			equal(t, c.raw[used:], c.left)
		})
	}
}

// Whatever the pieces in which output comes and waits: a reader of the log
// sees every byte once, except for carriage returns at the end of lines.
func TestNothingLostInFormat(t *testing.T) {
	word := rapid.SampledFrom([]string{"", "a", "ä", "\r", "\n", "\r\n", "login: ", "\x00\x1b[0m", strings.Repeat("l", maxPiece-1)})
	rapid.Check(t, func(rt *rapid.T) {
		raw := strings.Join(rapid.SliceOf(word).Draw(rt, "words"), "")
		var log strings.Builder
		var l lines
		seen, used := 0, 0
		for seen < len(raw) {
			seen += rapid.IntRange(1, len(raw)-seen).Draw(rt, "more")
			r := rapid.SampledFrom([]rest{restWaits, restShows}).Draw(rt, "rest")
			if seen == len(raw) {
				r = restIsFinal
			}
			for {
				l.begin(time.Unix(0, 0), l.open)
				used += l.fill([]byte(raw[used:seen]), r)
				if len(l.out) == 0 {
					break
				}
				log.Write(l.out)
			}
		}
		want := strings.TrimRight(asRead(raw), "\r")
		if want != "" && !strings.HasSuffix(want, "\n") {
			want += "\n"
		}
		if got := joined(parse(t, log.String())); got != want {
			rt.Fatalf("got %.200q\nwant %.200q", got, want)
		}
	})
}
