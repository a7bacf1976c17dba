package console

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPositionIsReadAsWritten(t *testing.T) {
	p := position{
		Seq: 1 << 60, Offset: 2, File: identity{Dev: 3, Ino: 4, Birth: 5}, Size: 6,
		Length: 7, Sum: 8, Open: true, Dropped: 9, Time: 10,
	}
	b, err := p.encode()
	must(t, err)
	equal(t, len(b), slotBytes)
	got, ok := decodePosition(b)
	equal(t, ok, true)
	equal(t, got, p)
	for i := range b {
		b[i] ^= 0x40
		if _, ok := decodePosition(b); ok {
			t.Fatalf("accepted with byte %d changed", i)
		}
		b[i] ^= 0x40
	}
}

func TestPositionPath(t *testing.T) {
	equal(t, positionPath("/a/b.c/console.log"), "/a/b.c/console.pos")
	equal(t, positionPath("/a/b.c/console"), "/a/b.c/console.pos")
}

func TestPositionsTakeTurns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p")
	s, err := openPositions(path)
	must(t, err)
	defer s.f.Close()
	found, _, err := s.load()
	must(t, err)
	equal(t, len(found), 0)

	must(t, s.intend(position{Seq: 1}))
	s.commit()
	must(t, s.intend(position{Seq: 2, Offset: 1})) // did not work out
	must(t, s.intend(position{Seq: 2, Offset: 2}))
	found, slot, err := s.load()
	must(t, err)
	equal(t, len(found), 2)
	equal(t, found[0].Offset, 2)
	equal(t, found[1].Seq, 1)
	equal(t, slot[1], s.last)

	must(t, os.WriteFile(path, []byte("rubbish"), 0o600))
	found, _, err = s.load()
	must(t, err)
	equal(t, len(found), 0)
}

func FuzzDecodePosition(f *testing.F) {
	b, err := position{Seq: 1}.encode()
	must(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < slotBytes {
			return
		}
		if p, ok := decodePosition(b[:slotBytes]); ok {
			again, err := p.encode()
			must(t, err)
			if got, ok := decodePosition(again); !ok || got != p {
				t.Fatalf("%+v is read as %+v", p, got)
			}
		}
	})
}
