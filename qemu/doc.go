// Package qemu is one QEMU machine: what it is made of, which binary and
// accelerator run it, and the life of its process.
//
// The invariant: what a machine is, is decided before anything is touched. [Build]
// is a pure function of a [Config] and of the [Capabilities] of a binary; the
// [Invocation] it returns holds the whole command line, and names every descriptor
// that goes with it. No value of a Config can become an option, a property or a
// device that Build did not mean to write; the address of a device depends on its
// number among its own kind and on nothing else; and an Invocation that Build has
// returned is one that the binary takes. Everything with an effect comes before or
// after: [Probe] and [DecideAccel] ask the binary and the host, each with a process
// that is gone when they return, and starting a machine opens what the Invocation
// names, hands it over and asks the monitor whether the machine is ready. QEMU
// itself opens nothing: it runs as an unprivileged user, in a sandbox, on
// descriptors that it was given.
//
// Everything is of QEMU 7.2 or newer; what differs between releases is in
// version.go.
package qemu
