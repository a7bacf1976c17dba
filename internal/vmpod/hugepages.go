package vmpod

import (
	"fmt"
	"regexp"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// pageSize is how CRI writes the size of a huge page: 2MB, 1GB, in powers of 1024.
var pageSize = regexp.MustCompile(`^([1-9][0-9]{0,5})([KMG])B$`)

// pageBytes is the size in bytes; false if it is none of a huge page.
func pageBytes(s string) (int64, bool) {
	m := pageSize.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	n, _ := strconv.ParseInt(m[1], 10, 64) // six digits
	n <<= map[string]uint{"K": 10, "M": 20, "G": 30}[m[2]]
	return n, n&(n-1) == 0
}

func hugePageField(h *runtimeapi.HugepageLimit) string {
	return "resources.limits.hugepages-" + h.GetPageSize()
}

// readHugePages puts the guest's RAM into huge pages if the pod asks for some.
// RAM is what the memory limit says; without one, what the huge pages are. CRI
// sends a zero for each page size of the node that the pod does not ask for.
func (v *VM) readHugePages(r *runtimeapi.LinuxContainerResources, bad *problems) {
	var asked *runtimeapi.HugepageLimit
	for _, h := range r.GetHugepageLimits() {
		switch {
		case h.GetLimit() == 0:
		case asked != nil:
			bad.add(hugePageField(h), fmt.Sprint(h.GetLimit()), "is a second page size beside "+asked.GetPageSize(), "one size for all of the guest's RAM")
		default:
			asked = h
		}
	}
	if asked == nil {
		return
	}
	page, ok := pageBytes(asked.GetPageSize())
	if !ok {
		bad.add(hugePageField(asked), fmt.Sprint(asked.GetLimit()), "the page size is no power of two with KB, MB or GB", "such as 2MB or 1GB")
		return
	}
	v.HugePageBytes = page
	v.fitHugePages(asked, r.GetMemoryLimitInBytes() > 0, bad)
}

// fitHugePages checks that RAM is made of whole pages, and that there are enough.
func (v *VM) fitHugePages(h *runtimeapi.HugepageLimit, limited bool, bad *problems) {
	limit := int64(min(h.GetLimit(), 1<<62))
	if !limited && v.numaMemory() == 0 {
		v.MemoryBytes = limit / MemoryStep * MemoryStep
	}
	if v.MemoryBytes < MinMemory {
		bad.add(hugePageField(h), fmt.Sprint(limit), "too little for a virtual machine", "at least 16Mi")
	}
	if limit < v.MemoryBytes {
		bad.add(hugePageField(h), fmt.Sprint(limit), fmt.Sprintf("is less than the guest's RAM of %d bytes", v.MemoryBytes),
			"as much as resources.limits.memory; or no memory limit, for a guest with as much RAM as it has huge pages")
	}
	v.wholePages(h, "RAM", v.MemoryBytes, bad)
	if v.CPU == nil {
		return
	}
	for i, cell := range v.CPU.NUMA {
		v.wholePages(h, fmt.Sprintf("RAM in Numa.Cell[%d]", i), cell.MemoryBytes, bad)
	}
}

func (v *VM) wholePages(h *runtimeapi.HugepageLimit, what string, size int64, bad *problems) {
	if size%v.HugePageBytes != 0 {
		bad.add(hugePageField(h), fmt.Sprint(h.GetLimit()), fmt.Sprintf("the guest's %s of %d bytes is no multiple of %s", what, size, h.GetPageSize()), "RAM of whole huge pages")
	}
}

// hugePageLimits are CRI's as OCI has them.
func hugePageLimits(r *runtimeapi.LinuxContainerResources) []specs.LinuxHugepageLimit {
	var all []specs.LinuxHugepageLimit
	for _, h := range r.GetHugepageLimits() {
		all = append(all, specs.LinuxHugepageLimit{Pagesize: h.GetPageSize(), Limit: h.GetLimit()})
	}
	return all
}
