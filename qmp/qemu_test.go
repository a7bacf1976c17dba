package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	goqemu "github.com/digitalocean/go-qemu/qmp"
	"github.com/qemulet/qemulet/qmp/qmptest"
)

// realQEMU starts a paused machine and returns its monitor's socket.
func realQEMU(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("starts QEMU")
	}
	path := filepath.Join(t.TempDir(), "qmp.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	f, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("qemu-system-x86_64", "-S", "-machine", "q35", "-accel", "tcg,tb-size=64", "-m", "64",
		"-nodefaults", "-display", "none", "-name", "guest=qmp test", "-uuid", "11111111-2222-3333-4444-555555555555",
		"-chardev", "socket,id=qmp,fd=3,server=on,wait=off", "-mon", "chardev=qmp,mode=control",
		"-smp", "1,maxcpus=2", "-device", "pcie-root-port,id=rp0,chassis=1", "-device", "virtio-balloon-pci,id=balloon",
		"-blockdev", `{"driver":"null-co","size":1048576,"node-name":"n0"}`, "-device", "virtio-blk-pci,drive=n0,id=d0")
	cmd.ExtraFiles = []*os.File{f}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // also when the test is killed
	if err := cmd.Start(); err != nil {
		t.Fatalf("start QEMU (package qemu-system-x86): %v", err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return path
}

func realConn(t *testing.T) *Conn {
	t.Helper()
	c, err := Dial(t.Context(), realQEMU(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// deadline keeps a test that waits in vain from hanging.
func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), qmptest.Patience)
	t.Cleanup(cancel)
	return ctx
}

// check fails the test unless the command worked and its result is as told.
func check(t *testing.T, name string, err error, good bool, got any) {
	t.Helper()
	if err != nil || !good {
		t.Errorf("%s: got %+v, %v", name, got, err)
	}
}

func TestRealQueries(t *testing.T) {
	c, ctx := realConn(t), deadline(t)
	if v := c.Version(); v.QEMU.Major < 7 {
		t.Errorf("version %v", v)
	}
	s, err := c.QueryStatus(ctx)
	check(t, "query-status", err, s == Status{Status: RunStatePrelaunch}, s)
	v, err := c.QueryVersion(ctx)
	check(t, "query-version", err, v == c.Version(), v)
	name, err := c.QueryName(ctx)
	check(t, "query-name", err, name == "qmp test", name)
	uuid, err := c.QueryUUID(ctx)
	check(t, "query-uuid", err, uuid == "11111111-2222-3333-4444-555555555555", uuid)
	kvm, err := c.QueryKVM(ctx)
	check(t, "query-kvm", err, !kvm.Enabled && kvm.Present, kvm)
	machines, err := c.QueryMachines(ctx)
	check(t, "query-machines", err, len(machines) > 10 && machines[0].CPUMax > 0, len(machines))
	schema, err := c.QueryQMPSchema(ctx)
	check(t, "query-qmp-schema", err, len(schema) > 64<<10 && json.Valid(schema), len(schema))
	text, err := c.HumanMonitorCommand(ctx, "info name")
	check(t, "human-monitor-command", err, text == "qmp test\r\n", text)
}

func TestRealProcessors(t *testing.T) {
	c, ctx := realConn(t), deadline(t)
	cpus, err := c.QueryCPUsFast(ctx)
	check(t, "query-cpus-fast", err, len(cpus) == 1 && cpus[0].ThreadID > 0 && cpus[0].QOMPath != "" && cpus[0].Props.CoreID != nil, cpus)
	places, err := c.QueryHotpluggableCPUs(ctx)
	check(t, "query-hotpluggable-cpus", err, len(places) == 2 && places[0].VCPUs == 1 && places[1].QOMPath+places[0].QOMPath == cpus[0].QOMPath, places)
	models, err := c.QueryCPUDefinitions(ctx)
	check(t, "query-cpu-definitions", err, len(models) > 10 && models[0].TypeName != "", len(models))
	model, err := c.QueryCPUModelExpansion(ctx, "full", CPUModel{Name: "qemu64"})
	check(t, "query-cpu-model-expansion", err, len(model.Props) > 50, len(model.Props))
}

func TestRealBlockAndMemory(t *testing.T) {
	c, ctx := realConn(t), deadline(t)
	drives, err := c.QueryBlock(ctx)
	check(t, "query-block", err, len(drives) == 1 && drives[0].Inserted.NodeName == "n0" && drives[0].Inserted.Image.VirtualSize == 1<<20, drives)
	stats, err := c.QueryBlockStats(ctx)
	check(t, "query-blockstats", err, len(stats) == 1 && stats[0].QDev != "", stats)
	err = c.BlockdevAdd(ctx, map[string]any{"driver": "null-co", "node-name": "n1", "size": 4096})
	check(t, "blockdev-add", err, true, nil)
	err = c.BlockResize(ctx, "n1", 8192)
	check(t, "block_resize of what cannot grow", nil, IsClass(err, ClassGenericError), err)
	check(t, "blockdev-del", c.BlockdevDel(ctx, "n1"), true, nil)
	_, err = c.QueryMemoryDevices(ctx)
	check(t, "query-memory-devices", err, true, nil)
	size, err := c.QueryMemorySize(ctx)
	check(t, "query-memory-size-summary", err, size.Base == 64<<20, size)
	bytes, err := c.QueryBalloon(ctx)
	check(t, "query-balloon", err, bytes == 64<<20, bytes)
	check(t, "balloon", c.Balloon(ctx, 32<<20), true, nil)
}

func TestRealDevices(t *testing.T) {
	c, ctx := realConn(t), deadline(t)
	check(t, "object-add", c.ObjectAdd(ctx, map[string]any{"qom-type": "rng-random", "id": "r0", "filename": "/dev/urandom"}), true, nil)
	check(t, "device_add", c.DeviceAdd(ctx, map[string]any{"driver": "virtio-rng-pci", "id": "rng", "rng": "r0", "bus": "rp0", "max-bytes": 1024}), true, nil)
	var period uint64
	err := c.QOMGet(ctx, "/machine/peripheral/rng", "max-bytes", &period)
	check(t, "qom-get", err, period == 1024, period)
	err = c.QOMSet(ctx, "/machine/peripheral/balloon", "guest-stats-polling-interval", 2)
	check(t, "qom-set", err, true, nil)
	// No guest is there to give up the device: the reset completes it.
	check(t, "device_del", c.DeviceDel(ctx, "rng"), true, nil)
	check(t, "system_reset", c.SystemReset(ctx), true, nil)
	check(t, "wait", c.WaitDeviceDeleted(ctx, "rng"), true, nil)
	check(t, "object-del", c.ObjectDel(ctx, "r0"), true, nil)
	err = c.DeviceDel(ctx, "rng")
	check(t, "device_del of what is gone", nil, IsClass(err, ClassDeviceNotFound), err)
	check(t, "chardev-add", c.ChardevAdd(ctx, "c0", map[string]any{"type": "null", "data": struct{}{}}), true, nil)
	check(t, "chardev-remove", c.ChardevRemove(ctx, "c0"), true, nil)
	check(t, "set-action", c.SetAction(ctx, Actions{Shutdown: "pause", Panic: "pause"}), true, nil)
	err = c.Screendump(ctx, filepath.Join(t.TempDir(), "x"), "")
	check(t, "screendump without a display", nil, IsClass(err, ClassGenericError), err)
}

func TestRealDescriptors(t *testing.T) {
	c, ctx := realConn(t), deadline(t)
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := c.AddFD(ctx, f, "note")
	check(t, "add-fd", err, fd.FD > 0, fd)
	again, err := c.AddFDTo(ctx, fd.SetID, f, "")
	check(t, "add-fd to a set", err, again.SetID == fd.SetID && again.FD != fd.FD, again)
	err = c.BlockdevAdd(ctx, map[string]any{"driver": "file", "node-name": "f0", "filename": fmt.Sprintf("/dev/fdset/%d", fd.SetID)})
	check(t, "blockdev-add over a descriptor", err, true, nil)
	check(t, "blockdev-del", c.BlockdevDel(ctx, "f0"), true, nil)
	check(t, "remove-fd", c.RemoveFD(ctx, fd), true, nil)

	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "net.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sock, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer sock.Close()
	check(t, "getfd", c.GetFD(ctx, "nic", sock), true, nil)
	check(t, "closefd", c.CloseFD(ctx, "nic"), true, nil)
	check(t, "getfd", c.GetFD(ctx, "nic", sock), true, nil)
	err = c.NetdevAdd(ctx, map[string]any{"type": "socket", "id": "net0", "fd": "nic"})
	check(t, "netdev_add", err, true, nil)
	check(t, "netdev_del", c.NetdevDel(ctx, "net0"), true, nil)
}

func TestRealRunAndQuit(t *testing.T) {
	c, ctx := realConn(t), deadline(t)
	events := c.Subscribe(8, func(e goqemu.Event) bool {
		return e.Event == "RESUME" || e.Event == "STOP" || e.Event == "POWERDOWN" || e.Event == "SHUTDOWN"
	})
	check(t, "cont", c.Cont(ctx), true, nil)
	check(t, "stop", c.Stop(ctx), true, nil)
	check(t, "system_reset", c.SystemReset(ctx), true, nil)
	check(t, "cont", c.Cont(ctx), true, nil)
	check(t, "system_powerdown", c.SystemPowerdown(ctx), true, nil)
	check(t, "quit", c.Quit(ctx), true, nil)
	var seen []string
	for e := range events.C {
		if EventTime(e).IsZero() {
			t.Errorf("event without time: %v", e)
		}
		seen = append(seen, e.Event)
	}
	if got, want := strings.Join(seen, " "), "RESUME STOP RESUME POWERDOWN SHUTDOWN"; got != want {
		t.Errorf("events %q, want %q", got, want)
	}
	<-c.Done()
	if err := c.Err(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("end: %v", err)
	}
}

// Several clients at once, each with its commands and all the events, next to the
// daemon's own use of the connection.
func TestRealMux(t *testing.T) {
	c := realConn(t)
	_, path := muxOver(t, c, MuxOptions{})
	const clients = 3
	var ready, talking sync.WaitGroup
	for i := range clients {
		r := newRawClient(t, path)
		r.negotiate()
		ready.Add(1)
		talking.Go(func() { converse(t, r, i, &ready) })
	}
	ready.Wait()
	check(t, "cont", c.Cont(t.Context()), true, nil)
	talking.Wait()
}

// converse asks until the event that all wait for came.
func converse(t *testing.T, r *rawClient, i int, ready *sync.WaitGroup) {
	asked, event := 0, false
	ask := func() {
		asked++
		fmt.Fprintf(r, `{"execute":"query-status","id":"%d.%d"}`, i, asked)
	}
	for ask(); ; {
		line := r.line()
		if asked == 1 {
			ready.Done()
		}
		if strings.Contains(line, `"event"`) {
			event = event || strings.Contains(line, "RESUME")
			continue
		}
		if want := fmt.Sprintf(`"id": "%d.%d"}`, i, asked); !strings.HasSuffix(line, want) {
			t.Errorf("client %d got %s, want one with %s", i, line, want)
		}
		if event && asked > 10 {
			return
		}
		ask()
	}
}

// The multiplexer answers bad input with the same words as QEMU itself.
func TestRealMuxAnswersLikeQEMU(t *testing.T) {
	direct := newRawClient(t, realQEMU(t))
	_, path := muxOver(t, realConn(t), MuxOptions{})
	muxed := newRawClient(t, path)
	for _, r := range []*rawClient{direct, muxed} {
		if greeting := r.line(); !strings.Contains(greeting, `{"QMP": {"version": {`) {
			t.Errorf("greeting: %s", greeting)
		}
	}
	for _, send := range []string{
		`{"execute":"query-status","id":{"a":[1]}}`,
		`{"execute":"nonesuch"}`,
		`{"execute":"qmp_capabilities","arguments":{"bla":1},"id":1}`,
		`{"execute":"qmp_capabilities","id":"x"}`,
		`{"execute":"qmp_capabilities","id":null}`,
		`{"execute":"nonesuch","id":2}`,
		`[1]`, `{}`, `{"id":1}`, `{"execute":5}`, `{"execute":""}`, "5\n", `"x"`,
		`{"execute":"query-status","foo":1}`,
		`{"execute":"query-status","arguments":5,"id":7}`,
		`{"execute":"query-status","arguments":{"a":1},"id":7}`,
		`{"exec-oob":"query-status"}`,
		`{"execute":"query-status","execute":"query-name"}`,
		`{'execute':'query-status','id':'it\'s'}`,
		"\x01", "\xff",
		`{"execute":"balloon"}`,
		`{"execute":"balloon","arguments":{"value":"x"}}`,
	} {
		io.WriteString(direct, send)
		io.WriteString(muxed, send)
		want, got := canonical(t, direct.line()), canonical(t, muxed.line())
		if got != want {
			t.Errorf("sent %s:\nmultiplexer %s\n       QEMU %s", send, got, want)
		}
	}
}

func canonical(t *testing.T, line string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(line), &v); err != nil {
		t.Errorf("%q: %v", line, err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func TestRealMuxWithSocat(t *testing.T) {
	socat, err := exec.LookPath("socat")
	if err != nil {
		t.Skip("socat is not installed")
	}
	_, path := muxOver(t, realConn(t), MuxOptions{})
	cmd := exec.Command(socat, "-t20", "-", "UNIX-CONNECT:"+path)
	cmd.Stdin = strings.NewReader(`{"execute":"qmp_capabilities"}` + "\n" + `{"execute":"query-name"}` + "\n")
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), `{"return": {"name": "qmp test"}}`) {
		t.Errorf("got %s, %v", out, err)
	}
}
