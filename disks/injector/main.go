package injector

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Main does the job and never returns if this process is the first one of an
// injecting machine; in any other process it does nothing. A program that
// calls disks.Inject calls it before anything else, because the machine runs
// the same program.
func Main() {
	if os.Getpid() != 1 || os.Args[0] != InitPath {
		return
	}
	report := run()
	if err := answer(report); err != nil {
		fmt.Println("injector:", err)
	}
	// QEMU takes a reset for the end.
	fmt.Println("injector:", unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
	select {}
}

func run() (report Report) {
	defer func() {
		if p := recover(); p != nil {
			report = Report{Error: fmt.Sprint("panic: ", p)}
		}
	}()
	if err := prepare(); err != nil {
		return Report{Error: err.Error()}
	}
	root, err := findRoot()
	if err == nil {
		err = root.write()
	}
	if err != nil {
		report.NoRoot = errors.Is(err, errNoRoot)
		report.Error = err.Error()
		return report
	}
	return Report{Partition: root.partition, Filesystem: root.filesystem}
}

// prepare makes the kernel's file systems and loads what the disk needs.
func prepare() error {
	for _, m := range []struct{ what, at string }{{"devtmpfs", "/dev"}, {"sysfs", "/sys"}} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.what, m.at, m.what, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.what, err)
		}
	}
	loadModules()
	return nil
}

// loadModules goes on after an error: a module may be there for hardware that
// this machine lacks, and if one that matters is missing, then so will be the
// disk or the file system.
func loadModules() {
	entries, _ := os.ReadDir(ModuleDir) // none: all is built in
	for _, e := range entries {
		if err := loadModule(ModuleDir + "/" + e.Name()); err != nil && !errors.Is(err, unix.EEXIST) {
			fmt.Printf("injector: module %s: %v\n", e.Name(), err)
		}
	}
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

func readJob() (job Job, err error) {
	raw, err := os.ReadFile(JobPath)
	if err != nil {
		return job, err
	}
	return job, json.Unmarshal(raw, &job)
}

// answer writes the report to the second serial port, and waits until it is out.
func answer(r Report) error {
	port, err := os.OpenFile("/dev/ttyS1", os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer port.Close()
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := port.Write(append(raw, '\n')); err != nil {
		return err
	}
	return unix.IoctlSetInt(int(port.Fd()), unix.TCSBRK, 1) // tcdrain
}
