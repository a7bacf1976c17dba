// Package console carries what a guest says on its serial console to people:
// live, to any number of attached clients ([Hub]), and for good, into the log
// file of the CRI ([Log]).
//
// The two do not depend on each other. The Hub is the only client of QEMU's
// console socket and always reads it, since a reader that stalls there stalls
// the guest's terminal. The Log follows the file QEMU itself appends to
// (chardev option logfile), which grows also while no daemon runs. So a
// restart of the daemon ends attached sessions, but no byte of the log is lost
// or written twice.
package console
