package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// vfioDriver makes a PCI device one that a hypervisor can hand to its guest.
const vfioDriver = "vfio-pci"

// sysfs is the tree that shows the machine's PCI devices (Documentation/ABI/testing/sysfs-bus-pci).
type sysfs struct {
	root  string
	write func(path, value string) error
}

// writeSysfs writes an attribute, which has to be there: the kernel acts before the write returns.
func writeSysfs(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func (s sysfs) device(pci string) string { return filepath.Join(s.root, "bus/pci/devices", pci) }

func (s sysfs) driverDir(driver string) string {
	return filepath.Join(s.root, "bus/pci/drivers", driver)
}

// exists reports whether there is such a device.
func (s sysfs) exists(pci string) bool {
	_, err := os.Stat(s.device(pci))
	return !errors.Is(err, fs.ErrNotExist)
}

// driver returns the name of a device's driver, "" if it has none.
func (s sysfs) driver(pci string) (string, error) {
	target, err := os.Readlink(filepath.Join(s.device(pci), "driver"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return filepath.Base(target), nil
}

// override lets only one driver bind to a device; "" lets those again that know its kind.
func (s sysfs) override(pci, driver string) error {
	if err := s.write(filepath.Join(s.device(pci), "driver_override"), driver+"\n"); err != nil {
		return fmt.Errorf("choose the driver %q: %w", driver, err)
	}
	return nil
}

// unbind takes a device from its driver, if it has one.
func (s sysfs) unbind(pci string) error {
	driver, err := s.driver(pci)
	if err != nil || driver == "" {
		return err
	}
	if err := s.write(filepath.Join(s.driverDir(driver), "unbind"), pci); err != nil {
		return fmt.Errorf("unbind from the driver %s: %w", driver, err)
	}
	return nil
}

func (s sysfs) bind(pci, driver string) error {
	err := s.write(filepath.Join(s.driverDir(driver), "bind"), pci)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("bind to the driver %s: %w: its module is needed", driver, err)
	}
	if err != nil {
		return fmt.Errorf("bind to the driver %s: %w", driver, err)
	}
	if now, err := s.driver(pci); err != nil || now != driver {
		return errors.Join(fmt.Errorf("bind to the driver %s: the device has the driver %q", driver, now), err)
	}
	return nil
}

// linkIndex returns the index of a device's link in the network namespace of this process; 0 when it has none there.
// Indexes stay, while udev gives links other names.
func (s sysfs) linkIndex(pci string) int {
	found, _ := filepath.Glob(filepath.Join(s.device(pci), "net/*/ifindex"))
	for _, path := range found {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if index, err := strconv.Atoi(strings.TrimSpace(string(raw))); err == nil {
			return index
		}
	}
	return 0
}
