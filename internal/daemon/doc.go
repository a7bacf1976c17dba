// Package daemon puts the rooms of the house together and runs them until it
// is told to stop: the one process that `qemulet serve` is, and that `qemulet
// run` starts in itself when no other is there.
package daemon
