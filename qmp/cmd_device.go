package qmp

import (
	"context"
	"errors"
	"fmt"

	goqemu "github.com/digitalocean/go-qemu/qmp"
)

// idArgument is the argument of the commands that take only an id.
type idArgument struct {
	ID string `json:"id"`
}

// DeviceAdd plugs in a device (device_add). device encodes to an object with
// driver, id and the driver's properties, with their JSON types: QEMU 9.2 and
// later refuse strings in place of numbers and booleans.
func (c *Conn) DeviceAdd(ctx context.Context, device any) error {
	return c.Do(ctx, "device_add", device, nil)
}

// DeviceDel asks the guest to give up a device (device_del). QEMU agrees at once;
// the device is gone when [Conn.WaitDeviceDeleted] returns.
func (c *Conn) DeviceDel(ctx context.Context, id string) error {
	return c.Do(ctx, "device_del", idArgument{id}, nil)
}

// ErrUnplugRefused is returned when the guest refused to give up a device.
var ErrUnplugRefused = errors.New("guest refused to give up the device")

// WaitDeviceDeleted returns when the device with that id is gone, also if it was
// gone before. It watches that device's events only.
func (c *Conn) WaitDeviceDeleted(ctx context.Context, id string) error {
	gone := c.Subscribe(1, func(e goqemu.Event) bool {
		return (e.Event == "DEVICE_DELETED" || e.Event == "DEVICE_UNPLUG_GUEST_ERROR") && e.Data["device"] == id
	})
	defer gone.Close()
	if _, err := c.QOMList(ctx, "/machine/peripheral/"+id); err != nil {
		if IsClass(err, ClassDeviceNotFound) {
			return nil
		}
		return err
	}
	select {
	case e, ok := <-gone.C:
		switch {
		case !ok:
			return fmt.Errorf("qmp: wait for the end of device %s: %w", id, c.Err())
		case e.Event == "DEVICE_UNPLUG_GUEST_ERROR":
			return fmt.Errorf("qmp: device %s: %w", id, ErrUnplugRefused)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("qmp: wait for the end of device %s: %w", id, cause(ctx))
	}
}

// NetdevAdd adds the host's side of a network card (netdev_add). netdev encodes to
// QAPI's Netdev.
func (c *Conn) NetdevAdd(ctx context.Context, netdev any) error {
	return c.Do(ctx, "netdev_add", netdev, nil)
}

// NetdevDel removes the host's side of a network card (netdev_del).
func (c *Conn) NetdevDel(ctx context.Context, id string) error {
	return c.Do(ctx, "netdev_del", idArgument{id}, nil)
}

// ObjectAdd makes an object (object-add). object encodes to QAPI's ObjectOptions.
func (c *Conn) ObjectAdd(ctx context.Context, object any) error {
	return c.Do(ctx, "object-add", object, nil)
}

// ObjectDel deletes an object (object-del).
func (c *Conn) ObjectDel(ctx context.Context, id string) error {
	return c.Do(ctx, "object-del", idArgument{id}, nil)
}

// ChardevAdd opens a character device (chardev-add). backend encodes to QAPI's
// ChardevBackend.
func (c *Conn) ChardevAdd(ctx context.Context, id string, backend any) error {
	return c.Do(ctx, "chardev-add", struct {
		ID      string `json:"id"`
		Backend any    `json:"backend"`
	}{id, backend}, nil)
}

// ChardevRemove closes a character device that no device uses (chardev-remove).
func (c *Conn) ChardevRemove(ctx context.Context, id string) error {
	return c.Do(ctx, "chardev-remove", idArgument{id}, nil)
}
