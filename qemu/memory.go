package qemu

import "fmt"

const mebibyte = 1 << 20

// maxMemory is far above any host, and far below where QEMU's sums overflow.
const maxMemory = 16 << 40

// memoryBackend is guest RAM: private anonymous memory of the process, or a file
// without a name in huge pages (QAPI MemoryBackendProperties,
// MemoryBackendMemfdProperties). Huge pages are reserved when they are mapped,
// so that none can be missing later, and not written before the guest does: to
// clear them would delay the start of a large guest by seconds.
type memoryBackend struct {
	Type string `json:"qom-type"`
	ID   string `json:"id"`
	Size int64  `json:"size"`
	// Share is left out where it is QEMU's default: private for ordinary
	// memory, shared for a file.
	Share bool `json:"share,omitempty"`
	// HugeTLB asks for pages of HugeTLBSize.
	HugeTLB     bool  `json:"hugetlb,omitempty"`
	HugeTLBSize int64 `json:"hugetlbsize,omitempty"`
}

// addMemory gives the machine its RAM. The object bears the id that the machine
// type would have given it, which is part of a checkpoint's format.
func addMemory(b *builder) error {
	if b.MemoryBytes < mebibyte || b.MemoryBytes > maxMemory || b.MemoryBytes%mebibyte != 0 {
		return bad("memoryBytes", b.MemoryBytes, "a multiple of %d (1 MiB), up to %d (16 TiB)", mebibyte, int64(maxMemory))
	}
	b.opts("-m", options{{"size", fmt.Sprintf("%dM", b.MemoryBytes/mebibyte)}})
	if err := b.checkHugePages("memoryBytes", b.MemoryBytes); err != nil {
		return err
	}
	if len(b.NUMA) > 0 {
		return b.addNodeMemory()
	}
	b.addBackend(b.machine.RAMID, b.MemoryBytes, false)
	return nil
}

func (b *builder) addBackend(id string, size int64, shared bool) {
	o := memoryBackend{Type: "memory-backend-ram", ID: id, Size: size, Share: shared}
	if b.HugePageBytes != 0 {
		o.Type, o.HugeTLB, o.HugeTLBSize = "memory-backend-memfd", true, b.HugePageBytes
	}
	b.object(o)
}

// checkHugePages sees to it that memory is made of whole huge pages.
func (b *builder) checkHugePages(field string, size int64) error {
	page := b.HugePageBytes
	switch {
	case page == 0:
		return nil
	case page < 0 || page&(page-1) != 0 || page > maxMemory:
		return bad("hugePageBytes", page, "the size of a huge page of the host, a power of two, such as %d", 2*mebibyte)
	case size%page != 0:
		return bad(field, size, "a multiple of the huge pages of %d bytes", page)
	}
	return nil
}

// addNodeMemory gives each NUMA node its part of the RAM.
func (b *builder) addNodeMemory() error {
	var sum int64
	for id, node := range b.NUMA {
		if node.MemoryBytes < mebibyte || node.MemoryBytes > maxMemory || node.MemoryBytes%mebibyte != 0 {
			return bad(fmt.Sprintf("numa[%d].memoryBytes", id), node.MemoryBytes, "a multiple of %d (1 MiB), up to %d (16 TiB)", mebibyte, int64(maxMemory))
		}
		if err := b.checkHugePages(fmt.Sprintf("numa[%d].memoryBytes", id), node.MemoryBytes); err != nil {
			return err
		}
		sum += node.MemoryBytes
		b.addBackend(nodeMemoryID(id), node.MemoryBytes, node.Shared)
	}
	if sum != b.MemoryBytes {
		return bad("numa", fmt.Sprintf("nodes with %d bytes of memory", sum), "nodes with %d together, which is memoryBytes", b.MemoryBytes)
	}
	return nil
}
