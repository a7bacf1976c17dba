package flexvolume

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
)

// DataFile is the file in a volume's directory with its options: a JSON object of
// strings, those of the manifest, kubelet's own, and a uuid.
const DataFile = "virtlet-flexvolume.json"

// The options that count.
const (
	optionUUID     = "uuid"
	optionType     = "type"
	optionPart     = "part"
	optionCapacity = "capacity"
	optionPath     = "path"
	// optionAccess is kubelet's own: "ro" or "rw".
	optionAccess = "kubernetes.io/readwrite"
)

// Type is the kind of a volume.
type Type string

// The kinds.
const (
	QCow2 Type = "qcow2" // made for the VM, gone with it
	Raw   Type = "raw"   // a device of the host
	Ceph  Type = "ceph"  // a RADOS block device
)

// Volume is a volume as the daemon finds it.
type Volume struct {
	// Name is the volume's in the pod's manifest.
	Name string
	// Dir is its directory: a mount of the pod with this host path is the
	// volume's.
	Dir string
	// UUID is its identity, the same for as long as the pod is on the node.
	UUID string
	Type Type
	// Part is the partition to mount, counted from 1; 0 is the whole disk.
	Part int
	// ReadOnly is the manifest's readOnly of the volume.
	ReadOnly bool
	// Capacity of a qcow2 volume, as written, "" for the default.
	Capacity string
	// Path of a raw volume's device, as written.
	Path string
	// RBD of a ceph volume.
	RBD RBD
}

// RBD is a RADOS block device.
type RBD struct {
	Monitor            netip.AddrPort
	Pool, Volume, User string
	Key                Secret
}

// Secret is a text that no log shows.
type Secret string

// String is not the secret.
func (Secret) String() string { return "(secret)" }

// GoString is not the secret.
func (Secret) GoString() string { return `"(secret)"` }

// MarshalJSON fails: a secret is never recorded by accident.
func (Secret) MarshalJSON() ([]byte, error) { return nil, errors.New("a secret is not written") }

// PodDir is the directory with a pod's volumes of this driver; root is kubelet's
// directory of pods, such as /var/lib/kubelet/pods.
func PodDir(root, podUID string) string {
	return filepath.Join(root, podUID, "volumes", "virtlet~flexvolume_driver")
}

// List reads the volumes in a directory, by PodDir, in the order of their names.
// No directory is no volumes. A volume that cannot be read is an error: the VM
// would miss a disk.
func List(dir string) ([]Volume, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var volumes []Volume
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		v, err := Read(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		volumes = append(volumes, v)
	}
	return volumes, nil
}

// Read reads the volume of a directory.
func Read(dir string) (Volume, error) {
	v := Volume{Name: filepath.Base(dir), Dir: dir}
	data, err := os.ReadFile(filepath.Join(dir, DataFile))
	if err == nil {
		err = v.parse(data)
	}
	if err != nil {
		return v, fmt.Errorf("flexvolume %q: %w", v.Name, err)
	}
	return v, nil
}

// options are a data file's, of which those that count are strings.
type options map[string]any

func (o options) text(key string) (string, error) {
	switch s := o[key].(type) {
	case nil:
		return "", nil
	case string:
		return s, nil
	}
	return "", fmt.Errorf("option %q: accepted is a string", key)
}

func (v *Volume) parse(data []byte) error {
	var o options
	if err := json.Unmarshal(data, &o); err != nil {
		return fmt.Errorf("%s: accepted is a JSON object", DataFile) // the error would quote it
	}
	var part, kind, access string
	for key, into := range map[string]*string{
		optionUUID: &v.UUID, optionType: &kind, optionPart: &part, optionCapacity: &v.Capacity, optionPath: &v.Path,
		optionAccess: &access,
	} {
		s, err := o.text(key)
		if err != nil {
			return err
		}
		*into = s
	}
	if v.UUID == "" {
		return fmt.Errorf("%s has no uuid: it was not written by the driver", DataFile)
	}
	v.ReadOnly = access == "ro"
	return errors.Join(v.parsePart(part), v.parseType(Type(kind), o))
}

func (v *Volume) parsePart(text string) error {
	v.Part = 1
	if text == "" {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 255 {
		return fmt.Errorf("option %q: got %q, accepted is the number of a partition, or 0 for the whole disk", optionPart, text)
	}
	v.Part = n
	return nil
}

func (v *Volume) parseType(kind Type, o options) (err error) {
	switch v.Type = kind; kind {
	case QCow2:
		return nil
	case Raw:
		if v.Path == "" {
			return fmt.Errorf("option %q is missing: accepted is a device's path", optionPath)
		}
		return nil
	case Ceph:
		v.RBD, err = o.rbd()
		return err
	}
	return fmt.Errorf("option %q: got %q, accepted are %s, %s and %s", optionType, kind, QCow2, Raw, Ceph)
}

// rbd has one monitor, as an address: what QEMU connects to is not left to a name
// server.
func (o options) rbd() (r RBD, err error) {
	var monitor, key string
	for name, into := range map[string]*string{
		"monitor": &monitor, "pool": &r.Pool, "volume": &r.Volume, "user": &r.User, "secret": &key,
	} {
		text, err := o.text(name)
		if err != nil {
			return RBD{}, err
		}
		if text == "" {
			return RBD{}, fmt.Errorf("option %q is missing", name)
		}
		*into = text
	}
	if r.Monitor, err = netip.ParseAddrPort(monitor); err != nil {
		return RBD{}, fmt.Errorf("option %q: got %q, accepted is the address of one monitor with its port, such as 192.0.2.1:6789", "monitor", monitor)
	}
	if _, err := base64.StdEncoding.DecodeString(key); err != nil {
		return RBD{}, fmt.Errorf("option %q: accepted is a key in base64", "secret") // without the value
	}
	r.Key = Secret(key)
	return r, nil
}
