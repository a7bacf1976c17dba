package qemu

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Share is a directory of the host that a guest mounts by its tag, with the 9p
// file system over virtio.
//
// QEMU is handed the directory open, and so sees what is in it also where it could
// not have walked to it. All is done there as the user that QEMU runs as; that the
// guest cannot give a file away is not an error (security model "none" of QEMU's
// documentation).
type Share struct {
	// ID is unique in the machine, of the same form as Disk.ID. The directory's
	// descriptor is "share:<id>".
	ID string `json:"id"`
	// Tag is unique in the machine, 1 to 31 bytes: see ShareTags.
	Tag string `json:"tag"`
	// ReadOnly refuses the guest's writes.
	ReadOnly bool `json:"readOnly,omitempty"`
}

// fsDevice is virtio-9p.
type fsDevice struct {
	virtioDevice
	FSDev string `json:"fsdev"`
	Tag   string `json:"mount_tag"`
}

// sharePort is a root port whose devices stay, since Hotplug is false: a guest cannot
// eject them.
type sharePort struct {
	rootPort
	Hotplug bool `json:"hotplug"`
}

// Shares are the functions of the one device that a root port has; the ports are
// made as they are needed.
const (
	functionsPerPort = 8
	// MaxShares is how many shares a machine can have.
	MaxShares = maxSharePorts * functionsPerPort
	maxTag    = 31
)

var validTag = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)

// addShares adds the shares in their order; their addresses follow from it.
func addShares(b *builder) error {
	tags := map[string]string{}
	for i, s := range b.Shares {
		field := fmt.Sprintf("shares[%d]", i)
		if i >= MaxShares {
			return bad(field, "share number "+fmt.Sprint(i+1), "up to %d shares", MaxShares)
		}
		if err := b.checkShare(field, s, tags); err != nil {
			return err
		}
		if err := b.addShare(s, i/functionsPerPort, i%functionsPerPort); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) checkShare(field string, s Share, tags map[string]string) error {
	if err := b.claimUser(s.ID, field); err != nil {
		return err
	}
	if len(s.Tag) > maxTag || !validTag.MatchString(s.Tag) {
		return bad(field+".tag", s.Tag, "1 to %d letters, digits, dots, dashes and underscores, not beginning with a dot or dash", maxTag)
	}
	if other, taken := tags[s.Tag]; taken {
		return bad(field+".tag", s.Tag, "a tag that is not in use by %s", other)
	}
	tags[s.Tag] = field
	return nil
}

func (b *builder) addShare(s Share, port, function int) error {
	bus := fmt.Sprintf("share.p%d", port)
	if function == 0 {
		if err := b.addSharePort(bus, port); err != nil {
			return err
		}
	}
	if err := b.need("virtio-9p-pci"); err != nil {
		return err
	}
	fd := b.file(FileNeed{Name: "share:" + s.ID, Directory: true})
	o := options{{"local", ""}, {"id", s.ID + ".fs"}, {"path", fmt.Sprintf("/proc/self/fd/%d", fd)},
		{"security_model", "none"}, {"multidevs", "remap"}}
	if s.ReadOnly {
		o = append(o, option{"readonly", "on"})
	}
	b.opts("-fsdev", o)
	d := virtioDevice{DisableLegacy: "on", pciDevice: pciDevice{
		device: device{"virtio-9p-pci", s.ID}, Bus: bus, Addr: fmt.Sprintf("00.%x", function), Multifunction: function == 0}}
	b.device(fsDevice{virtioDevice: d, FSDev: s.ID + ".fs", Tag: s.Tag})
	return nil
}

func (b *builder) addSharePort(id string, n int) error {
	d, err := b.place("pcie-root-port", id, slotSmall, fnShares+n)
	if err != nil {
		return err
	}
	number := sparePorts + n
	b.device(sharePort{rootPort: rootPort{pciDevice: d, Chassis: number + 1, Port: number}})
	return nil
}

// diskName is what cloud-init takes for a disk's name and not for a tag.
var diskName = regexp.MustCompile(`^(x?[shv]d[a-z][0-9]*|sr[0-9]+)$`)

// ShareTags gives each directory of the guest the tag of the share to be mounted
// there. It is the last element of the path, as Virtlet's users know it, as long
// as that is a tag and the first of its kind; otherwise it is made from the path,
// and stays the same when other directories come and go.
func ShareTags(directories []string) []string {
	tags := make([]string, len(directories))
	for i, d := range directories {
		tag := path.Base(d)
		if len(tag) > maxTag || !validTag.MatchString(tag) || diskName.MatchString(tag) || slices.Contains(tags, tag) {
			tag = hashedTag(d)
		}
		for salt := d; slices.Contains(tags, tag); {
			salt += "/"
			tag = hashedTag(salt)
		}
		tags[i] = tag
	}
	return tags
}

// hashedTag begins with what can be recognised of a path's end.
func hashedTag(directory string) string {
	const hashLen = 8
	sum := sha256.Sum256([]byte(directory))
	stem := strings.Map(func(r rune) rune {
		if validTag.MatchString(string(r)) {
			return r
		}
		return '_'
	}, path.Base(directory))
	return stem[:min(len(stem), maxTag-hashLen-1)] + "-" + hex.EncodeToString(sum[:])[:hashLen]
}
