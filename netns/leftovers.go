package netns

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// killLeftovers kills what plugins left running for a pod when the process that called them was killed: its death ends the plugins
// themselves, and not what they called. They would go on with what is to be undone now, and take addresses that nobody gives back.
func killLeftovers(id string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	want := []byte("CNI_CONTAINERID=" + id)
	for _, dir := range dirs {
		environ, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil || !bytes.Contains(environ, want) || !isOfPlugin(bytes.Split(environ, []byte{0}), want) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && pid != os.Getpid() {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended meanwhile
		}
	}
}

func isOfPlugin(environ [][]byte, want []byte) bool {
	of, called := false, false
	for _, v := range environ {
		of = of || bytes.Equal(v, want)
		called = called || bytes.HasPrefix(v, []byte("CNI_COMMAND="))
	}
	return of && called
}
