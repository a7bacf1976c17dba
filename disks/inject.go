package disks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/qemulet/qemulet/disks/injector"
)

// Limits of Inject: of all contents together in bytes, of the files, and of a
// run of the machine, which takes two seconds where it is emulated.
const (
	MaxInjectBytes = 64 << 20
	MaxInjectFiles = 10000
	injectTimeout  = 90 * time.Second
)

// InjectFile is a file that Inject writes.
type InjectFile struct {
	// Path in the guest's root file system, absolute.
	Path string
	Data []byte
	// Mode has the permission bits. 0 keeps those of a file that is replaced,
	// and makes 0644 of a new one.
	Mode     fs.FileMode
	UID, GID int
}

// InjectTarget is the disk that Inject writes to. Nobody else has it open for
// writing. The files are the caller's, who closes them.
type InjectTarget struct {
	// Disk is open for reading and writing: a file or, if Format is Raw, also a
	// block device.
	Disk   *os.File
	Format Format
	// Offset and Length bound the guest's part of a raw disk, in bytes; a
	// Length of 0 means all that follows. They are 0 of a qcow2 disk.
	Offset, Length int64
	// Backing is a file below a qcow2 disk, open for reading; nil for none.
	// BackingFormat is Raw or, also when empty, QCow2.
	Backing       *os.File
	BackingFormat Format
}

// Injection is where the files are after Inject.
type Injection struct {
	// Partition is the number of the partition, 0 for a disk without partitions.
	Partition int
	// Filesystem is its type, ext4 (also of ext2 and ext3) or xfs.
	Filesystem string
}

// InjectOptions say what the injecting machine is made of.
type InjectOptions struct {
	// Binary is QEMU, by its path.
	Binary string
	// KVM lets the machine use KVM; otherwise it is emulated.
	KVM bool
	// Credential is what QEMU runs as; nil means this process's own user.
	Credential *syscall.Credential
	// BootDirs and ModulesDir are where kernels and their modules are; empty
	// means /boot and /lib/modules.
	BootDir, ModulesDir string
}

// ErrNoRootFilesystem is what an error is when the disk has no root file system
// that can be written. Its message says what it has instead.
var ErrNoRootFilesystem = errors.New("no root file system that can be written")

// ErrNoKernel is what an error is when this node has no kernel that the machine
// could run.
var ErrNoKernel = errors.New("no kernel for the machine that writes into disks")

// Inject writes files into the root file system of a guest that does not run:
// the first partition, or else the whole disk, with ext2, ext3, ext4 or xfs that
// has /etc and one of /usr and /bin at its top. Partitions for EFI, /boot and
// data have not. LVM, LUKS and RAID are not looked into.
//
// Directories above a file are made, as root's with mode 0755. What has a file's
// name is replaced, unless it is a directory. Symbolic links lead where they
// would lead in the guest.
//
// No file system of a guest is read by this process or mounted by this node's
// kernel: a small machine of its own does it, with a kernel of this node's
// distribution and this very program as its only process (which has to be linked
// statically, and to call injector.Main first thing). So a journal is replayed
// by the code that knows best, all file systems take the same way, and an image
// that was made to break its reader breaks a machine without network, in QEMU's
// sandbox. It takes two seconds where machines are emulated. (debugfs over a FUSE
// export takes a twentieth, but for ext4 only, parses the image on the node, and
// knows neither links nor labels. libguestfs boots a machine too, a large one, of
// 118 packages.)
//
// When it returns nil the files are durable. After an error anything may have
// been written: the disk must be made anew. An error is ErrNoRootFilesystem,
// ErrNoKernel, or what QEMU, the kernel or the machine say. The machine ends with
// ctx, and with this process.
func Inject(ctx context.Context, target InjectTarget, files []InjectFile, o InjectOptions) (Injection, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, injectTimeout, fmt.Errorf("the machine did not end within %v", injectTimeout))
	defer cancel()
	done, err := inject(ctx, target, files, o)
	if err != nil {
		return done, fmt.Errorf("write %d files into the root file system: %w", len(files), err)
	}
	return done, nil
}

func inject(ctx context.Context, target InjectTarget, files []InjectFile, o InjectOptions) (Injection, error) {
	if err := checkInject(files); err != nil {
		return Injection{}, err
	}
	m, err := newInjectMachine(target, files, o)
	if err != nil {
		return Injection{}, err
	}
	defer m.close()
	report, err := m.run(ctx)
	if err != nil {
		return Injection{}, err
	}
	if report.NoRoot {
		return Injection{}, fmt.Errorf("%w%s", ErrNoRootFilesystem, strings.TrimPrefix(report.Error, ErrNoRootFilesystem.Error()))
	}
	if report.Error != "" {
		return Injection{}, errors.New(report.Error)
	}
	return Injection{Partition: report.Partition, Filesystem: report.Filesystem}, target.Disk.Sync()
}

// checkInject refuses what cannot be written anywhere.
func checkInject(files []InjectFile) error {
	total := 0
	for _, f := range files {
		switch {
		case !path.IsAbs(f.Path) || strings.ContainsRune(f.Path, 0) || strings.HasSuffix(f.Path, "/"):
			return fmt.Errorf("path %q: needed is an absolute path of a file", f.Path)
		case f.Mode&^fs.ModePerm != 0:
			return fmt.Errorf("file %s: mode %v: accepted are the permission bits", f.Path, f.Mode)
		case f.UID < 0 || f.GID < 0 || f.UID >= math.MaxUint32 || f.GID >= math.MaxUint32:
			return fmt.Errorf("file %s: owner %d:%d: accepted are 0 to %d", f.Path, f.UID, f.GID, uint32(math.MaxUint32-1))
		}
		total += len(f.Data)
	}
	if total > MaxInjectBytes || len(files) > MaxInjectFiles {
		return fmt.Errorf("%d files with %d bytes: accepted are %d files with %d bytes together", len(files), total, MaxInjectFiles, MaxInjectBytes)
	}
	return nil
}

// injectJob is what the machine is told; the contents travel beside it.
func injectJob(files []InjectFile) injector.Job {
	var job injector.Job
	for _, f := range files {
		entry := injector.File{Path: path.Clean(f.Path), UID: f.UID, GID: f.GID}
		if f.Mode != 0 {
			mode := uint32(f.Mode.Perm())
			entry.Mode = &mode
		}
		job.Files = append(job.Files, entry)
	}
	return job
}
