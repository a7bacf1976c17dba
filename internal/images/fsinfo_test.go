package images

import (
	"context"
	"strings"
	"testing"
)

func TestFSInfo(t *testing.T) {
	s := testStore(t)
	empty, err := s.FSInfo()
	if err != nil {
		t.Fatal(err)
	}
	put(t, s.opts.Dir, "x", testImage(1, 1<<20))
	full, err := s.FSInfo()
	if err != nil {
		t.Fatal(err)
	}
	if got := full.UsedBytes - empty.UsedBytes; got < 1<<20 || got > 1<<20+16384 {
		t.Errorf("used %d more", got)
	}
	if full.InodesUsed != empty.InodesUsed+2 || empty.InodesUsed != 3 || full.Time.Before(empty.Time) {
		t.Errorf("%+v, then %+v", empty, full)
	}
	if !strings.HasPrefix(full.Mountpoint, "/") {
		t.Errorf("mount point %q", full.Mountpoint)
	}
	if err := s.Remove(context.Background(), "x"); err != nil {
		t.Fatal(err)
	}
	if again, err := s.FSInfo(); err != nil || again.InodesUsed != empty.InodesUsed {
		t.Errorf("%+v, %v", again, err)
	}
}

// What an image is said to occupy is what its removal frees, holes or none.
func TestSizeOfHoles(t *testing.T) {
	s := testStore(t)
	disk := testImage(1, 64<<20)
	clear(disk[1<<20:])
	f := &files{}
	f.set("/sparse", disk)
	translateAll(t, s, serve(t, f.ServeHTTP).URL)
	img := mustPull(t, s, "sparse")
	if length(img) != 64<<20 || img.Size < 1<<20 || img.Size > 16<<20 { // pieces as they arrive may not be long enough for a hole
		t.Errorf("length %d, size %d", length(img), img.Size)
	}
	before, err := s.FSInfo()
	if err != nil {
		t.Fatal(err)
	}
	freed, err := s.Prune(t.Context(), PruneOptions{Unused: true})
	if err != nil || len(freed) != 1 || freed[0].Bytes != img.Size {
		t.Errorf("%+v, %v", freed, err)
	}
	after, err := s.FSInfo()
	if gone := int64(before.UsedBytes) - int64(after.UsedBytes); err != nil || gone < img.Size || gone > img.Size+64<<10 { // with the link
		t.Errorf("%d bytes are free, want %d: %v", gone, img.Size, err)
	}
	if img := newImage(hexA, dataFile{size: 5}, "", nil, nil); img.Size != 1 {
		t.Errorf("a file without blocks has size %d", img.Size)
	}
}

func TestLongestMount(t *testing.T) {
	const table = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 254:1 / /var rw - ext4 /dev/vdb rw
31 22 254:1 /images /var/lib/my\040images rw - ext4 /dev/vdc rw
32 30 0:5 / /var/lib rw - tmpfs tmpfs rw
33 32 0:6 / /var/lib rw - tmpfs tmpfs rw
short line
`
	for dir, want := range map[string]string{
		"/": "/", "/home": "/", "/variety": "/", "/var": "/var", "/var/log/x": "/var", "/var/lib/qemulet": "/var/lib",
		"/var/lib/my images/data": "/var/lib/my images",
	} {
		if got, err := longestMount(strings.NewReader(table), dir); err != nil || got != want {
			t.Errorf("%s: %q, %v", dir, got, err)
		}
	}
	if _, err := longestMount(strings.NewReader(""), "/x"); err == nil {
		t.Error("an empty table has a mount point")
	}
}
