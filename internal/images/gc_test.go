package images

import (
	"context"
	"os"
	"slices"
	"testing"
)

func prune(t *testing.T, s *Store, o PruneOptions) (names []string, bytes int64) {
	t.Helper()
	freed, err := s.Prune(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range freed {
		names = append(names, append(f.Names, f.Digest[:4])...)
		bytes += f.Bytes
	}
	slices.Sort(names)
	return names, bytes
}

func TestPrune(t *testing.T) {
	s := testStore(t)
	nameless := put(t, s.opts.Dir, "", testImage(1, 10_000))
	unused := put(t, s.opts.Dir, "unused", testImage(2, 10_000))
	inUse := put(t, s.opts.Dir, "used", testImage(3, 10_000))
	hidden := put(t, s.opts.Dir, "", testImage(4, 10_000))
	held := put(t, s.opts.Dir, "held", testImage(5, 10_000))
	_, release, err := s.Acquire(context.Background(), "held")
	if err != nil {
		t.Fatal(err)
	}
	s.SetInUse(func() map[string]bool { return map[string]bool{inUse: true, hidden: true} })

	for _, test := range []struct {
		o    PruneOptions
		want []string
		left []string // data files
	}{
		{PruneOptions{DryRun: true}, []string{nameless[:4]}, []string{nameless, unused, inUse, hidden, held}},
		{PruneOptions{DryRun: true, Unused: true}, []string{nameless[:4], unused[:4], "virtlet.cloud/unused:latest"}, []string{nameless, unused, inUse, hidden, held}},
		{PruneOptions{}, []string{nameless[:4]}, []string{unused, inUse, hidden, held}},
		{PruneOptions{Unused: true}, []string{unused[:4], "virtlet.cloud/unused:latest"}, []string{inUse, hidden, held}},
		{PruneOptions{Unused: true}, nil, []string{inUse, hidden, held}},
	} {
		slices.Sort(test.want)
		slices.Sort(test.left)
		got, bytes := prune(t, s, test.o)
		if !slices.Equal(got, test.want) || (bytes > 0) != (len(test.want) > 0) {
			t.Errorf("%+v: freed %v, %d bytes, want %v", test.o, got, bytes, test.want)
		}
		if left := dataFiles(t, s); !slices.Equal(left, test.left) {
			t.Errorf("%+v: left %v, want %v", test.o, left, test.left)
		}
	}
	if got := names(t, s); got != "virtlet.cloud/held:latest virtlet.cloud/used:latest" {
		t.Errorf("left %s", got)
	}
	release()
	if got, _ := prune(t, s, PruneOptions{Unused: true}); !slices.Contains(got, "virtlet.cloud/held:latest") {
		t.Errorf("what is released stays: %v", got)
	}
}

// Nobody knows what is in use: nothing is deleted.
func TestPruneBeforeUseIsKnown(t *testing.T) {
	s := testStore(t)
	s.SetInUse(nil)
	put(t, s.opts.Dir, "x", testImage(1, 1000))
	if got, _ := prune(t, s, PruneOptions{Unused: true}); got != nil || names(t, s) != "virtlet.cloud/x:latest" {
		t.Errorf("freed %v", got)
	}
}

// A download that runs has no name and no user yet.
func TestPruneLeavesDownloadsAlone(t *testing.T) {
	f := &files{delay: make(chan struct{})}
	f.set("/x", testImage(1, 30_000))
	s := testStore(t)
	translateAll(t, s, serve(t, f.ServeHTTP).URL)
	done := make(chan error, 1)
	go func() { _, err := s.Pull(context.Background(), "x", nil); done <- err }()
	eventually(t, "the download runs", func() bool { d := s.Downloads(); return len(d) > 0 && !d[0].Waiting })
	if got, _ := prune(t, s, PruneOptions{Unused: true}); got != nil {
		t.Errorf("freed %v", got)
	}
	close(f.delay)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func dataFiles(t *testing.T, s *Store) []string {
	t.Helper()
	entries, err := os.ReadDir(s.dataDir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
