package qemu

// balloon gives memory back to the host: what the guest has free (reporting), and
// what it is asked for, until it would run out itself.
type balloon struct {
	virtioDevice
	DeflateOnOOM      bool `json:"deflate-on-oom"`
	FreePageReporting bool `json:"free-page-reporting"`
}

// rng feeds the guest's entropy pool.
type rng struct {
	virtioDevice
	RNG string `json:"rng"`
}

// object is a QEMU object without properties.
type object struct {
	Type string `json:"qom-type"`
	ID   string `json:"id"`
}

// Ids of the devices that every machine has.
const (
	idBalloon = "balloon.0"
	idRNG     = "rng.0"
	idPanic   = "pvpanic.0"
	idEntropy = "entropy.0"
)

// Places in QEMU's object model (QOM).
const (
	// DevicesPath has all devices below it, by their ids: a disk's is Disk.ID.
	DevicesPath = "/machine/peripheral"
	// BalloonPath is the balloon.
	BalloonPath = DevicesPath + "/" + idBalloon
)

// addSmallDevices adds what every machine has, as functions of one slot. The
// first function is the one by which a guest finds the others.
func addSmallDevices(b *builder) error {
	for _, add := range []func(*builder) error{addBalloon, addRNG, addPanic} {
		if err := add(b); err != nil {
			return err
		}
	}
	return nil
}

func addBalloon(b *builder) error {
	d, err := b.virtio("virtio-balloon-pci", idBalloon, slotSmall, fnBalloon)
	if err != nil {
		return err
	}
	d.Multifunction = true
	b.device(balloon{virtioDevice: d, DeflateOnOOM: true, FreePageReporting: true})
	return nil
}

// addRNG takes QEMU's own generator, which needs no file.
func addRNG(b *builder) error {
	d, err := b.virtio("virtio-rng-pci", idRNG, slotSmall, fnRNG)
	if err != nil {
		return err
	}
	b.object(object{Type: "rng-builtin", ID: idEntropy})
	b.device(rng{virtioDevice: d, RNG: idEntropy})
	return nil
}

// addPanic lets a guest kernel say that it has panicked.
func addPanic(b *builder) error {
	d, err := b.place("pvpanic-pci", idPanic, slotSmall, fnPanic)
	if err != nil {
		return err
	}
	b.device(d)
	return nil
}
