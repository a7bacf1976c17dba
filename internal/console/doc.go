// Package console carries what a guest says on its serial console to people:
// live, to any number of attached clients ([Hub]), and for good, into the log
// file of the CRI ([Log]).
//
// Both follow the file that QEMU itself appends to, which grows also while no
// daemon runs; what is typed goes through a FIFO ([Line]). They do not depend
// on each other, and the guest on neither. So a restart of the daemon ends
// attached sessions, but no byte of the log is lost or written twice.
package console
