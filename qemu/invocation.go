package qemu

import (
	"encoding/json"
	"os"

	"golang.org/x/sys/unix"
)

// Invocation is everything needed to start one QEMU process, and nothing that
// is already open: a program, its arguments, and the descriptors it expects.
// It is pure data and can be recorded as JSON.
//
// Descriptors are numbered here and nowhere else, from 3 on without a gap, over
// Sockets, Pipes and Files together: exactly as os/exec numbers ExtraFiles.
type Invocation struct {
	// Binary is the path of the QEMU program.
	Binary string `json:"binary"`
	// Machine is the versioned machine type that was chosen.
	Machine string `json:"machine"`
	// UUID of the machine; it stands in Args too, and marks the process.
	UUID string `json:"uuid"`
	// Args are the arguments, without the program's own name.
	Args []string `json:"args"`
	// Sockets are listening unix stream sockets to bind and hand over.
	Sockets []SocketNeed `json:"sockets"`
	// Pipes are FIFOs to make and hand over.
	Pipes []PipeNeed `json:"pipes"`
	// Files are the files, taps and devices to open and hand over.
	Files []FileNeed `json:"files"`
	// Commands are sent to the monitor of the paused machine, in this order,
	// before it is ready to be continued: what the command line cannot say.
	Commands []Command `json:"commands"`
}

// Command is a QMP command.
type Command struct {
	Execute   string          `json:"execute"`
	Arguments json.RawMessage `json:"arguments,omitempty"`
}

// PipeNeed is a FIFO that the process reads from. It inherits a second
// descriptor, open for both, so that the end of a writer is never the end of
// the input.
type PipeNeed struct {
	Name   string `json:"name"`   // PipeConsole
	ReadFD int    `json:"readFD"` // its numbers in the process
	KeepFD int    `json:"keepFD"`
}

// PipeConsole is what is typed at the first serial line.
const PipeConsole = "console"

// SocketNeed is a listening unix stream socket that the process inherits.
type SocketNeed struct {
	Name string `json:"name"` // SocketQMP, SocketAgent
	FD   int    `json:"fd"`   // its number in the process
}

// SocketQMP is the machine's only monitor.
const SocketQMP = "qmp"

// FileNeed is an open file that the process inherits. QEMU compares access modes
// exactly when it takes a descriptor in place of opening a file, so the file has
// to be opened with OpenFlags.
type FileNeed struct {
	// Name says what to open: "disk:<disk id>", "disk:<disk id>:backing:<n>",
	// "secret:<disk id>", "share:<share id>", "console.log",
	// "tap:<nic id>:<queue>", "vhost:<nic id>:<queue>".
	Name string `json:"name"`
	// FD is its number in the process.
	FD int `json:"fd"`
	// Writable files are opened for reading and writing, or, with Append,
	// for appending only.
	Writable bool `json:"writable,omitempty"`
	// Append: opened O_WRONLY|O_APPEND.
	Append bool `json:"append,omitempty"`
	// Directory: opened O_PATH|O_DIRECTORY.
	Directory bool `json:"directory,omitempty"`
}

// FileConsoleLog is the file that QEMU appends all that the guest prints on the
// first serial line to.
const FileConsoleLog = "console.log"

// OpenFlags are the flags for os.OpenFile that this descriptor must have been
// opened with.
func (n FileNeed) OpenFlags() int {
	switch {
	case n.Directory:
		return unix.O_PATH | unix.O_DIRECTORY
	case n.Append:
		return os.O_WRONLY | os.O_APPEND
	case n.Writable:
		return os.O_RDWR
	}
	return os.O_RDONLY
}
