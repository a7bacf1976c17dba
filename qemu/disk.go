package qemu

import "fmt"

// fileNode is the lower half of a disk: an open file. Image locks stay on, so
// that two machines never write to one file.
type fileNode struct {
	Driver   string     `json:"driver"`
	Node     string     `json:"node-name"`
	Filename string     `json:"filename"`
	ReadOnly bool       `json:"read-only,omitempty"`
	Discard  string     `json:"discard,omitempty"`
	Cache    *cacheMode `json:"cache,omitempty"`
}

// The drivers of fileNode.
const (
	driverFile       = "file"
	driverHostDevice = "host_device"
)

// cacheMode is how a file is read and written; the guest's flushes always count.
type cacheMode struct {
	Direct bool `json:"direct"`
}

// formatNode is the upper half: what makes an image of the file.
type formatNode struct {
	Driver       Format `json:"driver"`
	Node         string `json:"node-name"`
	File         string `json:"file"`
	ReadOnly     bool   `json:"read-only,omitempty"`
	Discard      string `json:"discard,omitempty"`
	DetectZeroes string `json:"detect-zeroes,omitempty"`
}

// windowNode is a formatNode that shows a part of a raw file.
type windowNode struct {
	formatNode
	Offset int64 `json:"offset"`
	Size   int64 `json:"size,omitempty"`
}

// layeredNode is a formatNode that names its backing node. A null says that there
// is none, whatever the image's header says: QEMU must never open a file that an
// image asks for.
type layeredNode struct {
	formatNode
	Backing *string `json:"backing"`
}

// virtioDisk is a disk with a PCI address of its own.
type virtioDisk struct {
	virtioDevice
	diskProperties
}

// scsiDisk is a LUN of the SCSI controller.
type scsiDisk struct {
	device
	Bus     string `json:"bus"`
	Channel int    `json:"channel"`
	Target  int    `json:"scsi-id"`
	LUN     int    `json:"lun"`
	diskProperties
}

// diskProperties are what disks of both buses have.
type diskProperties struct {
	Drive     string `json:"drive"`
	Serial    string `json:"serial,omitempty"`
	BootIndex int    `json:"bootindex,omitempty"`
}

// idSCSI is the controller, and its only bus.
const (
	idSCSI  = "scsi.ctl"
	busSCSI = idSCSI + ".0"
)

// Limits of the buses. The SCSI one is as many letters as /dev/sd? has.
const (
	maxSCSIDisks    = 26
	maxVirtioSerial = 20
	maxSCSISerial   = 36
	maxBackingFiles = 16
	sectorBytes     = 512
	acceptedFormats = string(FormatQCow2) + " or " + string(FormatRaw)
	acceptedBuses   = string(BusVirtio) + " or " + string(BusSCSI)
	acceptedMedia   = "nothing, " + string(MediaDisk) + " or " + string(MediaCDROM)
)

// MaxDisks is how many disks there may be on a bus.
func MaxDisks(bus DiskBus) int {
	if bus == BusSCSI {
		return maxSCSIDisks
	}
	return maxVirtioDisks
}

// addDisks adds the disks in the guest's order. A disk's place is its number
// among the disks of its bus.
func addDisks(b *builder) error {
	placed := map[DiskBus]int{}
	for i, d := range b.Disks {
		field := fmt.Sprintf("disks[%d]", i)
		if err := b.checkDisk(field, d); err != nil {
			return err
		}
		b.addNodes(d)
		if err := b.attach(field, d, placed[d.Bus]); err != nil {
			return err
		}
		placed[d.Bus]++
	}
	return nil
}

// readOnly: a CD-ROM always is.
func (d Disk) readOnly() bool { return d.ReadOnly || d.Media == MediaCDROM }

// checkDisk refuses a disk that cannot be, and reserves its id and boot index.
func (b *builder) checkDisk(field string, d Disk) error {
	if err := b.claimUser(d.ID, field); err != nil {
		return err
	}
	if d.Bus != BusVirtio && d.Bus != BusSCSI {
		return bad(field+".bus", string(d.Bus), acceptedBuses)
	}
	if d.Media != "" && d.Media != MediaDisk && d.Media != MediaCDROM {
		return bad(field+".media", string(d.Media), acceptedMedia)
	}
	if limit := d.Bus.maxSerial(); !printableASCII(d.Serial, limit) {
		return bad(field+".serial", d.Serial, "up to %d printable ASCII characters on the %s bus", limit, d.Bus)
	}
	if err := checkChain(field, d); err != nil {
		return err
	}
	if err := checkWindow(field, d); err != nil {
		return err
	}
	if err := checkRBD(field, d); err != nil {
		return err
	}
	return b.claimBoot(field+".bootIndex", d.BootIndex)
}

func (bus DiskBus) maxSerial() int {
	if bus == BusVirtio {
		return maxVirtioSerial
	}
	return maxSCSISerial
}

// checkChain refuses formats and backing chains that cannot be.
func checkChain(field string, d Disk) error {
	if !d.Format.known() {
		return bad(field+".format", string(d.Format), acceptedFormats)
	}
	if len(d.Backing) > maxBackingFiles {
		return bad(field+".backing", len(d.Backing), "up to %d backing files", maxBackingFiles)
	}
	over := d.Format
	for n, under := range d.Backing {
		if over != FormatQCow2 {
			return bad(fmt.Sprintf("%s.backing[%d]", field, n), string(under.Format), "nothing: over it is a %s file, and only a %s one can have another under it", over, FormatQCow2)
		}
		if !under.Format.known() {
			return bad(fmt.Sprintf("%s.backing[%d].format", field, n), string(under.Format), acceptedFormats)
		}
		over = under.Format
	}
	return nil
}

// checkWindow refuses a part of a file that cannot be a disk.
func checkWindow(field string, d Disk) error {
	for _, w := range []struct {
		name  string
		value int64
	}{{"offset", d.Offset}, {"size", d.Size}} {
		if w.value == 0 {
			continue
		}
		if d.Format != FormatRaw {
			return bad(field+"."+w.name, w.value, "nothing: only a disk of the format %s can be a part of its file", FormatRaw)
		}
		if w.value < 0 || w.value%sectorBytes != 0 {
			return bad(field+"."+w.name, w.value, "a multiple of %d", sectorBytes)
		}
	}
	return nil
}

func (f Format) known() bool { return f == FormatQCow2 || f == FormatRaw }

// claimBoot reserves a place in the firmware's order; 0 is none.
func (b *builder) claimBoot(field string, index int) error {
	if index == 0 {
		return nil
	}
	if index < 0 || index > 1000 {
		return bad(field, index, "0 for never, or 1 to 1000")
	}
	if other, taken := b.boot[index]; taken {
		return bad(field, index, "a number that is not in use by %s", other)
	}
	b.boot[index] = field
	return nil
}

// DiskFile names the file of a disk, as [FileNeed] and query-fdsets have it.
func DiskFile(id string) string { return "disk:" + id }

// BackingFile names the n-th file below that of a disk, the nearest being 0.
func BackingFile(id string, n int) string { return fmt.Sprintf("%s:backing:%d", DiskFile(id), n) }

// addNodes adds the block nodes of a disk, the innermost first: a node can only
// name one that exists. The top one bears the disk's id.
func (b *builder) addNodes(d Disk) {
	var under *string
	for n := len(d.Backing) - 1; n >= 0; n-- {
		node := fmt.Sprintf("%s.b%d", d.ID, n)
		need := FileNeed{Name: BackingFile(d.ID, n)}
		b.addNode(Disk{ID: node, Format: d.Backing[n].Format, ReadOnly: true}, need, under)
		under = &node
	}
	b.addNode(d, FileNeed{Name: DiskFile(d.ID), Writable: !d.readOnly()}, under)
}

// addNode adds one image: its file and its format.
func (b *builder) addNode(d Disk, need FileNeed, under *string) {
	image := formatNode{Driver: d.Format, Node: d.ID, ReadOnly: !need.Writable}
	if need.Writable {
		// What the guest discards, or zeroes, gives space back to the host.
		image.Discard, image.DetectZeroes = "unmap", "unmap"
	}
	if d.RBD != nil {
		image.File = b.addRBD(d)
	} else {
		image.File = b.addFile(d, need)
	}
	switch {
	case d.Format == FormatQCow2:
		b.blockdev(layeredNode{formatNode: image, Backing: under})
	case d.Offset != 0 || d.Size != 0:
		b.blockdev(windowNode{formatNode: image, Offset: d.Offset, Size: d.Size})
	default:
		b.blockdev(image)
	}
}

// addFile adds the lower half of an image, an open file.
func (b *builder) addFile(d Disk, need FileNeed) (node string) {
	file := fileNode{Driver: d.fileDriver(), Node: d.ID + ".file", Filename: b.fdset(need), ReadOnly: !need.Writable}
	if d.Direct {
		file.Cache = &cacheMode{Direct: true}
	}
	if need.Writable {
		file.Discard = "unmap"
	}
	b.blockdev(file)
	return file.Node
}

func (d Disk) fileDriver() string {
	if d.HostDevice {
		return driverHostDevice
	}
	return driverFile
}

// attach makes a device of a disk's top node: the index-th of its bus.
func (b *builder) attach(field string, d Disk, index int) error {
	p := diskProperties{Drive: d.ID, Serial: d.Serial, BootIndex: d.BootIndex}
	if d.Bus == BusVirtio {
		return b.attachVirtio(field, d, index, p)
	}
	return b.attachSCSI(field, d, index, p)
}

func (b *builder) attachVirtio(field string, d Disk, index int, p diskProperties) error {
	if index >= maxVirtioDisks {
		return bad(field, "disk number "+fmt.Sprint(index+1), "up to %d virtio disks", maxVirtioDisks)
	}
	dev, err := b.virtio("virtio-blk-pci", d.ID, slotFirstDisk+index, 0)
	if err != nil {
		return err
	}
	b.device(virtioDisk{virtioDevice: dev, diskProperties: p})
	return nil
}

// attachSCSI puts a disk on the LUN of its number, and the controller before the
// first one.
func (b *builder) attachSCSI(field string, d Disk, index int, p diskProperties) error {
	if index >= maxSCSIDisks {
		return bad(field, "disk number "+fmt.Sprint(index+1), "up to %d scsi disks", maxSCSIDisks)
	}
	if index == 0 {
		controller, err := b.virtio("virtio-scsi-pci", idSCSI, slotSmall, fnSCSI)
		if err != nil {
			return err
		}
		b.device(controller)
	}
	driver := "scsi-hd"
	if d.Media == MediaCDROM {
		driver = "scsi-cd"
	}
	if err := b.need(driver); err != nil {
		return err
	}
	b.device(scsiDisk{device: device{driver, d.ID}, Bus: busSCSI, LUN: index, diskProperties: p})
	return nil
}

// DiskAddress is where a guest finds the disk of that number on its bus, counted
// from 0: the PCI address of the disk, or of its SCSI controller, in Linux's form,
// and on the scsi bus the LUN (channel 0, target 0).
func DiskAddress(bus DiskBus, index int) (pci string, lun int) {
	if bus == BusSCSI {
		return fmt.Sprintf("0000:00:%02x.%x", slotSmall, fnSCSI), index
	}
	return fmt.Sprintf("0000:00:%02x.0", slotFirstDisk+index), 0
}
