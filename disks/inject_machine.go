package disks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qemulet/qemulet/disks/injector"
)

// injectMachine is the machine that writes into a disk. What it is handed are
// open files; none of them has a name.
type injectMachine struct {
	target         InjectTarget
	o              InjectOptions
	kernel, initrd *os.File
	memory         int64 // MiB
}

func newInjectMachine(target InjectTarget, files []InjectFile, o InjectOptions) (*injectMachine, error) {
	kernel, err := findKernel(o.BootDir, o.ModulesDir)
	if err != nil {
		return nil, err
	}
	m := &injectMachine{target: target, o: o}
	// Copied, because QEMU's own user may not read a node's kernel everywhere.
	m.kernel, err = memoryFile("kernel", func(w io.Writer) error { return copyFile(w, kernel.image) })
	if err == nil {
		m.initrd, err = memoryFile("initrd", func(w io.Writer) error { return writeInitrd(w, kernel, files) })
	}
	if err != nil {
		return nil, errors.Join(err, m.close())
	}
	st, err := m.initrd.Stat()
	if err != nil {
		return nil, errors.Join(err, m.close())
	}
	// The RAM disk is there twice while the kernel unpacks it.
	m.memory = 192 + st.Size()*2>>20
	return m, nil
}

func (m *injectMachine) close() error {
	var err error
	for _, f := range []*os.File{m.kernel, m.initrd} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// memoryFile fills a file that has no name and is gone with its last descriptor.
func memoryFile(name string, fill func(io.Writer) error) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memory for %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := fill(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func copyFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// Descriptors of the files that QEMU inherits.
const (
	kernelFD = 3 + iota
	initrdFD
	reportFD
	diskFD
	backingFD
)

// injectKernelArgs: console for the words of the kernel, and an end at once when
// it panics. The rest saves time where the machine is emulated.
const injectKernelArgs = "console=ttyS0 quiet panic=-1 selinux=0 rdinit=" + injector.InitPath +
	" nokaslr mitigations=off noreplace-smp cryptomgr.notests random.trust_cpu=on rcupdate.rcu_expedited=1"

func (m *injectMachine) args() []string {
	accel, cpu := "tcg,tb-size=64", "max"
	if m.o.KVM {
		accel, cpu = "kvm", "host"
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-name", "qemulet-injector",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-machine", "q35", "-accel", accel, "-cpu", cpu, "-m", strconv.FormatInt(m.memory, 10),
		"-kernel", fdPath(kernelFD), "-initrd", fdPath(initrdFD), "-append", injectKernelArgs,
		"-serial", "stdio",
		"-add-fd", fdSet(reportFD), "-chardev", "file,id=report,append=on,path=" + fdSetPath(reportFD), "-serial", "chardev:report",
		"-add-fd", fdSet(diskFD),
	}
	if m.target.Backing != nil {
		args = append(args, "-add-fd", fdSet(backingFD))
	}
	return append(args,
		"-blockdev", asJSON(m.diskNode()),
		"-device", "virtio-blk-pci,drive=root",
	)
}

func fdPath(fd int) string    { return fmt.Sprintf("/dev/fd/%d", fd) }
func fdSet(fd int) string     { return fmt.Sprintf("fd=%d,set=%d", fd, fd) }
func fdSetPath(fd int) string { return fmt.Sprintf("/dev/fdset/%d", fd) }

// node is a block node of QEMU's (QAPI BlockdevOptions).
type node map[string]any

// diskNode never lets a disk name another file: what is below it is said, or
// that there is nothing. Locks are the caller's.
func (m *injectMachine) diskNode() node {
	n := node{"node-name": "root", "driver": m.target.Format, "discard": "unmap", "file": fileNode(m.target.Disk, diskFD, false)}
	switch {
	case m.target.Format == Raw && m.target.Length != 0:
		n["offset"], n["size"] = m.target.Offset, m.target.Length
	case m.target.Format == Raw:
		n["offset"] = m.target.Offset
	case m.target.Backing != nil:
		n["backing"] = m.backingNode()
	default:
		n["backing"] = nil
	}
	return n
}

func (m *injectMachine) backingNode() node {
	n := node{"driver": m.target.BackingFormat, "read-only": true, "file": fileNode(m.target.Backing, backingFD, true)}
	if m.target.BackingFormat != Raw {
		n["driver"], n["backing"] = QCow2, nil
	}
	return n
}

func fileNode(f *os.File, fd int, readOnly bool) node {
	driver := "file"
	if st, err := f.Stat(); err == nil && !st.Mode().IsRegular() {
		driver = "host_device"
	}
	return node{"driver": driver, "filename": fdSetPath(fd), "locking": "off", "read-only": readOnly, "discard": "unmap"}
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings, numbers and booleans
	}
	return string(b)
}

// run runs the machine to its end, and returns its answer.
func (m *injectMachine) run(ctx context.Context) (injector.Report, error) {
	answer, port, err := os.Pipe()
	if err != nil {
		return injector.Report{}, err
	}
	defer answer.Close()
	said := &tail{}
	t := tool{
		name: m.o.Binary, args: m.args(), credential: m.o.Credential, said: said,
		files: []*os.File{m.kernel, m.initrd, port, m.target.Disk},
	}
	if m.target.Backing != nil {
		t.files = append(t.files, m.target.Backing)
	}
	raw := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(answer, maxReport)) // an answer cut off is none
		raw <- b
	}()
	err = t.run(ctx)
	port.Close() // so that the reader comes to an end
	return readReport(<-raw, said, err)
}

const maxReport = 64 << 10

func readReport(raw []byte, said *tail, err error) (report injector.Report, _ error) {
	if err != nil {
		return report, err
	}
	if err := json.Unmarshal(bytes.TrimSpace(raw), &report); err != nil {
		return report, fmt.Errorf("the machine ended without an answer; its console said: %s", strings.TrimSpace(said.String()))
	}
	return report, nil
}
