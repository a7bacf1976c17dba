package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"time"
)

// options are the command line, as read.
type options struct {
	primary, vm, id string
	listen          string
	handlers        []string
	stateDir        string
	patience        time.Duration
	logLevel        slog.Level
}

// gone are flags of Mirantis' CRI Proxy that have no counterpart, and why.
var gone = map[string]string{
	"streamPort":      "kubelet connects to the runtimes' own streaming servers",
	"streamUrl":       "kubelet connects to the runtimes' own streaming servers",
	"alsologtostderr": "the log always goes to standard error",
	"apiVersion":      "CRI v1 is the only version there is",
}

func readOptions(args []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("criproxy", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	connect := f.String("connect", "/run/containerd/containerd.sock,virtlet.cloud:/run/qemulet/cri.sock", "")
	f.StringVar(&o.listen, "listen", "/run/criproxy.sock", "")
	handlers := f.String("handlers", "virtlet", "")
	f.StringVar(&o.stateDir, "state-dir", "/var/lib/criproxy", "")
	f.DurationVar(&o.patience, "patience", 10*time.Second, "")
	f.TextVar(&o.logLevel, "log-level", slog.LevelInfo, "")
	if err := parse(f, args); err != nil {
		return nil, err
	}
	if o.patience <= 0 {
		return nil, usageError{fmt.Errorf("-patience %v: more than 0 is accepted, such as 10s", o.patience)}
	}
	o.handlers = strings.FieldsFunc(*handlers, func(r rune) bool { return r == ',' || r == ' ' })
	o.listen = socketPath(o.listen)
	return o, o.readConnect(*connect)
}

func parse(f *flag.FlagSet, args []string) error {
	for _, arg := range args {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if why, ok := gone[name]; ok && strings.HasPrefix(arg, "-") {
			return usageError{fmt.Errorf("-%s is not needed any more, leave it out: %s", name, why)}
		}
	}
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return usageError{err}
	}
	if f.NArg() > 0 {
		return usageError{fmt.Errorf("%q is neither a flag nor a command: doctor and version are the commands", f.Arg(0))}
	}
	return nil
}

// readConnect reads "PRIMARY,ID:SOCKET".
func (o *options) readConnect(connect string) error {
	bad := func(why string) error {
		return usageError{fmt.Errorf("-connect %q: %s; accepted is PRIMARY,ID:SOCKET, such as /run/containerd/containerd.sock,virtlet.cloud:/run/qemulet/cri.sock", connect, why)}
	}
	primary, other, two := strings.Cut(connect, ",")
	if !two || strings.Contains(other, ",") {
		return bad("it names not two runtimes")
	}
	id, vm, ok := strings.Cut(other, ":")
	if !ok || id == "" || strings.Contains(id, "/") {
		return bad("the second runtime has no id")
	}
	o.primary, o.id, o.vm = socketPath(primary), id, socketPath(vm)
	for _, path := range []string{o.primary, o.vm} {
		if !filepath.IsAbs(path) {
			return bad(fmt.Sprintf("%q is not an absolute path", path))
		}
	}
	return nil
}

// socketPath takes a path as kubelet does, with or without its scheme.
func socketPath(s string) string { return strings.TrimPrefix(strings.TrimSpace(s), "unix://") }
