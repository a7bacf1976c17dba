package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/config"
	"github.com/qemulet/qemulet/internal/ids"
	"github.com/qemulet/qemulet/internal/images"
	daemonruntime "github.com/qemulet/qemulet/internal/runtime"
	"github.com/qemulet/qemulet/internal/version"
)

const (
	// diagProgram bounds each program that is asked.
	diagProgram = 10 * time.Second
	// diagFile bounds what is taken of each file, from its end.
	diagFile = 4 << 20
	// journalLines are taken of the daemon's log.
	journalLines = "20000"
)

// diagnosis collects texts. Nothing goes in but what is known to be no secret:
// no environment, no user-data, no content of CNI configurations, no command lines
// of other programs, nothing that a guest has printed.
type diagnosis map[string]string

// diagnose tells all that there is to know of the node. What cannot be found out is
// an error in its place.
func (n *node) diagnose(ctx context.Context, cfg *config.Config) api.Diagnosis {
	d := diagnosis{}
	d.version(ctx, n)
	d.json("settings.json", cfg.Values(), nil)
	d.text("daemon.log", daemonLog(ctx))
	d.goroutines()
	d.json("conditions.json", n.runtime.Conditions(ctx), nil)
	stored, err := n.images.Details(ctx, "")
	d.json("images.json", imagesOf(stored), err)
	d.cniNames(cfg.CNIConfDir)
	d.text("criproxy.txt", program(ctx, besides("criproxy"), "doctor"))
	d.network(ctx, "network", "")
	records := n.runtime.Records()
	d.json("pods.json", records, nil)
	for _, p := range records {
		d.pod(ctx, p)
	}
	return api.Diagnosis{Files: d}
}

func (d diagnosis) json(path string, what any, err error) {
	raw, errJSON := json.MarshalIndent(what, "", "  ")
	if err == nil {
		err = errJSON
	}
	if err != nil {
		raw = []byte("error: " + err.Error())
	}
	d.text(path, string(raw)+"\n")
}

func (d diagnosis) text(path, text string) { d[path] = text }

func (d diagnosis) version(ctx context.Context, n *node) {
	var uname unix.Utsname
	_ = unix.Uname(&uname) // it has no way to fail
	var caps, accel string
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if state, err := n.runtime.Hypervisor.Ready(ctx); err == nil {
		caps = fmt.Sprintf("%s %s", state.Capabilities.Binary, state.Capabilities.Version)
		accel = fmt.Sprintf("%s: %s", state.Accel.Accel, state.Accel.Reason)
	} else {
		caps = "error: " + err.Error()
	}
	d.text("version.txt", fmt.Sprintf("qemulet %s\n%s\nkernel %s %s\nQEMU %s\naccelerator %s\n", version.Number(), runtime.Version(),
		unix.ByteSliceToString(uname.Release[:]), unix.ByteSliceToString(uname.Machine[:]), caps, accel))
}

func (d diagnosis) goroutines() {
	var stacks bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&stacks, 2) // a buffer takes all
	d.text("goroutines.txt", stacks.String())
}

// cniNames lists CNI's configurations. They may hold credentials, so that only
// their names are told.
func (d diagnosis) cniNames(dir string) {
	entries, err := os.ReadDir(dir)
	var b strings.Builder
	if err != nil {
		fmt.Fprintf(&b, "error: %v\n", err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			fmt.Fprintf(&b, "%s %d bytes, of %s\n", e.Name(), info.Size(), info.ModTime().Format(time.RFC3339))
		}
	}
	d.text("cni.txt", b.String())
}

// imagesOf shows images as the api socket does.
func imagesOf(stored []images.Image) []api.Image {
	all := []api.Image{}
	for _, img := range stored {
		all = append(all, api.NewImage(img, nil))
	}
	return all
}

// network has addresses and routes of a namespace, "" for the daemon's own.
func (d diagnosis) network(ctx context.Context, path, netns string) {
	for file, args := range map[string][]string{
		"addresses.txt": {"-details", "address"},
		"routes.txt":    {"route", "show", "table", "all"},
		"routes6.txt":   {"-6", "route", "show", "table", "all"},
	} {
		argv := append([]string{"ip"}, args...)
		if netns != "" {
			argv = append([]string{"nsenter", "--net=" + netns}, argv...)
		}
		d.text(path+"/"+file, program(ctx, argv[0], argv[1:]...))
	}
}

func (d diagnosis) pod(ctx context.Context, p daemonruntime.PodRecord) {
	path := "pods/" + p.Namespace + "_" + p.Name + "_" + p.UID
	if _, err := os.Stat(p.NetnsPath); err == nil {
		d.network(ctx, path+"/network", p.NetnsPath)
	}
	for _, v := range p.VMs {
		d.vm(path+"/"+ids.Short(v.ID), v)
	}
}

func (d diagnosis) vm(path string, v daemonruntime.VMRecord) {
	d.text(path+"/qemu.log", tail(v.QEMULog))
	description := tail(v.ConfigFile)
	d.text(path+"/config.json", description)
	d.text(path+"/argv.txt", argvOf(description))
	if v.PID > 0 {
		d.text(path+"/process.txt", tail(fmt.Sprintf("/proc/%d/status", v.PID)))
		d.text(path+"/cgroup.txt", cgroupNumbers(v.PID))
	}
}

// argvOf is QEMU's command line, an argument to a line.
func argvOf(description string) string {
	var spec struct {
		VM struct {
			Hypervisor struct {
				Path       string
				Parameters []string
			}
		}
	}
	if err := json.Unmarshal([]byte(description), &spec); err != nil {
		return "error: " + err.Error() + "\n"
	}
	return strings.Join(append([]string{spec.VM.Hypervisor.Path}, spec.VM.Hypervisor.Parameters...), "\n") + "\n"
}

// besides is a program of ours, beside this one or in PATH.
func besides(name string) string {
	self, err := os.Executable()
	if err != nil {
		return name
	}
	if path := filepath.Join(filepath.Dir(self), name); exists(path) {
		return path
	}
	return name
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// program is what a program prints, with its error behind it.
func program(ctx context.Context, name string, args ...string) string {
	ctx, cancel := context.WithTimeout(ctx, diagProgram)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s\nerror: %v\n", out, err)
	}
	return string(out)
}
