package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

const inNode = "QEMULET_NETNS_TEST_NODE"

// TestMain runs the tests in a network and mount namespace of their own, which is the "node": the CNI plugins make their
// bridges, veth pairs and firewall rules there, and it all goes with the last process.
func TestMain(m *testing.M) {
	if os.Getenv(inNode) == "" {
		os.Exit(runInNode())
	}
	if err := prepareNode(); err != nil {
		fmt.Fprintln(os.Stderr, "prepare the tests' node:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func runInNode() int {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "the tests of netns make network namespaces: run them as root")
		return 1
	}
	runtime.LockOSThread() // the parent-death signal belongs to the thread
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
	default:
		fmt.Fprintln(os.Stderr, "run the tests in namespaces of their own:", err)
		return 1
	}
}

func prepareNode() error {
	// Mounts of the tests must not reach the machine.
	if err := unix.Mount("", "/", "none", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return err
	}
	l, err := openLinks()
	if err != nil {
		return err
	}
	defer l.Close()
	return l.loopbackUp()
}
