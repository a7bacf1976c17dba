package main

import "testing"

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 106496: "104.0 KiB", 1 << 20: "1.0 MiB", 1 << 30: "1.0 GiB", 3 << 39: "1.5 TiB", 1 << 52: "4096.0 TiB",
	} {
		if got := size(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
