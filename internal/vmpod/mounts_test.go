package vmpod

import (
	"reflect"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestMountsAndDevices(t *testing.T) {
	cfg := container()
	cfg.Mounts = []*runtimeapi.Mount{
		{ContainerPath: "/data//x/", HostPath: "/host/x"},
		{ContainerPath: "/ro", HostPath: "/host/ro", Readonly: true, Propagation: runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL},
	}
	cfg.Devices = []*runtimeapi.Device{
		{ContainerPath: "/", HostPath: "/dev/root", Permissions: "mrw"},
		{ContainerPath: "/dev/data", HostPath: "/dev/a", Permissions: "rw"},
		{ContainerPath: "/dev/data", HostPath: "/dev/b", Permissions: "r"},
	}
	cfg.Devices[2].ContainerPath = "/dev/./ro"
	vm, err := Parse(sandbox(nil), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if want := []Mount{{"/data/x", "/host/x", false}, {"/ro", "/host/ro", true}}; !reflect.DeepEqual(vm.Mounts, want) {
		t.Errorf("mounts %+v, want %+v", vm.Mounts, want)
	}
	if want := []Device{{"/", "/dev/root", false}, {"/dev/data", "/dev/a", false}, {"/dev/ro", "/dev/b", true}}; !reflect.DeepEqual(vm.Devices, want) {
		t.Errorf("devices %+v, want %+v", vm.Devices, want)
	}
	if len(vm.Notes) != 1 || !strings.Contains(vm.Notes[0], "mount /ro: mountPropagation") {
		t.Errorf("notes %q", vm.Notes)
	}
}

func TestMountsAndDevicesRefused(t *testing.T) {
	mount := func(m ...*runtimeapi.Mount) func(*runtimeapi.ContainerConfig) {
		return func(c *runtimeapi.ContainerConfig) { c.Mounts = m }
	}
	device := func(d ...*runtimeapi.Device) func(*runtimeapi.ContainerConfig) {
		return func(c *runtimeapi.ContainerConfig) { c.Devices = d }
	}
	for name, c := range map[string]struct {
		edit func(*runtimeapi.ContainerConfig)
		want string
	}{
		"relative":       {mount(&runtimeapi.Mount{ContainerPath: "data", HostPath: "/h"}), `mounts[0].container_path = "data": is not the path of a file; accepted: an absolute path`},
		"line break":     {mount(&runtimeapi.Mount{ContainerPath: "/a\nb", HostPath: "/h"}), `mounts[0].container_path = "/a\nb"`},
		"no host path":   {mount(&runtimeapi.Mount{ContainerPath: "/a"}), `mounts[0].host_path: is not`},
		"root":           {mount(&runtimeapi.Mount{ContainerPath: "/", HostPath: "/h"}), `mounts[0].container_path = "/": is the guest's own root`},
		"twice":          {mount(&runtimeapi.Mount{ContainerPath: "/a", HostPath: "/h"}, &runtimeapi.Mount{ContainerPath: "/a/", HostPath: "/h"}), `mounts[1].container_path = "/a/": is that of mounts[0] too`},
		"image volume":   {mount(&runtimeapi.Mount{ContainerPath: "/a", Image: &runtimeapi.ImageSpec{Image: "x"}}), `mounts[0].image = "x": image volumes`},
		"device nowhere": {device(&runtimeapi.Device{HostPath: "/h", Permissions: "r"}), `devices[0].container_path: is not`},
		"device of none": {device(&runtimeapi.Device{ContainerPath: "/dev/x", HostPath: "x", Permissions: "r"}), `devices[0].host_path = "x"`},
		"permissions":    {device(&runtimeapi.Device{ContainerPath: "/dev/x", HostPath: "/h", Permissions: "rx"}), `devices[0].permissions = "rx"`},
		"write only":     {device(&runtimeapi.Device{ContainerPath: "/dev/x", HostPath: "/h", Permissions: "wm"}), `devices[0].permissions = "wm"`},
		"read-only root": {device(&runtimeapi.Device{ContainerPath: "/", HostPath: "/h", Permissions: "r"}), `devices[0].permissions = "r": a root disk is written to`},
		"two roots": {device(&runtimeapi.Device{ContainerPath: "/", HostPath: "/h", Permissions: "rw"},
			&runtimeapi.Device{ContainerPath: "//", HostPath: "/i", Permissions: "rw"}), `devices[1].container_path = "//": is that of devices[0] too`},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := container()
			c.edit(cfg)
			_, err := Parse(sandbox(nil), cfg)
			if problems := mustFail(t, err); len(problems) != 1 || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func FuzzMount(f *testing.F) {
	f.Add("/a", "/b", "rw")
	f.Add("//", "x\x00", "r")
	f.Fuzz(func(t *testing.T, guest, host, permissions string) {
		cfg := container()
		cfg.Mounts = []*runtimeapi.Mount{{ContainerPath: guest, HostPath: host}}
		cfg.Devices = []*runtimeapi.Device{{ContainerPath: guest, HostPath: host, Permissions: permissions}}
		vm, err := Parse(sandbox(nil), cfg)
		if err != nil {
			mustFail(t, err)
			return
		}
		if len(vm.Mounts) != 1 || len(vm.Devices) != 1 || vm.Mounts[0].ContainerPath[0] != '/' || strings.Contains(vm.Mounts[0].ContainerPath, "\n") {
			t.Fatalf("accepted: %+v", vm)
		}
	})
}
