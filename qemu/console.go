package qemu

// serialPort is a 16550A of the ISA bus.
type serialPort struct {
	device
	Chardev string `json:"chardev"`
	Index   int    `json:"index"`
}

// addConsole gives the guest its first serial line. QEMU itself writes all output
// to a log file, whether or not anyone is connected to the socket.
func addConsole(b *builder) error {
	if err := b.need("isa-serial"); err != nil {
		return err
	}
	o := listener(SocketConsole, b.socket(SocketConsole))
	log := b.fdset(FileNeed{Name: FileConsoleLog, Writable: true, Append: true})
	b.opts("-chardev", append(o, option{"logfile", log}, option{"logappend", "on"}))
	b.device(serialPort{device: device{"isa-serial", "serial.0"}, Chardev: SocketConsole, Index: 0})
	return nil
}
