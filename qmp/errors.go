package qmp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// Error classes of QMP (QapiErrorClass). The class is part of the protocol, the
// description is not.
const (
	ClassGenericError    = "GenericError"
	ClassCommandNotFound = "CommandNotFound"
	ClassDeviceNotActive = "DeviceNotActive"
	ClassDeviceNotFound  = "DeviceNotFound"
	ClassKVMMissingCap   = "KVMMissingCap"
)

var (
	// ErrClosed is the end of a connection by [Conn.Close].
	ErrClosed = errors.New("connection closed")

	// ErrTooLong ends a connection on which QEMU sent a line above 16 MiB.
	ErrTooLong = errors.New("line too long")

	// ErrProtocol ends a connection on which something came that is not QMP.
	ErrProtocol = errors.New("not QMP")
)

// Error is QEMU's answer that a command failed.
type Error struct {
	Class   string // one of the Class constants
	Desc    string // for people; changes between versions of QEMU
	Command string // the command that failed
}

// Error names the command and quotes QEMU.
func (e *Error) Error() string {
	if e.Class == "" || e.Class == ClassGenericError {
		return fmt.Sprintf("qmp: %s: %s", e.Command, e.Desc)
	}
	return fmt.Sprintf("qmp: %s: %s (%s)", e.Command, e.Desc, e.Class)
}

// IsClass tells whether err is or wraps an [Error] of that class.
func IsClass(err error, class string) bool {
	var e *Error
	return errors.As(err, &e) && e.Class == class
}

// peerGone turns the several ways in which a peer's death shows into one, so
// that callers have a single thing to look for: [io.ErrUnexpectedEOF].
func peerGone(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe),
		errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("QEMU closed the connection: %w", io.ErrUnexpectedEOF)
	case errors.Is(err, net.ErrClosed):
		return ErrClosed
	}
	return err
}

// commandError names the command in an error that is not QEMU's answer.
func commandError(command string, err error) error {
	return fmt.Errorf("qmp: %s: %w", command, err)
}
