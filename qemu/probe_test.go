package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What the real binary says is what the golden cases were made with.
func TestProbe(t *testing.T) {
	golden := goldenCapabilities(t)
	caps, err := Probe(t.Context(), realQEMU(t), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(caps.Binary) || caps.Version.Less(MinVersion) || len(caps.Machines) == 0 || !caps.HasDevice("virtio-blk-pci") {
		t.Errorf("%+v", caps)
	}
	caps.HostVendor = golden.HostVendor // whichever host this is
	if *update {
		data, err := json.MarshalIndent(caps, "", " ")
		if err == nil {
			err = os.WriteFile("testdata/capabilities.json", append(data, '\n'), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	if golden.Binary = caps.Binary; caps.Version == golden.Version && !reflect.DeepEqual(caps, golden) {
		t.Errorf("testdata/capabilities.json differs (-update writes it anew): %s", renderJSON(caps))
	}
}

// By name and by path it is the same binary; the second time nothing is started.
func TestProbeIsCached(t *testing.T) {
	realQEMU(t)
	dir := t.TempDir()
	first, err := Probe(t.Context(), "qemu-system-x86_64", filepath.Join(dir, "cache"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nothing could be asked with this one
	second, err := Probe(ctx, first.Binary, filepath.Join(dir, "cache"))
	if err != nil || !reflect.DeepEqual(first, second) {
		t.Errorf("%+v, %v", second, err)
	}
	if _, err := Probe(ctx, first.Binary, ""); err == nil {
		t.Error("asked with a cancelled context")
	}
	left, err := os.ReadDir(filepath.Join(dir, "cache"))
	if err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
}

// A cache that is damaged, or cannot be, is as good as none.
func TestProbeCacheDamaged(t *testing.T) {
	binary := realQEMU(t)
	dir := t.TempDir()
	want, err := Probe(t.Context(), binary, dir)
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, damage := range []string{"", "{", "null", "[]", string(data[:len(data)/2]), strings.Replace(string(data), `"size":`, `"size":1`, 1)} {
		if err := os.WriteFile(files[0], []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		if caps, err := Probe(t.Context(), binary, dir); err != nil || !reflect.DeepEqual(caps, want) {
			t.Errorf("%.20q: %+v, %v", damage, caps, err)
		}
		if again, _ := os.ReadFile(files[0]); string(again) != string(data) {
			t.Errorf("%.20q was not replaced", damage)
		}
	}
	notDir := writeFile(t, "file", "", 0o600)
	if _, err := Probe(t.Context(), binary, notDir); err != nil {
		t.Errorf("no place for a cache: %v", err)
	}
}

// fakeQEMU is a script in place of QEMU; its descriptor 3 is the monitor.
func fakeQEMU(t *testing.T, script string) string {
	return writeFile(t, "qemu", "#!/bin/sh\n"+script+"\n", 0o755)
}

// speaks makes a fake QEMU that greets with a version and answers each command
// with the same.
func speaks(version, answer string) string {
	return `printf '{"QMP":{"version":{"qemu":{"major":%d,"minor":%d,"micro":%d},"package":""},"capabilities":[]}}\r\n' ` + version + ` >&3
while read -r line <&3; do
	id=$(printf '%s' "$line" | sed -n 's/.*"id": *\([^,}]*\).*/\1/p')
	printf '{` + answer + `,"id":%s}\r\n' "$id" >&3
done`
}

func TestProbeRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		binary string
		is     error
		says   []string
	}{
		"missing name":   {"qemu-system-nowhere", exec.ErrNotFound, []string{"qemu-system-nowhere", "install"}},
		"missing path":   {"/nonexistent/qemu", fs.ErrNotExist, []string{"/nonexistent/qemu", "install"}},
		"not executable": {writeFile(t, "qemu", "", 0o644), fs.ErrPermission, []string{"permission denied"}},
		"directory":      {t.TempDir(), nil, []string{"directory"}},
		"no program":     {writeFile(t, "qemu", "not a program", 0o755), nil, []string{"exec format error"}},
		"silent end":     {fakeQEMU(t, "exit 0"), nil, []string{"does not behave like QEMU"}},
		"complains":      {fakeQEMU(t, "echo unknown option -M >&2; exit 2"), nil, []string{"does not behave like QEMU", "unknown option -M", "exit status 2"}},
		"says garbage":   {fakeQEMU(t, "printf 'HTTP/1.1 400 Bad Request\\r\\n\\r\\n' >&3; sleep 1000"), nil, []string{"does not behave like QEMU"}},
		"other greeting": {fakeQEMU(t, `printf '{"QGA":1}\r\n' >&3`), nil, []string{"does not behave like QEMU"}},
		"knows nothing":  {fakeQEMU(t, speaks("7 2 0", `"return":{}`)), nil, []string{`QEMU for , want one for x86_64`}},
		"other target":   {fakeQEMU(t, speaks("7 2 0", `"return":{"arch":"aarch64"}`)), nil, []string{"aarch64", "x86_64"}},
		"odd answers":    {fakeQEMU(t, speaks("7 2 0", `"return":{"arch":"x86_64"}`)), nil, []string{"qom-list-types"}},
		"refuses":        {fakeQEMU(t, speaks("7 2 0", `"error":{"class":"GenericError","desc":"no"}`)), nil, []string{"no"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			_, err := Probe(t.Context(), c.binary, t.TempDir())
			if !errors.Is(err, ErrBinary) || c.is != nil && !errors.Is(err, c.is) {
				t.Fatalf("Probe says %v", err)
			}
			for _, text := range append(c.says, c.binary) {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%q is not in %v", text, err)
				}
			}
			if took := time.Since(begin); took > probeLimit/2 {
				t.Errorf("that took %v", took)
			}
		})
	}
}

func TestProbeTooOld(t *testing.T) {
	_, err := Probe(t.Context(), fakeQEMU(t, speaks("5 2 1", `"return":{}`)), "")
	var old *TooOldError
	if !errors.As(err, &old) || old.Version != (Version{5, 2, 1}) || !strings.Contains(err.Error(), "5.2.1") || !strings.Contains(err.Error(), "7.2.0") {
		t.Errorf("Probe says %v", err)
	}
}

// A program that hangs is killed with all its children, and leaves no cache.
func TestProbeHangs(t *testing.T) {
	dir := t.TempDir()
	pids := filepath.Join(dir, "pids")
	script := fakeQEMU(t, "echo thinking; sleep 1000 & echo $! > "+pids+"; wait")
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := Probe(ctx, script, filepath.Join(dir, "cache"))
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrBinary) || !strings.Contains(err.Error(), "thinking") {
		t.Errorf("Probe says %v", err)
	}
	child, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(child)))
	if err != nil {
		t.Fatal(err)
	}
	if !endsSoon(pid) {
		t.Errorf("process %d lives on", pid)
	}
	if _, err := os.Stat(filepath.Join(dir, "cache")); err == nil {
		t.Error("a failure was kept")
	}
}

// endsSoon waits for the end of a process that may be nobody's child.
func endsSoon(pid int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err == unix.ESRCH
	}
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000)
	return n == 1 && err == nil
}

// A talkative program does not fill memory, nor block on its output.
func TestProbeFloods(t *testing.T) {
	_, err := Probe(t.Context(), fakeQEMU(t, `yes flood | head -c 20000000; echo "the last words"`), "")
	if err == nil || !strings.Contains(err.Error(), "the last words") || len(err.Error()) > 4*tailSize {
		t.Errorf("Probe says %.300v", err)
	}
}

func TestNewerFirst(t *testing.T) {
	order := []string{"pc-q35-10.0", "pc-q35-9.2", "pc-q35-4.0.1", "pc-q35-4.0", "pc-q35-2.12", "pc-q35-jammy"}
	for i, a := range order {
		for j, b := range order {
			if got := newerFirst(a, b); (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("%s, %s: %d", a, b, got)
			}
		}
	}
}

// The distributor's choice counts, not the highest number.
func TestMachinesBegin(t *testing.T) {
	ask := func(_ string, _, out any) error {
		return json.Unmarshal([]byte(`[{"name":"none"},{"name":"pc-q35-9.0","cpu-max":1},{"name":"pc-q35-10.1","cpu-max":2},
			{"name":"pc-q35-rhel9.8.0","alias":"q35","cpu-max":4096,"default-ram-id":"pc.ram"},{"name":"microvm"}]`), out)
	}
	c := Capabilities{Arch: AMD64}
	if err := askMachines(ask, &c); err != nil {
		t.Fatal(err)
	}
	want := []MachineType{
		{Name: "pc-q35-rhel9.8.0", MaxCPUs: 4096, RAMID: "pc.ram"},
		{Name: "pc-q35-10.1", MaxCPUs: 2, RAMID: "pc.ram"},
		{Name: "pc-q35-9.0", MaxCPUs: 1, RAMID: "pc.ram"},
	}
	if !reflect.DeepEqual(c.Machines, want) {
		t.Errorf("%+v", c.Machines)
	}
}

func TestTail(t *testing.T) {
	var last tail
	for range 3 {
		last.Write([]byte(strings.Repeat("x", tailSize) + "\xff end \n"))
	}
	if got := last.String(); len(got) > tailSize || !strings.HasSuffix(got, "x? end") {
		t.Errorf("%q", got)
	}
}
