package dhcp

import (
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// maxFrame bounds the frames that are read. DHCP requests are far smaller, and a longer one is ignored.
const maxFrame = 2048

// receiveBuffer bounds what a flooding guest can make the kernel keep, in bytes.
const receiveBuffer = 64 << 10

// Conn carries whole Ethernet frames. Close makes a blocked ReadFrame return an error that matches os.ErrClosed; after the
// deadline, of which the zero value is none, it returns one that matches os.ErrDeadlineExceeded.
type Conn interface {
	ReadFrame(buf []byte) (int, error)
	SetReadDeadline(time.Time) error
	WriteFrame(frame []byte) error
	Close() error
}

// Listen opens a packet socket (packet(7)) on the link with that index, in the calling thread's network namespace, which
// it keeps referring to. It receives what the guest sends to a DHCP server or in search of a router, before bridge and
// traffic control see it, and nothing else. The caller closes the Conn, or hands it to [Serve].
func Listen(ifindex int) (Conn, error) { return listen(ifindex, captureFilter()) }

// ListenNeighbours opens one on the link on the other side, which receives neighbours' answers only.
func ListenNeighbours(ifindex int) (Conn, error) { return listen(ifindex, neighbourFilter()) }

func listen(ifindex int, filter []bpf.RawInstruction) (Conn, error) {
	// Without a protocol the socket receives nothing until it has its filter and is bound.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("dhcp: open packet socket: %w", err)
	}
	if err := prepare(fd, ifindex, filter); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("dhcp: packet socket on link %d: %w", ifindex, err)
	}
	return &socket{file: os.NewFile(uintptr(fd), "packet"), ifindex: ifindex}, nil
}

func prepare(fd, ifindex int, filter []bpf.RawInstruction) error {
	if err := attachFilter(fd, filter); err != nil {
		return err
	}
	// Not looking at outgoing frames spares a copy of every frame to the guest.
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return os.NewSyscallError("setsockopt PACKET_IGNORE_OUTGOING", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer); err != nil {
		return os.NewSyscallError("setsockopt SO_RCVBUF", err)
	}
	return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: ifindex}))
}

func attachFilter(fd int, program []bpf.RawInstruction) error {
	code := make([]unix.SockFilter, len(program))
	for i, ins := range program {
		code[i] = unix.SockFilter{Code: ins.Op, Jt: ins.Jt, Jf: ins.Jf, K: ins.K}
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: unsafe.SliceData(code)}
	return os.NewSyscallError("setsockopt SO_ATTACH_FILTER", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog))
}

// socket is a packet socket in the runtime's poller.
type socket struct {
	file    *os.File
	ifindex int
}

func (s *socket) ReadFrame(buf []byte) (int, error) { return s.file.Read(buf) }

func (s *socket) SetReadDeadline(t time.Time) error { return s.file.SetReadDeadline(t) }

func (s *socket) WriteFrame(frame []byte) error {
	_, err := s.file.Write(frame) // bound to the link, so it goes there
	return err
}

func (s *socket) Close() error { return s.file.Close() }

func htons(v uint16) uint16 { return v<<8 | v>>8 }
