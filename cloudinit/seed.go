package cloudinit

import "fmt"

// ImageType is the layout of a seed.
type ImageType string

// The layouts.
const (
	// NoCloud has user-data, meta-data and network-config on top, and the
	// volume label "cidata".
	NoCloud ImageType = "nocloud"
	// ConfigDrive is OpenStack's: files under openstack/latest, and the
	// volume label "config-2".
	ConfigDrive ImageType = "configdrive"
)

// Label is the volume label by which cloud-init finds the seed.
func (t ImageType) Label() string {
	if t == ConfigDrive {
		return "config-2"
	}
	return "cidata"
}

// Seed is what a guest is told. Maps hold what JSON can: nil, bool, numbers
// (json.Number or Go's), string, []any and map[string]any.
type Seed struct {
	// Type is the layout; empty means NoCloud.
	Type ImageType
	// InstanceID: cloud-init does its first-boot work again when it changes.
	InstanceID string
	// Hostname becomes local-hostname.
	Hostname string
	// FQDN is the full name, if there is one and it is known: user-data's fqdn,
	// unless MetaData or UserData name the host themselves. If it is Hostname,
	// the host is called by it.
	FQDN string
	// SSHKeys are lines of authorized_keys for the image's default user.
	SSHKeys []string
	// MetaData replaces whole keys of the generated meta-data.
	MetaData map[string]any
	// UserData is the mapping under `#cloud-config`. The generated parts below
	// are appended to the lists in it.
	UserData map[string]any
	// UserDataScript, when not empty, is user-data as it stands, and all that
	// is generated into UserData is left out. In it MountScriptPlaceholder
	// becomes MountScript.
	UserDataScript string
	// MountScript mounts the guest's volumes; it may be empty.
	MountScript string
	// Files are written into the guest (cloud-init's write_files).
	Files []WriteFile
	// Env becomes EnvironmentFile, if there is any.
	Env []EnvVar
	// Mounts are entries of cloud-init's mounts: device, directory, type, options...
	Mounts [][]string
	// RunCmd are commands with their arguments, run once at the first boot.
	RunCmd [][]string
	// Network is the network configuration; nil leaves it out, and the guest
	// uses DHCP.
	Network *NetworkConfig
}

// MountScriptPlaceholder stands for the mount script in a user-data script.
const MountScriptPlaceholder = "@virtlet-mount-script@"

// File is a file of the seed.
type File struct {
	// Path with forward slashes, relative to the root of the volume.
	Path string
	// Data is its content.
	Data []byte
}

// Render makes the seed's files, in a fixed order. user-data is always there.
// It fails when a value that is combined with a generated one has the wrong
// type, or when something has no form in JSON.
func (s Seed) Render() ([]File, error) {
	names := namesOf(s.Type)
	if names == nil {
		return nil, fmt.Errorf("cloud-init seed: type %q: accepted are %q and %q", s.Type, NoCloud, ConfigDrive)
	}
	meta, err := s.renderMetaData()
	if err != nil {
		return nil, fmt.Errorf("cloud-init seed: %s: %w", names.meta, err)
	}
	user, err := s.renderUserData()
	if err != nil {
		return nil, fmt.Errorf("cloud-init seed: %s: %w", names.user, err)
	}
	files := []File{{names.meta, meta}, {names.user, user}}
	if s.Network == nil {
		return files, nil
	}
	network, err := s.renderNetwork()
	if err != nil {
		return nil, fmt.Errorf("cloud-init seed: %s: %w", names.network, err)
	}
	return append(files, File{names.network, network}), nil
}

type fileNames struct{ meta, user, network string }

func namesOf(t ImageType) *fileNames {
	switch t {
	case NoCloud, "":
		return &fileNames{"meta-data", "user-data", "network-config"}
	case ConfigDrive:
		const dir = "openstack/latest/"
		return &fileNames{dir + "meta_data.json", dir + "user_data", dir + "network_data.json"}
	}
	return nil
}
