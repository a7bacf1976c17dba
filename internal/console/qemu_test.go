package console

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The firmware of a real machine says its name, live and in the log.
func TestRealQEMU(t *testing.T) {
	if testing.Short() {
		t.Skip("boots QEMU")
	}
	f := newFixture(t)
	l := f.open()
	f.run(l)
	input := filepath.Join(t.TempDir(), "console.in")
	must(t, unix.Mkfifo(input, 0o600))
	keep, err := os.OpenFile(input, os.O_RDWR, 0)
	must(t, err)
	defer keep.Close()

	q := exec.Command("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-S",
		"-machine", "q35,graphics=off", "-accel", "tcg,tb-size=64", "-m", "64",
		"-chardev", "null,id=con", "-serial", "chardev:con", "-qmp", "stdio")
	q.Stderr = os.Stderr
	qmp, err := q.StdinPipe()
	must(t, err)
	if err := q.Start(); err != nil {
		t.Fatalf("this test needs qemu-system-x86_64: %v", err)
	}
	ended := false
	t.Cleanup(func() {
		if !ended {
			_ = q.Process.Kill()
			_ = q.Wait()
		}
	})
	line, err := OpenLine(f.options.Source, input, newWatcher(t))
	must(t, err)
	h := NewHub(line, HubOptions{})
	defer h.Close()
	var s screen
	a := attach(h, nil, &s)
	_, err = fmt.Fprintf(qmp, `{"execute":"qmp_capabilities"}
{"execute":"chardev-change","arguments":{"id":"con","backend":{"type":"file","data":{"in":%q,"out":%q,"append":true}}}}
{"execute":"cont"}
`, input, f.options.Source)
	must(t, err)
	eventually(t, "SeaBIOS on the console", func() bool { return strings.Contains(s.String(), "SeaBIOS") })
	eventually(t, "SeaBIOS in the log", func() bool { return strings.Contains(joined(f.logged()), "SeaBIOS") })

	must(t, q.Process.Kill())
	_ = q.Wait()
	ended = true
	must(t, h.Close())
	a.ends(t, nil)
	must(t, l.Finish(context.Background()))
	log := strings.TrimSpace(joined(f.logged()))
	equal(t, log, strings.TrimSpace(asRead(read(t, f.options.Source))))
	equal(t, strings.TrimSpace(asRead(s.String())), log)
}
