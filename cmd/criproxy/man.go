package main

import (
	"github.com/qemulet/qemulet/internal/manual"
	"github.com/qemulet/qemulet/internal/version"
)

// page is what the command "man DIR", which packages call, writes.
func page() manual.Page {
	return manual.Page{
		Name:    "criproxy",
		Section: "8",
		Short:   "stands between kubelet and two CRI runtimes",
		Version: version.Number(),
		Help:    help,
	}
}
