// Command flexvolume_driver is called by kubelet for the volumes of pods with
//
//	flexVolume: {driver: virtlet/flexvolume_driver}
//
// It belongs, executable, into the directory virtlet~flexvolume_driver of
// kubelet's volume plugins. It says one line of JSON on standard output, also
// about what went wrong, and then ends with 0.
package main

import (
	"os"

	"github.com/qemulet/qemulet/internal/flexvolume"
)

func main() {
	driver := flexvolume.Driver{NewUUID: flexvolume.NewUUID}
	if _, err := os.Stdout.Write(driver.Call(os.Args[1:]).Line()); err != nil {
		os.Exit(1)
	}
}
