package qemu

import "fmt"

const mebibyte = 1 << 20

// maxMemory is far above any host, and far below where QEMU's sums overflow.
const maxMemory = 16 << 40

// memoryBackend is guest RAM: private anonymous memory of the process.
type memoryBackend struct {
	Type string `json:"qom-type"`
	ID   string `json:"id"`
	Size int64  `json:"size"`
	// Share is left out where it is QEMU's default, private.
	Share bool `json:"share,omitempty"`
}

// addMemory gives the machine its RAM. The object bears the id that the machine
// type would have given it, which is part of a checkpoint's format.
func addMemory(b *builder) error {
	if b.MemoryBytes < mebibyte || b.MemoryBytes > maxMemory || b.MemoryBytes%mebibyte != 0 {
		return bad("memoryBytes", b.MemoryBytes, "a multiple of %d (1 MiB), up to %d (16 TiB)", mebibyte, int64(maxMemory))
	}
	b.opts("-m", options{{"size", fmt.Sprintf("%dM", b.MemoryBytes/mebibyte)}})
	if len(b.NUMA) > 0 {
		return b.addNodeMemory()
	}
	b.object(memoryBackend{Type: "memory-backend-ram", ID: b.machine.RAMID, Size: b.MemoryBytes})
	return nil
}

// addNodeMemory gives each NUMA node its part of the RAM.
func (b *builder) addNodeMemory() error {
	var sum int64
	for id, node := range b.NUMA {
		if node.MemoryBytes < mebibyte || node.MemoryBytes > maxMemory || node.MemoryBytes%mebibyte != 0 {
			return bad(fmt.Sprintf("numa[%d].memoryBytes", id), node.MemoryBytes, "a multiple of %d (1 MiB), up to %d (16 TiB)", mebibyte, int64(maxMemory))
		}
		sum += node.MemoryBytes
		b.object(memoryBackend{Type: "memory-backend-ram", ID: nodeMemoryID(id), Size: node.MemoryBytes, Share: node.Shared})
	}
	if sum != b.MemoryBytes {
		return bad("numa", fmt.Sprintf("nodes with %d bytes of memory", sum), "nodes with %d together, which is memoryBytes", b.MemoryBytes)
	}
	return nil
}
