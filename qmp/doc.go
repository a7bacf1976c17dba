// Package qmp speaks the QEMU Machine Protocol to one QEMU process.
//
// A [Conn] is one negotiated monitor connection. Any number of goroutines may
// send commands through it ([Conn.Do] and the typed commands built on it) and
// listen to events ([Conn.Subscribe]). It costs one goroutine and a read buffer
// of 4 KiB.
// [Conn.Monitor] presents it as go-qemu's qmp.Monitor.
//
// QEMU serves one client per monitor at a time. A [Mux] lets any number of
// other QMP clients share the connection.
//
// The protocol is defined by QEMU's docs/interop/qmp-spec and the commands by
// its QAPI schema (QEMU QMP Reference Manual).
package qmp
