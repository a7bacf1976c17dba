package disks

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

const (
	// partitionAt is where the partition of a volume begins, in bytes: where
	// sfdisk and parted put a first one.
	partitionAt = int64(1) << 20
	ext4Block   = 4096

	// MinVolume and MaxVolume bound a volume's size in bytes: what ext4 needs
	// behind the partition table, and what the table can count.
	MinVolume = 2 * partitionAt
	MaxVolume = mbrMaxSectors * sector
)

// ext4Features are those of e2fsprogs 1.42, of 2011: kernels and boot loaders of
// guests are older than the mke2fs of a node, and its mke2fs.conf is not theirs.
const ext4Features = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,uninit_bg,dir_nlink,extra_isize"

// CreateVolume writes a qcow2 file that holds an MBR with one partition with an
// empty ext4 file system, whose root directory is root's. The capacity is the
// disk's, in bytes, from MinVolume to MaxVolume; it is rounded up to a multiple
// of 512. Nothing is mounted and no loop device is used: mke2fs writes into a
// sparse file beside path, which qemu-img packs.
//
// When it returns nil the file is durable; before that it is not there under its
// name. An existing file is not replaced: that is an error that is fs.ErrExist.
func CreateVolume(ctx context.Context, path string, capacity int64) error {
	if err := createVolume(ctx, path, capacity); err != nil {
		return fmt.Errorf("create volume %s: %w", path, err)
	}
	return nil
}

func createVolume(ctx context.Context, path string, capacity int64) error {
	if capacity < MinVolume || capacity > MaxVolume {
		return fmt.Errorf("capacity of %d bytes: accepted are %d to %d, which a partition table of the MBR kind can count", capacity, MinVolume, MaxVolume)
	}
	if _, err := os.Lstat(path); err == nil {
		return &os.PathError{Op: "create", Path: path, Err: os.ErrExist}
	}
	// The name begins with a dot: what a crash leaves is nobody's volume.
	dir, err := os.MkdirTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.new")
	if err != nil {
		return err
	}
	return errors.Join(makeVolume(ctx, path, dir, roundUp(capacity, sector)), os.RemoveAll(dir))
}

func makeVolume(ctx context.Context, path, dir string, capacity int64) error {
	raw, packed := filepath.Join(dir, "raw"), filepath.Join(dir, "qcow2")
	if err := writeRawVolume(ctx, raw, capacity); err != nil {
		return err
	}
	convert := tool{name: "qemu-img", args: []string{"convert", "-f", "raw", "-O", "qcow2", raw, packed}}
	if err := convert.run(ctx); err != nil {
		return err
	}
	if err := finishFile(packed); err != nil {
		return err
	}
	if err := renameNew(packed, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// writeRawVolume writes the disk as a sparse file.
func writeRawVolume(ctx context.Context, path string, capacity int64) error {
	var signature [4]byte
	if _, err := rand.Read(signature[:]); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	record := mbr(binary.LittleEndian.Uint32(signature[:]), partitionAt/sector, (capacity-partitionAt)/sector)
	_, err = f.WriteAt(record, 0)
	if err = errors.Join(err, f.Truncate(capacity), f.Close()); err != nil {
		return err
	}
	return tool{name: "mke2fs", args: mke2fsArgs(path, capacity), env: []string{"MKE2FS_CONFIG=/dev/null"}}.run(ctx)
}

// mke2fsArgs leave tables and journal for the guest's kernel to initialise, so
// that a large volume costs as little as a small one.
func mke2fsArgs(path string, capacity int64) []string {
	return []string{
		"-q", "-F", "-b", strconv.Itoa(ext4Block), "-I", "256", "-i", "16384", "-O", ext4Features,
		"-E", fmt.Sprintf("offset=%d,nodiscard,lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0", partitionAt),
		path, strconv.FormatInt((capacity-partitionAt)/ext4Block, 10),
	}
}

// finishFile makes a file durable, and readable by its owner only.
func finishFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o600), f.Sync(), f.Close())
}
