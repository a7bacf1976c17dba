// Package images names, fetches and keeps the disk images that VM pods boot.
//
// An image is a file that is never modified. The store uses Virtlet's layout,
// so that a node that ran Virtlet keeps its images:
//
//	<dir>/data/<sha256 of the file, hex>
//	<dir>/links/<name, "/" written as "%"> -> ../data/<sha256>
//	<dir>/data/part_*      what is being written
//	<dir>/sources.json     a cache, see sources.go
//
// One pull is a straight line: ParseName, the translation rules read afresh
// (translation.go), a client for the rule's transport profile (transport.go),
// a fetch into a part file (fetch.go), commit (commit.go).
//
// Errors carry the classes of containerd's errdefs.
package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"runtime"
	"time"
)

// ErrDigestMismatch is wrapped by the error of a pull by digest whose content
// hashed to something else.
var ErrDigestMismatch = errors.New("image digest mismatch")

// ErrStalled is wrapped by the error of a pull that got no byte for
// Options.StallTimeout, in its last attempt.
var ErrStalled = errors.New("download stalled")

// ErrClosed is returned by Pull after Close.
var ErrClosed = errors.New("image store is closed")

// idDomain separates image ids from plain digests: an OCI image that this and
// another runtime both hold has two ids, so a proxy in front of them can tell
// whose image is meant.
const idDomain = "qemulet.image.v1\n"

// ID returns the image id for the hex SHA-256 of its data. CRI 0.36 wants one
// identifier everywhere: PullImageResponse.image_ref, Image.id and
// Container.image_id are all this.
func ID(digest string) string {
	sum := sha256.Sum256([]byte(idDomain + digest))
	return digestPrefix + hex.EncodeToString(sum[:])
}

// Image is a snapshot of one stored image. It belongs to the caller.
type Image struct {
	// ID is "sha256:" and 64 hex digits, see the function ID.
	ID string
	// Digest is the SHA-256 of the file in hex; it also names the file.
	Digest string
	// Names are the tags (CRI's repo_tags), sorted, as users wrote them with
	// ":latest" filled in. An image that was pulled by digest only has none.
	Names []string
	// RepoDigests are the image's names with a digest that their server knows
	// their content by, sorted: of a registry's index or manifest, of the file as
	// it was sent, or Digest.
	RepoDigests []string
	// Size is what the file occupies on the disk, in bytes, and at least 1: what
	// is freed with it, and its share of FSInfo. Holes are not in it.
	Size int64
	// Format is QEMU's name of the file's format, "qcow2" or "raw". Like
	// VirtualSize, List may leave it empty.
	Format string
	// VirtualSize is the length of the guest's disk in bytes. List leaves it 0
	// for images that nobody asked about since the store was opened; Get,
	// Acquire and Pull always look.
	VirtualSize int64
	// Damaged says why Options.Check refuses the stored file. It is nil when
	// the file is fine, and when List has not looked yet.
	Damaged error
	// Sources are the URLs that the image was fetched from as far as is known,
	// without what may be secret, sorted. Only Details looks.
	Sources []string
	// Translated says, in what Pull returns, which rule led to the image and
	// where: `rule name "cirros" of FILE: URL`, without what may be secret;
	// "" when none did, or when nothing had to be looked up.
	Translated string
	// Path is the data file, to be opened for reading only.
	Path string
	// PulledAt is when the newest of the names was given.
	PulledAt time.Time
}

// Options say where the store is and how it fetches.
type Options struct {
	// Dir is the store. It is created when missing.
	Dir string
	// TranslationDir holds the translation files, read for each pull.
	// "" or a missing directory: no translation.
	TranslationDir string
	// Mappings lists the translations that are objects of the cluster, anew for
	// each pull; they count before those of files. Its error is passed to Warn.
	// It must not wait for long. nil: there are none.
	Mappings func(context.Context) ([]Mapping, error)
	// NoRegexp switches regexp rules off.
	NoRegexp bool
	// Protocol is put in front of a URL without "://": "https" (when empty),
	// "http" or "oci". ProtocolNone takes no name for a URL.
	Protocol string
	// FileDir is the only directory whose files URLs of the form file:///path may
	// name. "" allows none.
	FileDir string
	// IsDisk tells by the first 65608 bytes of a file, or all of them, whether it
	// can be a disk image, so that others are refused early. nil takes all.
	IsDisk func(head []byte) bool
	// Check looks at a complete image and returns its format, by QEMU's name,
	// and the length of the guest's disk in bytes. Its error refuses the image.
	// nil accepts everything, as a raw disk.
	Check func(r io.ReaderAt, size int64) (format string, virtualSize int64, err error)
	// Warn gets what does not stop a pull: broken translation files, ignored
	// certificates, leftovers that could not be removed. It may be called from
	// several goroutines at once. nil drops it.
	Warn func(error)
	// Progress is called now and then while bytes of a download arrive, from the
	// goroutine that takes them: it must not wait. nil: nobody wants to know.
	Progress func(Download)
	// Ended is called when a pull has done its work, once for all that asked for
	// it, and must not wait either. nil: nobody wants to know.
	Ended func(Ended)
	// MaxParallel bounds the downloads that run at the same time, default 3.
	// The rest waits.
	MaxParallel int
	// Arch is the architecture of VMs, by Go's name, for registries that have
	// images of several; default is the daemon's own.
	Arch string
	// MaxSize refuses larger files, in bytes, also when they come compressed; 0 is
	// no limit.
	MaxSize int64
	// StallTimeout ends an attempt that gets no byte for so long, default 60 s.
	StallTimeout time.Duration
	// Retries is how often a failed attempt is repeated as long as no further
	// byte arrives, default 3; negative is never.
	Retries int
	// Backoff is the pause before the first repetition, default 500 ms. It
	// doubles each time up to maxBackoff.
	Backoff time.Duration
}

const (
	defaultMaxParallel  = 3
	defaultStallTimeout = time.Minute
	defaultRetries      = 3
	defaultBackoff      = 500 * time.Millisecond
	maxBackoff          = 10 * time.Second
)

func (o *Options) setDefaults() {
	if o.Protocol == "" {
		o.Protocol = "https"
	}
	if o.Arch == "" {
		o.Arch = runtime.GOARCH
	}
	if o.Check == nil {
		o.Check = func(_ io.ReaderAt, size int64) (string, int64, error) { return "raw", size, nil }
	}
	if o.IsDisk == nil {
		o.IsDisk = func([]byte) bool { return true }
	}
	if o.Warn == nil {
		o.Warn = func(error) {}
	}
	if o.Progress == nil {
		o.Progress = func(Download) {}
	}
	if o.Ended == nil {
		o.Ended = func(Ended) {}
	}
	if o.MaxParallel <= 0 {
		o.MaxParallel = defaultMaxParallel
	}
	if o.StallTimeout <= 0 {
		o.StallTimeout = defaultStallTimeout
	}
	if o.Retries == 0 {
		o.Retries = defaultRetries
	}
	if o.Backoff <= 0 {
		o.Backoff = defaultBackoff
	}
}

// Download is a snapshot of a running pull.
type Download struct {
	// Ref is the image's name with its tag or digest.
	Ref string
	// URL is where it comes from, without credentials and query; empty before
	// the translation has been looked up.
	URL string
	// Waiting is true until the download gets one of the Options.MaxParallel places.
	Waiting bool
	// Bytes have arrived out of Total; Total is -1 while not known.
	Bytes, Total int64
	// Started is when the first caller asked.
	Started time.Time
	// Rate is the recent speed in bytes per second.
	Rate float64
}

// Ended is a pull that has done its work.
type Ended struct {
	// Download is how it stood at the end. Without Bytes nothing was fetched: the
	// content was stored already, or the pull failed before.
	Download
	// Took is the time from the first caller's question to the end.
	Took time.Duration
	// Err is nil when the image is stored. context.Canceled stands for a pull that
	// nobody waited for any more.
	Err error
}

// FSInfo is what the store occupies itself (CRI's FilesystemUsage).
type FSInfo struct {
	// Mountpoint is where the file system that holds the store is mounted.
	Mountpoint string
	// UsedBytes are the disk blocks of the store's files, running downloads
	// and data without a name included.
	UsedBytes uint64
	// InodesUsed counts the store's files, links and directories.
	InodesUsed uint64
	// Time is when this was measured.
	Time time.Time
}
