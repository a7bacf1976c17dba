package disks

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestInspectDevice(t *testing.T) {
	dir := t.TempDir()
	file := sparse(t, filepath.Join(dir, "file"), 3<<20)
	loop := loopDevice(t, file)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(loop, link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]Device{
		file: {Path: file, Size: 3 << 20},
		loop: {Path: loop, Size: 3 << 20, Block: true, SectorSize: 512},
		link: {Path: loop, Size: 3 << 20, Block: true, SectorSize: 512},
	} {
		if got, err := InspectDevice(path); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", path, got, err, want)
		}
	}
	readOnly := loopDeviceWith(t, file, unix.LO_FLAGS_READ_ONLY)
	if got, err := InspectDevice(readOnly); err != nil || !got.ReadOnly {
		t.Errorf("%+v, %v; want it read-only", got, err)
	}
}

// What is no disk is named, and never opened: a FIFO would wait for its other end.
func TestInspectDeviceNoDisk(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{dir: "a directory", fifo: "a FIFO", "/dev/null": "a character device"} {
		done := make(chan error, 1)
		go func() { _, err := InspectDevice(path); done <- err }()
		select {
		case err := <-done:
			if !errors.Is(err, ErrNotDisk) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %v", path, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: still waiting", path)
		}
	}
	if _, err := InspectDevice(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("InspectDevice says %v", err)
	}
}

func TestWhitelist(t *testing.T) {
	w, err := ParseWhitelist(" loop*, /dev/disk/by-id/*,,vg[0-9]/data")
	if err != nil {
		t.Fatal(err)
	}
	for path, ok := range map[string]bool{
		"/dev/loop3":          true,
		"/dev/loop":           true,
		"/dev/disk/by-id/a-b": true,
		"/dev/vg1/data":       true,
		"/dev/sda":            false,
		"/dev/loop3/x":        false,
		"/dev/vgx/data":       false,
		"/dev/loop/../sda":    false,
		"/dev//loop3":         false,
		"/dev/./loop3":        false,
		"loop3":               false,
		"/devloop3":           false,
		"/tmp/loop3":          false,
		"/dev/":               false,
		"":                    false,
	} {
		err := w.Check(path)
		if (err == nil) != ok {
			t.Errorf("%q: %v", path, err)
		}
		if err != nil && !strings.Contains(err.Error(), `"`+path+`"`) {
			t.Errorf("%q is not named: %v", path, err)
		}
	}
	if err := w.Check("/dev/sda"); !strings.Contains(err.Error(), "/dev/loop*, /dev/disk/by-id/*, /dev/vg[0-9]/data") {
		t.Errorf("accepted ones are not named: %v", err)
	}
	if err := (Whitelist{}).Check("/dev/loop0"); err == nil || !strings.Contains(err.Error(), "no device is") {
		t.Errorf("an empty list says %v", err)
	}
	if _, err := ParseWhitelist("loop*,[x"); err == nil || !strings.Contains(err.Error(), `"[x"`) {
		t.Errorf("a broken pattern: %v", err)
	}
}

func TestParseCapacity(t *testing.T) {
	for text, want := range map[string]int64{
		"1024":                 DefaultCapacity,
		" 2 ":                  2e6,
		"1024 MB":              DefaultCapacity,
		"7B":                   7,
		"7 bytes":              7,
		"3KB":                  3000,
		"3K":                   3072,
		"3KiB":                 3072,
		"\t5\nMiB ":            5 << 20,
		"5M":                   5 << 20,
		"2GB":                  2e9,
		"2G":                   2 << 30,
		"2GiB":                 2 << 30,
		"1TB":                  1e12,
		"1T":                   1 << 40,
		"1PB":                  1e15,
		"1PiB":                 1 << 50,
		"1EB":                  1e18,
		"7EiB":                 7 << 60,
		"010M":                 10 << 20,
		"9223372036854775807B": math.MaxInt64,
	} {
		if got, err := ParseCapacity(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for text, says := range map[string]string{
		"":                     "capacity spec",
		"MB":                   "capacity spec",
		"-1":                   "capacity spec",
		"+1":                   "capacity spec",
		"0":                    "capacity spec",
		"0GiB":                 "capacity spec",
		"1.5G":                 "capacity unit",
		"1Gi":                  "capacity unit",
		"1 G B":                "capacity unit",
		"1gb":                  "capacity unit",
		"1 2":                  "capacity unit",
		"8EiB":                 "2^63",
		"99999999999999999999": "2^63",
		"9223372036854775808B": "2^63",
	} {
		if got, err := ParseCapacity(text); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "accepted") {
			t.Errorf("%q: %d, %v; want an error about %q", text, got, err, says)
		}
	}
}

func FuzzParseCapacity(f *testing.F) {
	for _, s := range []string{"1024", " 5 MiB ", "7EiB", "8EiB", "1.5G", "0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseCapacity(text)
		if (err == nil) != (n > 0) {
			t.Errorf("%q: %d, %v", text, n, err)
		}
		if again, err2 := ParseCapacity(" " + text + "\t"); again != n || (err2 == nil) != (err == nil) {
			t.Errorf("%q: %d, with blanks around %d", text, n, again)
		}
	})
}

func FuzzWhitelist(f *testing.F) {
	f.Add("loop*,sd?", "/dev/loop0")
	f.Add("*", "/dev/../etc/shadow")
	f.Fuzz(func(t *testing.T, list, path string) {
		w, err := ParseWhitelist(list)
		if err != nil {
			return
		}
		if w.Check(path) == nil && (filepath.Clean(path) != path || !strings.HasPrefix(path, "/dev/")) {
			t.Errorf("%q allows %q", list, path)
		}
	})
}
