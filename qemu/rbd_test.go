package qemu

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// QEMU takes the arguments and the key, goes to the monitor it was told of, as an
// unprivileged user in the full sandbox, and nobody else sees the key.
func TestRBDConnects(t *testing.T) {
	binary, caps := realQEMU(t), goldenCapabilities(t)
	monitor, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer monitor.Close()
	config := Config{Name: "vm", UUID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8", Accel: TCG, VCPUs: 1, MemoryBytes: 1 << 27,
		Disks: []Disk{{ID: "vol0", Bus: BusVirtio, Format: FormatRaw, RBD: &RBD{Monitor: monitor.Addr().String(), Pool: "p", Image: "i", User: "admin"}}}}
	inv, err := Build(config, caps)
	if err != nil {
		t.Fatal(err)
	}
	inv.Binary = binary
	m := newGolden(t)
	// Ceph's CryptoKey: AES, a time, and sixteen bytes, which are no cluster's.
	key := base64.StdEncoding.EncodeToString([]byte("\x01\x00" + "\x00\x00\x00\x5f\x00\x00\x00\x00" + "\x10\x00" + "0123456789abcdef"))
	if err := os.WriteFile(m.path("secret:vol0"), []byte(key), 0o400); err != nil {
		t.Fatal(err)
	}
	owner := nobody(t)
	if err := errors.Join(os.Chown(m.path("secret:vol0"), int(owner.Uid), int(owner.Gid)), os.Chmod(m.dir, 0o711)); err != nil {
		t.Fatal(err)
	}
	m.start(t, config, inv)
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := monitor.Accept(); err == nil {
			accepted <- c
		}
		close(accepted)
	}()
	select {
	case c := <-accepted:
		c.Close()
	case <-time.After(10 * time.Second):
		t.Fatalf("nobody came; QEMU says: %s", m.log(t))
	}
	for _, file := range []string{"cmdline", "environ"} {
		text, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(m.cmd.Process.Pid), file))
		if err != nil || bytes.Contains(text, []byte(key)) {
			t.Errorf("%s of the process: %q, %v", file, text, err)
		}
	}
	if strings.Contains(m.log(t), key) {
		t.Error("the key is in QEMU's log")
	}
}

func TestProbeRBD(t *testing.T) {
	if err := ProbeRBD(t.Context(), realQEMU(t)); err != nil {
		t.Errorf("%v (on Debian it comes with qemu-block-extra)", err)
	}
}

// Without the module the driver is not known. The sentence is QEMU's, of 7.2
// without Debian's package.
func TestProbeRBDMissing(t *testing.T) {
	qemu := fakeQEMU(t, `answer() { read -r line <&3; printf '{%s,"id":%s}\r\n' "$1" "$(printf '%s' "$line" | sed -n 's/.*"id": *\([^,}]*\).*/\1/p')" >&3; }
printf '{"QMP":{"version":{"qemu":{"major":7,"minor":2,"micro":0},"package":""},"capabilities":[]}}\r\n' >&3
answer '"return":{}'
answer '"error":{"class":"GenericError","desc":"Unknown driver '"'rbd'"'"}'
sleep 1000`)
	err := ProbeRBD(t.Context(), qemu)
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "qemu-block-extra") {
		t.Errorf("got %v", err)
	}
}
