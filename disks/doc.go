// Package disks makes and checks what becomes a block device of a guest.
//
// It reads and writes qcow2 itself, in this process: Inspect and CheckBase say
// what a file is and whether a guest's disk may stand on it, CreateOverlay
// makes the disk. The format is that of QEMU's docs/interop/qcow2.txt.
package disks
