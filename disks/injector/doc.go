// Package injector is the inside of the small machine in which package disks
// writes files into a guest's root disk: what runs there as its first and only
// process.
//
// The machine has a kernel of the node's distribution, the disk, and an initial
// RAM disk with this program, the kernel's modules and the files. It has no
// network and no shell. It finds the root file system, writes, answers on its
// second serial port, and ends.
package injector

// Paths in the initial RAM disk.
const (
	// InitPath is this program; the kernel is told to run it (rdinit=).
	InitPath = "/qemulet-injector"
	// JobPath is a Job as JSON.
	JobPath = "/job.json"
	// DataDir holds the content of file n under the name n.
	DataDir = "/data"
	// ModuleDir holds modules of the kernel, uncompressed; they are loaded in
	// the order of their names.
	ModuleDir = "/modules"
)

// Job is what is to be done.
type Job struct {
	Files []File
}

// File is a file that is to be written.
type File struct {
	// Path in the guest's root, absolute and clean.
	Path string
	// Mode has the permission bits; nil keeps those of a file that is
	// replaced, and is 0644 for a new one.
	Mode     *uint32
	UID, GID int
}

// Report is the answer: Error, or where the files are now.
type Report struct {
	// Partition is the number of the partition with the root file system, 0 of
	// a disk without partitions.
	Partition int
	// Filesystem is its type: ext4 (also for ext2 and ext3) or xfs.
	Filesystem string
	// NoRoot tells that the disk has no root file system that can be written.
	NoRoot bool
	Error  string
}
