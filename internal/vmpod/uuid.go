package vmpod

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
)

// podUUIDSpace is the name space of the UUIDs that Virtlet gave its machines;
// kept, so that a guest of the same pod is still the same machine.
const podUUIDSpace = "67b7fb477735" + "4b6486d26d062d121966"

// PodUUID derives the system UUID of a pod's machine from the pod's UID, as
// version 5 of RFC 9562.
func PodUUID(podUID string) string {
	space, err := hex.DecodeString(podUUIDSpace)
	if err != nil {
		panic(err) // a constant
	}
	sum := sha1.Sum(append(space, podUID...))
	u := sum[:16]
	u[6] = u[6]&0x0f | 0x50
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}
