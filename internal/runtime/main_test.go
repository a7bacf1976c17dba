package runtime

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	goruntime "runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/qemulet/qemulet/disks/injector"
)

const inNode = "QEMULET_RUNTIME_TEST_NODE"

// TestMain runs the tests in a network and mount namespace of their own, which
// is the "node": bridges and namespaces are made there, and go with the last
// process. With -short, which needs no root, they run as they are.
func TestMain(m *testing.M) {
	injector.Main() // the tests are what writes files into root disks
	flag.Parse()
	if !testing.Short() && os.Getenv(inNode) == "" {
		os.Exit(runInNode())
	}
	if os.Getenv(inNode) != "" {
		if err := prepareNode(); err != nil {
			fmt.Fprintln(os.Stderr, "prepare the tests' node:", err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

func runInNode() int {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "the tests of runtime make network namespaces: run them as root, or with -short")
		return 1
	}
	goruntime.LockOSThread() // the parent-death signal belongs to the thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inNode+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	}
	fmt.Fprintln(os.Stderr, "run the tests in namespaces of their own:", err)
	return 1
}

func prepareNode() error {
	// Mounts of the tests must not reach the machine.
	if err := unix.Mount("", "/", "none", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}
