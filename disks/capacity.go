package disks

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// DefaultCapacity is the size of a volume that does not name one: 1024 MB.
const DefaultCapacity = int64(1024) * 1000 * 1000

// capacityUnits are libvirt's (its page "Storage volume XML format"): with a B
// they are powers of 1000, without or with iB of 1024. No unit is MB.
func capacityUnits() map[string]int64 {
	units := map[string]int64{"": 1000 * 1000, "B": 1, "bytes": 1}
	decimal, binary := int64(1), int64(1)
	for _, letter := range []string{"K", "M", "G", "T", "P", "E"} {
		decimal, binary = decimal*1000, binary*1024
		units[letter+"B"], units[letter], units[letter+"iB"] = decimal, binary, binary
	}
	return units
}

const acceptedCapacity = "accepted is a whole number above 0 and nothing (MB), B, bytes, or K, M, G, T, P, E followed by nothing or iB (powers of 1024) or B (powers of 1000), such as 1536MiB or 10G"

// ParseCapacity reads the size of a volume, in bytes. Blanks around the number
// and the unit are allowed.
func ParseCapacity(text string) (int64, error) {
	s := strings.Trim(text, blanks)
	digits := s[:len(s)-len(strings.TrimLeft(s, "0123456789"))]
	unit, known := capacityUnits()[strings.TrimLeft(s[len(digits):], blanks)]
	switch {
	case digits == "":
		return 0, fmt.Errorf("invalid capacity spec %q: %s", text, acceptedCapacity)
	case !known:
		return 0, fmt.Errorf("invalid capacity unit in %q: %s", text, acceptedCapacity)
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("invalid capacity spec %q: accepted is less than 2^63 bytes", text)
	}
	if n == 0 {
		return 0, fmt.Errorf("invalid capacity spec %q: %s", text, acceptedCapacity)
	}
	return n * unit, nil
}

const blanks = " \t\r\n\f\v"
