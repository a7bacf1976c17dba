package qemu

// vga is QEMU's standard VGA card, which every firmware and guest can draw on.
type vga struct {
	pciDevice
	VGAMemMB int `json:"vgamem_mb"`
}

const (
	idDisplay = "display.0"
	// DisplayMiB is the card's memory, enough for 2560x1600: memory of the QEMU
	// process beside the guest's RAM.
	DisplayMiB = 16
)

// addDisplay gives the guest a VGA card, if it is to have one: a card cannot be
// plugged in later. The VNC server listens nowhere: whoever has the monitor hands
// it connections (qmp.Conn.AddVNCClient).
func addDisplay(b *builder) error {
	if !b.Display {
		return nil
	}
	d, err := b.place("VGA", idDisplay, slotRootPorts, fnDisplay)
	if err != nil {
		return err
	}
	b.device(vga{pciDevice: d, VGAMemMB: DisplayMiB})
	b.arg("-vnc", "none")
	return nil
}
