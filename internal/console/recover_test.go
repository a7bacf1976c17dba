package console

import (
	"context"
	"os"
	"strings"
	"testing"
)

// interrupted is a log whose daemon was killed when it had written all but the
// last cut bytes of the lines of its last batch.
func interrupted(t *testing.T, cut int64) *fixture {
	f := newFixture(t)
	l := f.open()
	f.says("one\n")
	f.drain(l)
	f.says("two\nthree\n")
	f.drain(l)
	must(t, l.Close())
	must(t, os.Truncate(f.options.Path, size(t, f.options.Path)-cut))
	return f
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	must(t, err)
	return st.Size()
}

func lastBatch(t *testing.T) int64 {
	f := interrupted(t, 0)
	l := f.open()
	return l.pos.Length
}

func TestKilledWithinABatch(t *testing.T) {
	for cut := range lastBatch(t) + 1 {
		f := interrupted(t, cut)
		f.says("four\n")
		must(t, f.open().Finish(context.Background()))
		equal(t, short(f.logged()), "F one\nF two\nF three\nF four\n")
	}
}

// The same, and kubelet has renamed the file before there is a daemon again.
func TestKilledWithinABatchAndRotated(t *testing.T) {
	for cut := range lastBatch(t) + 1 {
		f := interrupted(t, cut)
		must(t, os.Rename(f.options.Path, f.options.Path+".20260101-000000"))
		must(t, f.open().Finish(context.Background()))
		equal(t, short(f.logged()), "F one\nF two\nF three\n")
	}
}

func TestKilledWithinTheFirstBatch(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	f.says("one\n")
	f.drain(l)
	must(t, l.Close())
	must(t, os.Truncate(f.options.Path, 5))
	must(t, f.open().Finish(context.Background()))
	equal(t, short(f.logged()), "F one\n")
}

func TestForeignTailIsKept(t *testing.T) {
	for name, c := range map[string]struct {
		cut  int64
		want string
	}{
		"after our lines":    {0, "F one\nF two\nF three\nF foreign"},
		"in place of a part": {10, "F one\nF two\nF three\nF foreign"},
	} {
		t.Run(name, func(t *testing.T) {
			f := interrupted(t, 0)
			if c.cut > 0 {
				f = interrupted(t, lastBatch(t))
			}
			tail := "2026-01-01T00:00:00.0Z stdout F " + "foreign" + strings.Repeat("!", int(lastBatch(t))) + "\n"
			out, err := os.OpenFile(f.options.Path, os.O_APPEND|os.O_WRONLY, 0)
			must(t, err)
			_, err = out.WriteString(tail)
			must(t, err)
			must(t, out.Close())
			must(t, f.open().Finish(context.Background()))
			log := logOf(t, f.options.Path)
			if !strings.Contains(log, tail) {
				t.Fatalf("another's line was removed:\n%s", log)
			}
			for _, text := range []string{"F one\n", "F two\n", "F three\n"} {
				equal(t, strings.Count(log, text), 1)
			}
		})
	}
}

func TestAnotherFileIsNotCut(t *testing.T) {
	f := interrupted(t, 3)
	must(t, os.Remove(f.options.Path)) // with its lines: nobody wants them again
	const other = "2026-01-01T00:00:00.0Z stdout F other\n"
	must(t, os.WriteFile(f.options.Path, []byte(other), 0o600))
	f.says("four\n")
	must(t, f.open().Finish(context.Background()))
	equal(t, short(f.logged()), "F other\nF four\n")
}

func TestCutByItsReader(t *testing.T) {
	f := interrupted(t, 0)
	must(t, os.Truncate(f.options.Path, 0))
	f.says("four\n")
	must(t, f.open().Finish(context.Background()))
	equal(t, short(f.logged()), "F four\n")
}

// Without its position a log begins again with what is still there.
func TestPositionLost(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	text := strings.Repeat(strings.Repeat("x", 1023)+"\n", 500)
	f.says(text)
	f.drain(l)
	must(t, l.Close())
	must(t, os.Remove(positionPath(f.options.Source)))
	must(t, os.Truncate(f.options.Path, 0))
	must(t, f.open().Finish(context.Background()))
	got := joined(f.logged())
	if len(got) == 0 || len(got) >= len(text) || strings.Contains(got, "\x00") || !strings.HasSuffix(text, got) {
		t.Fatalf("%d of %d bytes were logged again", len(got), len(text))
	}
}

func TestUnfinishedLineGoesOnAfterRestart(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	f.says("login: ")
	f.drain(l)
	l.waiting.since = l.waiting.since.Add(-showPartialAfter)
	f.drain(l)
	must(t, l.Close())
	f.says("root\n")
	must(t, f.open().Finish(context.Background()))
	equal(t, short(f.logged()), "P login: \nF root\n")
}
