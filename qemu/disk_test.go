package qemu

import (
	"fmt"
	"strings"
	"testing"
)

// What DiskAddress tells is what Build does.
func TestDiskAddress(t *testing.T) {
	caps := goldenCapabilities(t)
	for _, bus := range []DiskBus{BusVirtio, BusSCSI} {
		c := Config{Name: "vm", UUID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8", Accel: TCG, VCPUs: 1, MemoryBytes: 1 << 27}
		for i := range 3 {
			c.Disks = append(c.Disks, Disk{ID: fmt.Sprintf("d%d", i), Bus: bus, Format: FormatRaw})
		}
		inv, err := Build(c, caps)
		if err != nil {
			t.Fatal(err)
		}
		args := strings.Join(inv.Args, "\n")
		for i := range c.Disks {
			pci, lun := DiskAddress(bus, i)
			want := []string{fmt.Sprintf(`"id":"d%d","bus":"pcie.0","addr":"%s"`, i, strings.TrimPrefix(pci, "0000:00:"))}
			if bus == BusSCSI {
				want = []string{
					fmt.Sprintf(`"id":"%s","bus":"pcie.0","addr":"%s"`, idSCSI, strings.TrimPrefix(pci, "0000:00:")),
					fmt.Sprintf(`"id":"d%d","bus":"%s","channel":0,"scsi-id":0,"lun":%d`, i, busSCSI, lun),
				}
			}
			for _, w := range want {
				if !strings.Contains(args, w) {
					t.Errorf("%s disk %d: no %s in\n%s", bus, i, w, args)
				}
			}
		}
	}
}
