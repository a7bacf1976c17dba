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
}

// addMemory gives the machine its RAM. The object bears the id that the machine
// type would have given it, which is part of a checkpoint's format.
func addMemory(b *builder) error {
	if b.MemoryBytes < mebibyte || b.MemoryBytes > maxMemory || b.MemoryBytes%mebibyte != 0 {
		return bad("memoryBytes", b.MemoryBytes, "a multiple of %d (1 MiB), up to %d (16 TiB)", mebibyte, int64(maxMemory))
	}
	id := b.machine.RAMID
	b.opts("-m", options{{"size", fmt.Sprintf("%dM", b.MemoryBytes/mebibyte)}})
	b.object(memoryBackend{Type: "memory-backend-ram", ID: id, Size: b.MemoryBytes})
	return nil
}
