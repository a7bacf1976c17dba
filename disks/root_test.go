package disks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// rootImage is an image of 10 MiB with data in it.
func rootImage(t testing.TB) RootImage {
	t.Helper()
	path := filled(t, "PATH", "10M")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return RootImage{Path: path, Digest: sha256.Sum256(data), VirtualSize: 10 << 20}
}

// rawOf is what a guest sees of an image.
func rawOf(t testing.TB, image RootImage) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "raw")
	run(t, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", image.Path, path)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func readAt(t testing.TB, path string, offset, length int64) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, length)
	if _, err := f.ReadAt(b, offset); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return b
}

func writeAt(t testing.TB, path string, b []byte, offset int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(b, offset)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func holds(t *testing.T, path string, image RootImage) {
	t.Helper()
	if got := readAt(t, path, 0, sector); !bytes.Equal(got, RootHeader(image.Digest)) {
		t.Errorf("header is %x", got[:rootHeaderLen])
	}
	if !bytes.Equal(readAt(t, path, RootOffset, image.VirtualSize), rawOf(t, image)) {
		t.Error("the guest's part is not the image")
	}
}

// The bytes are Virtlet's: a volume of a cluster that ran it must boot.
func TestRootHeaderBytes(t *testing.T) {
	digest := sha256.Sum256([]byte("image"))
	want := "263dbe52ba576702" + "0001" + hex.EncodeToString(digest[:])
	got := RootHeader(digest)
	if hex.EncodeToString(got[:42]) != want || len(got) != 512 || len(bytes.Trim(got[42:], "\x00")) != 0 {
		t.Errorf("got %x, want %s and zeros up to 512 bytes", got, want)
	}
}

func TestReadRootHeader(t *testing.T) {
	a, b := sha256.Sum256([]byte("a")), sha256.Sum256([]byte("b"))
	newer := RootHeader(b)
	newer[9] = 2
	for name, c := range map[string]struct {
		head    []byte
		state   RootState
		version int
	}{
		"zeros":         {head: make([]byte, 512)},
		"nothing":       {},
		"cut off":       {head: RootHeader(a)[:41]},
		"another magic": {head: append([]byte{0x27}, RootHeader(a)[1:]...)},
		"same":          {head: RootHeader(a), state: RootSame},
		"42 bytes":      {head: RootHeader(a)[:42], state: RootSame},
		"other":         {head: RootHeader(b), state: RootOther},
		"newer":         {head: newer, version: 2},
	} {
		state, holds, err := ReadRootHeader(c.head, a)
		var ve *RootVersionError
		if errors.As(err, &ve); (ve != nil) != (c.version != 0) || ve != nil && ve.Version != c.version {
			t.Errorf("%s: %v", name, err)
		}
		if state != c.state || state == RootOther && holds != b {
			t.Errorf("%s: state %v, holds %x", name, state, holds)
		}
	}
}

func FuzzReadRootHeader(f *testing.F) {
	digest := sha256.Sum256([]byte("image"))
	f.Add(RootHeader(digest))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, head []byte) {
		state, holds, err := ReadRootHeader(head, digest)
		switch {
		case err != nil && state != RootFresh:
			t.Errorf("state %v and %v", state, err)
		case state != RootFresh && !bytes.Equal(RootHeader(holds)[:rootHeaderLen], head[:rootHeaderLen]):
			t.Errorf("%x read as %v of %x", head, state, holds)
		case (state == RootSame) != (err == nil && len(head) >= rootHeaderLen && bytes.Equal(head[:rootHeaderLen], RootHeader(digest)[:rootHeaderLen])):
			t.Errorf("%x is %v", head, state)
		}
	})
}

// On a block device and on a plain file: made, used again with what the guest
// wrote, and made anew from another image.
func TestPrepareRoot(t *testing.T) {
	for _, block := range []bool{true, false} {
		t.Run(map[bool]string{true: "block device", false: "file"}[block], func(t *testing.T) {
			image := rootImage(t)
			path := sparse(t, filepath.Join(t.TempDir(), "device, with a comma"), 12<<20)
			// What was there before must not shine through where the image
			// has nothing.
			writeAt(t, path, bytes.Repeat([]byte{0xee}, 12<<20), 0)
			if block {
				path = loopDevice(t, path)
			}
			disk, err := PrepareRoot(t.Context(), path, image)
			if err != nil {
				t.Fatal(err)
			}
			if disk.Found != RootFresh || disk.Block != block || disk.Offset != 512 || disk.Length != 12<<20-512 {
				t.Errorf("got %+v", disk)
			}
			holds(t, path, image)

			writeAt(t, path, []byte("the guest was here"), 3<<20)
			if disk, err = PrepareRoot(t.Context(), path, image); err != nil || disk.Found != RootSame {
				t.Fatalf("%+v, %v", disk, err)
			}
			if got := readAt(t, path, 3<<20, 18); string(got) != "the guest was here" {
				t.Errorf("the guest's data are %q", got)
			}

			other := rootImage(t)
			other.Digest = sha256.Sum256([]byte("another"))
			if disk, err = PrepareRoot(t.Context(), path, other); err != nil || disk.Found != RootOther || disk.Previous != image.Digest {
				t.Fatalf("%+v, %v", disk, err)
			}
			holds(t, path, other)
		})
	}
}

// A link to a device is followed; what it leads to is what is told.
func TestPrepareRootLink(t *testing.T) {
	image, dir := rootImage(t), t.TempDir()
	path, link := sparse(t, filepath.Join(dir, "disk"), 11<<20), filepath.Join(dir, "link")
	if err := os.Symlink("disk", link); err != nil {
		t.Fatal(err)
	}
	disk, err := PrepareRoot(t.Context(), link, image)
	if err != nil || disk.Path != path {
		t.Errorf("%+v, %v", disk, err)
	}
}

// Refusals leave the device as it is, to the byte.
func TestPrepareRootRefuses(t *testing.T) {
	image := rootImage(t)
	other := RootHeader(sha256.Sum256([]byte("other")))
	newer := bytes.Clone(other)
	newer[9] = 7
	for name, c := range map[string]struct {
		size   int64
		head   []byte
		before func(*testing.T, string)
		is     func(error) bool
		says   []string
	}{
		"too small": {size: 10 << 20, head: other,
			is:   func(err error) bool { var e *TooSmallError; return errors.As(err, &e) && e.Need == 10<<20+512 },
			says: []string{"10485760 bytes (20480 sectors)", "10486272 bytes (20481 sectors)"}},
		"newer version": {size: 11 << 20, head: newer,
			is:   func(err error) bool { var e *RootVersionError; return errors.As(err, &e) },
			says: []string{"version 7", "supported is 1"}},
		"a machine has it": {size: 11 << 20, head: other, before: machineLock,
			is: func(err error) bool { return errors.Is(err, ErrInUse) }},
	} {
		t.Run(name, func(t *testing.T) {
			path := sparse(t, filepath.Join(t.TempDir(), "disk"), c.size)
			writeAt(t, path, bytes.Repeat([]byte{0xee}, 1<<20), 0)
			writeAt(t, path, c.head, 0)
			before := readAt(t, path, 0, c.size)
			if c.before != nil {
				c.before(t, path)
			}
			_, err := PrepareRoot(t.Context(), path, image)
			if err == nil || !c.is(err) || !strings.Contains(err.Error(), path) {
				t.Errorf("PrepareRoot says %v", err)
			}
			for _, says := range c.says {
				if !strings.Contains(fmt.Sprint(err), says) {
					t.Errorf("%v does not say %q", err, says)
				}
			}
			if !bytes.Equal(readAt(t, path, 0, c.size), before) {
				t.Error("the device has changed")
			}
		})
	}
}

// machineLock has QEMU's own program open a disk as a machine does.
func machineLock(t *testing.T, path string) {
	t.Helper()
	cmd := exec.Command("qemu-io", "-f", "raw", path)
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	// The prompt comes when the disk is open.
	if _, err := io.ReadFull(out, make([]byte, len("qemu-io> "))); err != nil {
		t.Fatal(err)
	}
}

// A device that the kernel uses for something else is refused.
func TestPrepareRootMounted(t *testing.T) {
	path := loopDevice(t, sparse(t, filepath.Join(t.TempDir(), "disk"), 11<<20))
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := PrepareRoot(t.Context(), path, rootImage(t)); !errors.Is(err, ErrInUse) {
		t.Errorf("PrepareRoot says %v", err)
	}
}

func TestPrepareRootNoDisk(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, fifo, "/dev/null"} {
		if _, err := PrepareRoot(t.Context(), path, RootImage{}); !errors.Is(err, ErrNotDisk) {
			t.Errorf("%s: PrepareRoot says %v", path, err)
		}
	}
	if _, err := PrepareRoot(t.Context(), filepath.Join(dir, "none"), RootImage{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("PrepareRoot says %v", err)
	}
}

// fakeImg puts a program in the place of qemu-img. $REAL is the real one.
func fakeImg(t *testing.T, script string) {
	t.Helper()
	real, err := exec.LookPath("qemu-img")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text := "#!/bin/sh\nREAL=" + real + "\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(dir, "qemu-img"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// A copy that fails, half way or at its end, leaves a device that is no root disk,
// and the next attempt makes it one.
func TestPrepareRootFails(t *testing.T) {
	for name, script := range map[string]string{
		"at once":    `echo "no space" >&2; exit 1`,
		"half way":   `printf x >&3; echo "no space" >&2; exit 1`,
		"at the end": `"$REAL" "$@"; echo "no space" >&2; exit 1`,
	} {
		t.Run(name, func(t *testing.T) {
			image := rootImage(t)
			path := sparse(t, filepath.Join(t.TempDir(), "disk"), 11<<20)
			writeAt(t, path, RootHeader(sha256.Sum256([]byte("other"))), 0)
			t.Run("first", func(t *testing.T) {
				fakeImg(t, script)
				if _, err := PrepareRoot(t.Context(), path, image); err == nil || !strings.Contains(err.Error(), "no space") {
					t.Errorf("PrepareRoot says %v", err)
				}
			})
			if state, _, err := ReadRootHeader(readAt(t, path, 0, 512), image.Digest); state != RootFresh || err != nil {
				t.Errorf("the device is %v, %v", state, err)
			}
			if _, err := PrepareRoot(t.Context(), path, image); err != nil {
				t.Fatal(err)
			}
			holds(t, path, image)
		})
	}
}

func TestPrepareRootCancelled(t *testing.T) {
	image := rootImage(t)
	path := sparse(t, filepath.Join(t.TempDir(), "disk"), 11<<20)
	ctx, cancel := context.WithCancelCause(t.Context())
	started := filepath.Join(t.TempDir(), "started")
	fakeImg(t, "mkfifo "+started+".wait; : >"+started+"; read x <"+started+".wait")
	reason := errors.New("the pod is gone")
	go func() { awaitFile(started); cancel(reason) }()
	if _, err := PrepareRoot(ctx, path, image); !errors.Is(err, reason) {
		t.Errorf("PrepareRoot says %v", err)
	}
}

func awaitFile(path string) bool {
	for range 1000 {
		if _, err := os.Stat(path); err == nil {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

// A daemon that dies during a copy takes the copy with it; a copy that lives on
// nevertheless keeps the device to itself.
func TestPrepareRootKilled(t *testing.T) {
	if disk := os.Getenv("DISKS_TEST_ROOT"); disk != "" {
		PrepareRoot(t.Context(), disk, RootImage{Path: os.Getenv("DISKS_TEST_IMAGE"), VirtualSize: 10 << 20})
		return
	}
	image := rootImage(t)
	path := sparse(t, filepath.Join(t.TempDir(), "disk"), 11<<20)
	writeAt(t, path, RootHeader(sha256.Sum256([]byte("other"))), 0)
	started := filepath.Join(t.TempDir(), "started")
	t.Run("first", func(t *testing.T) {
		// The shell ends with its parent, what it has started does not.
		fakeImg(t, "mkfifo "+started+".wait; (read x <"+started+".wait) & echo $! >"+started+".pid; : >"+started+"; wait")
		cmd := exec.Command(os.Args[0], "-test.run=^TestPrepareRootKilled$")
		cmd.Env = append(os.Environ(), "DISKS_TEST_ROOT="+path, "DISKS_TEST_IMAGE="+image.Path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if !awaitFile(started) {
			t.Error("no copy was started")
		}
		cmd.Process.Signal(syscall.SIGKILL)
		cmd.Wait()
	})
	if _, err := PrepareRoot(t.Context(), path, image); !errors.Is(err, ErrInUse) {
		t.Errorf("while the copy goes on: %v", err)
	}
	if err := os.WriteFile(started+".wait", []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := PrepareRoot(t.Context(), path, image)
		if err == nil {
			break
		}
		if !errors.Is(err, ErrInUse) || time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	holds(t, path, image)
}

func BenchmarkPrepareRoot(b *testing.B) {
	image := rootImage(b)
	path := sparse(b, filepath.Join(b.TempDir(), "disk"), 11<<20)
	for i := 0; b.Loop(); i++ {
		image.Digest[0] = byte(i)
		if _, err := PrepareRoot(b.Context(), path, image); err != nil {
			b.Fatal(err)
		}
	}
}
