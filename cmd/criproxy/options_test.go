package main

import (
	"errors"
	"flag"
	"strings"
	"testing"
	"time"
)

func TestOptions(t *testing.T) {
	o, err := readOptions([]string{"-connect", "/run/crio.sock,virtlet.cloud:/run/virtlet.sock", "--listen=unix:///run/p.sock", "-handlers", "virtlet,vm"})
	if err != nil {
		t.Fatal(err)
	}
	if o.primary != "/run/crio.sock" || o.vm != "/run/virtlet.sock" || o.id != "virtlet.cloud" || o.listen != "/run/p.sock" ||
		strings.Join(o.handlers, " ") != "virtlet vm" || o.patience != 10*time.Second {
		t.Errorf("%+v", o)
	}
}

func TestBadOptions(t *testing.T) {
	for args, want := range map[string]string{
		"-connect /run/x.sock":                 "names not two runtimes",
		"-connect a,b:/c":                      `"a" is not an absolute path`,
		"-connect /a,/c":                       "has no id",
		"-connect /a,b:/c,d:/e":                "names not two runtimes",
		"-streamPort 11250":                    "-streamPort is not needed any more",
		"-connect /a,virtlet.cloud:/b -nosuch": "-nosuch",
		"-patience 0s":                         "more than 0",
		"-log-level loud":                      "loud",
		"start":                                `"start" is neither a flag nor a command`,
		"-alsologtostderr":                     "-alsologtostderr is not needed any more",
	} {
		_, err := readOptions(strings.Fields(args))
		var usage usageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
	if _, err := readOptions([]string{"--help"}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
}
