package runtime

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/qemulet/qemulet/internal/vmpod"
	"github.com/qemulet/qemulet/qmp"
)

// display returns the monitor of a running VM that has a display. what needs one is
// said in the error.
func (r *Runtime) display(id, what string) (*qmp.Conn, error) {
	v, m, err := r.machineOf(id, what)
	if err != nil {
		return nil, err
	}
	spec, err := vmpod.Parse(v.pod.config(), v.record().Config.M)
	if err != nil {
		return nil, err
	}
	if !spec.Display {
		return nil, fmt.Errorf("the VM has no display, and cannot be given one while it runs: make the pod anew with the annotation %s: vga: %w",
			vmpod.DisplayAnnotation, errdefs.ErrFailedPrecondition)
	}
	return m.QMP(), nil
}

// VNC connects to the display of a VM: what is returned speaks RFB (RFC 6143).
// QEMU listens nowhere; it is handed one end of a pair of sockets. The caller
// closes the other.
func (r *Runtime) VNC(ctx context.Context, id string) (net.Conn, error) {
	monitor, err := r.display(id, "vnc")
	if err != nil {
		return nil, err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	name := "vnc-" + rand.Text()
	err = monitor.GetFD(ctx, name, theirs)
	if err == nil {
		if err = monitor.AddVNCClient(ctx, name); err != nil {
			ctx, cancel := undo(ctx)
			defer cancel()
			err = errors.Join(err, monitor.CloseFD(ctx, name))
		}
	}
	if err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	return ours, nil
}

// socketPair returns two connected stream sockets, one as a connection and one to
// hand over.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "socketpair"), os.NewFile(uintptr(fds[1]), "socketpair")
	defer ours.Close() // the connection has a descriptor of its own
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return conn, theirs, nil
}

// Screenshot writes what a VM's display shows to w, as a PNG.
func (r *Runtime) Screenshot(ctx context.Context, id string, w io.Writer) error {
	monitor, err := r.display(id, "screenshot")
	if err != nil {
		return err
	}
	// A file that has no name, for QEMU may open none.
	fd, err := unix.MemfdCreate("screenshot", unix.MFD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	picture := os.NewFile(uintptr(fd), "screenshot")
	defer picture.Close()
	if err := screendump(ctx, monitor, picture); err != nil {
		return err
	}
	return pngOfPPM(picture, w)
}

// screendump has QEMU write a picture into a file. PPM is what all versions write.
func screendump(ctx context.Context, monitor *qmp.Conn, to *os.File) error {
	// QEMU compares access modes exactly.
	writer, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", to.Fd()), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer writer.Close()
	set, err := monitor.AddFD(ctx, writer, "screenshot")
	if err != nil {
		return err
	}
	err = monitor.Screendump(ctx, fmt.Sprintf("/dev/fdset/%d", set.SetID), "")
	ctx, cancel := undo(ctx)
	defer cancel()
	return errors.Join(err, monitor.RemoveFD(ctx, set))
}
