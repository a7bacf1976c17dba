// Package ids makes and recognises the identifiers of sandboxes and
// containers.
//
// All of them are 64 lower-case hex digits, as log shippers and cAdvisor
// expect, and begin with the same lead, so that a proxy in front of two
// runtimes can tell ours from the other's without rewriting a message.
package ids

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

const (
	// Lead is the beginning of every id: the ASCII codes of "qmlt".
	Lead = "716d6c74"
	// Len is the number of hex digits of an id.
	Len = 64

	shortLen = 12
)

// New returns a fresh id.
func New() string {
	var b [(Len - len(Lead)) / 2]byte
	// crypto/rand.Read never fails: it ends the program instead.
	_, _ = rand.Read(b[:])
	return Lead + hex.EncodeToString(b[:])
}

// Short returns the twelve digits behind the lead. They name directories,
// network namespaces and sockets, whose paths are limited to 107 bytes.
// An id shorter than that is returned as it is.
func Short(id string) string {
	rest := strings.TrimPrefix(id, Lead)
	if len(rest) < shortLen {
		return rest
	}
	return rest[:shortLen]
}

// Ours tells whether an id was made by this runtime.
func Ours(id string) bool {
	return len(id) == Len && strings.HasPrefix(id, Lead)
}
