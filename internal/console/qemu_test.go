package console

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The firmware of a real machine says its name, live and in the log.
func TestRealQEMU(t *testing.T) {
	if testing.Short() {
		t.Skip("boots QEMU")
	}
	f := newFixture(t)
	l := f.open()
	f.run(l)
	socket, err := os.MkdirTemp("", "con") // short: a socket's path has a limit
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(socket)) })
	path := filepath.Join(socket, "s")

	q := exec.Command("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-S",
		"-machine", "q35,graphics=off", "-accel", "tcg,tb-size=64", "-m", "64",
		"-chardev", "socket,id=con,path="+path+",server=on,wait=off,logfile="+f.options.Source+",logappend=on",
		"-serial", "chardev:con", "-qmp", "stdio")
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
	var nc net.Conn
	eventually(t, "the console socket", func() bool {
		nc, err = net.Dial("unix", path)
		return err == nil
	})
	h := NewHub(nc, HubOptions{})
	defer h.Close()
	var s screen
	a := attach(h, nil, &s)
	_, err = qmp.Write([]byte(`{"execute":"qmp_capabilities"}{"execute":"cont"}`))
	must(t, err)
	eventually(t, "SeaBIOS on the console", func() bool { return strings.Contains(s.String(), "SeaBIOS") })
	eventually(t, "SeaBIOS in the log", func() bool { return strings.Contains(joined(f.logged()), "SeaBIOS") })

	must(t, q.Process.Kill())
	_ = q.Wait()
	ended = true
	a.ends(t, nil)
	must(t, l.Finish(context.Background()))
	log := strings.TrimSpace(joined(f.logged()))
	equal(t, log, strings.TrimSpace(asRead(read(t, f.options.Source))))
	// QEMU writes to the socket first: killed, it has said that much more there.
	if live := asRead(s.String()); !strings.HasPrefix(live, log) {
		t.Errorf("live:\n%s\nlogged:\n%s", live, log)
	}
}
