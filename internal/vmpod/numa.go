package vmpod

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxGuestMemory bounds what a cell can ask for: no host has more, and sums of
// it fit.
const maxGuestMemory = int64(16) << 40

// maxNUMACells is QEMU's limit of NUMA nodes.
const maxNUMACells = 128

// readNUMA reads the cells. libvirt's element is <cell>; the list goes by
// Cells too.
func readNUMA(t *tree) []NUMACell {
	list := t.mappings("Cell")
	list = append(list, t.mappings("Cells")...)
	if len(list) > maxNUMACells {
		t.refuse("Cell", fmt.Sprint(len(list)), "are too many NUMA cells", "up to 128")
		return nil
	}
	order := cellOrder(list)
	cells := make([]NUMACell, len(list))
	for i, node := range list {
		cells[order[i]] = readCell(node)
	}
	readDistances(list, order, cells)
	if len(cells) == 0 {
		return nil
	}
	return cells
}

// cellOrder is the node number of each cell: its ID, by default its place.
func cellOrder(list []*tree) []int {
	order := make([]int, len(list))
	taken := map[int]bool{}
	for i, t := range list {
		order[i] = i
		if t.has("ID") {
			order[i] = int(t.number("ID", 0, int64(len(list)-1), fmt.Sprintf("a number from 0 to %d: cells are numbered without a gap", len(list)-1)))
		}
		if taken[order[i]] && !t.failed("ID") {
			t.refuse("ID", fmt.Sprint(order[i]), "is the number of another cell", "each number once")
		}
		taken[order[i]] = true
	}
	return order
}

func readCell(t *tree) NUMACell {
	return NUMACell{
		CPUs:        readCPUList(t),
		MemoryBytes: readCellMemory(t),
		Shared:      t.word("MemAccess", "private", "shared") == "shared",
	}
}

const cpuListAccepted = "numbers and ranges of virtual processors, counted from 0, such as 0-1,3"

// readCPUList reads libvirt's sets of processors: "0-3,^2,5". A single number
// may come without quotes.
func readCPUList(t *tree) []int {
	text := t.text("CPUs")
	if strings.TrimSpace(text) == "" {
		return nil
	}
	set := map[int]bool{}
	for part := range strings.SplitSeq(text, ",") {
		if !addRange(set, strings.TrimSpace(part)) {
			t.refuse("CPUs", text, "is not a set of processors", cpuListAccepted)
			return nil
		}
	}
	var cpus []int
	for cpu := range set {
		cpus = append(cpus, cpu)
	}
	slices.Sort(cpus)
	return cpus
}

// addRange adds "n" or "n-m", or takes "^n" away, which must be there.
func addRange(set map[int]bool, part string) bool {
	if not, ok := strings.CutPrefix(part, "^"); ok {
		n, ok := cpuNumber(not)
		if !ok || !set[n] {
			return false
		}
		delete(set, n)
		return true
	}
	from, to, isRange := strings.Cut(part, "-")
	first, ok := cpuNumber(from)
	last := first
	if ok && isRange {
		last, ok = cpuNumber(to)
	}
	for n := first; ok && n <= last; n++ {
		set[n] = true
	}
	return ok && first <= last
}

func cpuNumber(text string) (int, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 16)
	return int(n), err == nil && n < maxVCPUs
}

// memoryUnits are libvirt's, in any case of letters; KiB is the default.
var memoryUnits = map[string]int64{
	"": 1 << 10, "b": 1, "byte": 1, "bytes": 1,
	"k": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mib": 1 << 20, "g": 1 << 30, "gib": 1 << 30, "t": 1 << 40, "tib": 1 << 40,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
}

func readCellMemory(t *tree) int64 {
	name := t.text("Unit")
	unit, ok := memoryUnits[strings.ToLower(name)]
	if !ok {
		t.refuse("Unit", name, "is not a unit of memory", "b, KiB (the default), MiB, GiB, TiB, KB, MB, GB or TB")
		unit = 1
	}
	n := t.number("Memory", 1, maxGuestMemory/unit, "a positive number of "+unitName(name)+", up to 16 TiB")
	return (n*unit + MemoryStep - 1) / MemoryStep * MemoryStep
}

func unitName(name string) string {
	if name == "" {
		return "KiB"
	}
	return shorten(name)
}

// Distances between nodes as ACPI counts them: libvirt's defaults.
const (
	localDistance  = 10
	remoteDistance = 20
	maxDistance    = 254 // 255 says that there is no way
)

// readDistances reads Distances.Siblings of all cells. One that is given in a
// single direction counts in both; with none at all the guest is told nothing.
func readDistances(list []*tree, order []int, cells []NUMACell) {
	given := map[[2]int]int{}
	for i, t := range list {
		for _, sibling := range t.mapping("Distances").mappings("Siblings") {
			to := int(sibling.number("ID", 0, int64(len(list)-1), "the number of a cell"))
			value := int(sibling.number("Value", localDistance, maxDistance, "a number from 10 to 254"))
			if local := to == order[i]; local != (value == localDistance) && !sibling.failed("ID") && !sibling.failed("Value") {
				sibling.refuse("Value", fmt.Sprint(value), "is not a distance that can be", "10 to the cell itself, 11 to 254 to another")
			}
			given[[2]int{order[i], to}] = value
		}
	}
	if len(given) == 0 {
		return
	}
	for from := range cells {
		cells[from].Distances = make([]int, len(cells))
		for to := range cells {
			cells[from].Distances[to] = distance(given, from, to)
		}
	}
}

func distance(given map[[2]int]int, from, to int) int {
	if d, ok := given[[2]int{from, to}]; ok {
		return d
	}
	if d, ok := given[[2]int{to, from}]; ok {
		return d
	}
	if from == to {
		return localDistance
	}
	return remoteDistance
}

// numaMemory is the memory of all cells in bytes; 0 without cells.
func (s *Settings) numaMemory() int64 {
	var sum int64
	if s.CPU == nil {
		return 0
	}
	for _, cell := range s.CPU.NUMA {
		sum += cell.MemoryBytes
	}
	return sum
}
