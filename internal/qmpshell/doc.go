// Package qmpshell lets a person speak QMP: commands as one line of words, in the
// manner of QEMU's own qmp-shell, with completion from what QEMU says of itself.
package qmpshell
