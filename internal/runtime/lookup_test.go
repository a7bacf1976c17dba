package runtime

import (
	"testing"

	"github.com/containerd/errdefs"
)

func TestFind(t *testing.T) {
	all := map[string]int{"716d6c74aa": 1, "716d6c74ab": 2, "716d6c74": 3}
	for key, want := range map[string]int{"716d6c74aa": 1, "716d6c74ab": 2, "716d6c74": 3} {
		if got, err := find("sandbox", all, key); got != want || err != nil {
			t.Errorf("find(%q) = %d, %v", key, got, err)
		}
	}
	if _, err := find("sandbox", all, "716d"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("an ambiguous beginning: %v", err)
	}
	for _, key := range []string{"", "x", "716d6c74aac"} {
		if _, err := find("sandbox", all, key); !errdefs.IsNotFound(err) {
			t.Errorf("find(%q): %v", key, err)
		}
	}
	if got, err := find("sandbox", map[string]int{"abcdef": 7}, "abc"); got != 7 || err != nil {
		t.Errorf("a unique beginning: %d, %v", got, err)
	}
}
