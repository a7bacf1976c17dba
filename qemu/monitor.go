package qemu

import "fmt"

// listener is a character device on a listening socket that was handed over.
func listener(id string, fd int) options {
	return options{{"socket", ""}, {"id", id}, {"fd", fmt.Sprint(fd)}, {"server", "on"}, {"wait", "off"}}
}

// addMonitor opens the machine's only monitor. -chardev takes no JSON.
func addMonitor(b *builder) error {
	b.opts("-chardev", listener(SocketQMP, b.socket(SocketQMP)))
	b.opts("-mon", options{{"chardev", SocketQMP}, {"mode", "control"}})
	return nil
}
