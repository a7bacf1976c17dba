package qemu

import (
	"fmt"
	"slices"
)

// maxNUMANodes is QEMU's MAX_NODES.
const maxNUMANodes = 128

// nodeMemoryID is the id of a node's memory.
func nodeMemoryID(node int) string { return fmt.Sprintf("ram.node%d", node) }

// addNUMA divides processors and memory into nodes. -numa takes no JSON.
func addNUMA(b *builder) error {
	if err := b.checkNUMA(); err != nil {
		return err
	}
	for id, node := range b.NUMA {
		o := options{{"node", ""}, {"nodeid", fmt.Sprint(id)}}
		for _, cpus := range ranges(node.CPUs) {
			o = append(o, option{"cpus", cpus})
		}
		b.opts("-numa", append(o, option{"memdev", nodeMemoryID(id)}))
	}
	for from, node := range b.NUMA {
		for to, distance := range node.Distances {
			b.opts("-numa", options{{"dist", ""}, {"src", fmt.Sprint(from)}, {"dst", fmt.Sprint(to)}, {"val", fmt.Sprint(distance)}})
		}
	}
	return nil
}

func (b *builder) checkNUMA() error {
	if len(b.NUMA) > maxNUMANodes {
		return bad("numa", fmt.Sprintf("%d nodes", len(b.NUMA)), "up to %d", maxNUMANodes)
	}
	owner := map[int]int{}
	for id, node := range b.NUMA {
		if err := b.checkNode(id, node, owner); err != nil {
			return err
		}
	}
	if len(b.NUMA) > 0 && len(owner) != b.VCPUs {
		return bad("numa", fmt.Sprintf("nodes with %d processors", len(owner)), "all %d virtual processors, each in one node", b.VCPUs)
	}
	return nil
}

func (b *builder) checkNode(id int, node NUMANode, owner map[int]int) error {
	field := fmt.Sprintf("numa[%d]", id)
	for _, cpu := range node.CPUs {
		if _, taken := owner[cpu]; taken || cpu < 0 || cpu >= b.VCPUs {
			return bad(field+".cpus", cpu, "numbers of virtual processors, 0 to %d, each in one node", b.VCPUs-1)
		}
		owner[cpu] = id
	}
	if (node.Distances == nil) != (b.NUMA[0].Distances == nil) || node.Distances != nil && len(node.Distances) != len(b.NUMA) {
		return bad(field+".distances", node.Distances, "a distance to each of the %d nodes, for all nodes or none", len(b.NUMA))
	}
	for to, d := range node.Distances {
		if to == id && d != 10 || to != id && (d <= 10 || d > 254) {
			return bad(field+".distances", node.Distances, "10 to the node itself, 11 to 254 to others")
		}
	}
	return nil
}

// ranges renders numbers as QEMU takes them: "0-3", "5".
func ranges(numbers []int) []string {
	var all []string
	sorted := slices.Sorted(slices.Values(numbers))
	for i := 0; i < len(sorted); {
		end := i
		for end+1 < len(sorted) && sorted[end+1] == sorted[end]+1 {
			end++
		}
		if end == i {
			all = append(all, fmt.Sprint(sorted[i]))
		} else {
			all = append(all, fmt.Sprintf("%d-%d", sorted[i], sorted[end]))
		}
		i = end + 1
	}
	return all
}
