package qemu

// serialPort is a 16550A of the ISA bus.
type serialPort struct {
	device
	Chardev string `json:"chardev"`
	Index   int    `json:"index"`
}

// chardevChange are the arguments of QMP's chardev-change (QAPI char.json).
type chardevChange struct {
	ID      string         `json:"id"`
	Backend chardevBackend `json:"backend"`
}

type chardevBackend struct {
	Type string      `json:"type"`
	Data chardevFile `json:"data"`
}

// chardevFile is QAPI's ChardevFile.
type chardevFile struct {
	In     string `json:"in"`
	Out    string `json:"out"`
	Append bool   `json:"append"`
}

const serialChardev = "console"

// addConsole gives the guest its first serial line: a file for what it prints,
// a FIFO for what is typed. So no reader can hold the guest up, and nothing is
// lost or written twice: a socket's logfile gets a byte again each time the
// socket is full (qemu_chr_write_buffer). The command line can give a file an
// input since QEMU 8.1 only, so the monitor does.
func addConsole(b *builder) error {
	if err := b.need("isa-serial"); err != nil {
		return err
	}
	in := b.pipe(PipeConsole)
	out := b.fdset(FileNeed{Name: FileConsoleLog, Writable: true, Append: true})
	b.opts("-chardev", options{{"null", ""}, {"id", serialChardev}})
	b.device(serialPort{device: device{"isa-serial", "serial.0"}, Chardev: serialChardev, Index: 0})
	b.command("chardev-change", chardevChange{
		ID:      serialChardev,
		Backend: chardevBackend{Type: "file", Data: chardevFile{In: in, Out: out, Append: true}},
	})
	return nil
}
