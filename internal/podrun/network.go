package podrun

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"text/template"

	"github.com/vishvananda/netlink"
)

// DefaultBridge is the bridge of the default network.
const DefaultBridge = "qemulet0"

// defaultNetwork is what pods are connected to on a machine without a CNI
// configuration: a bridge of their own, on which the machine is the gateway.
var defaultNetwork = template.Must(template.New("").Parse(`{
  "cniVersion": "1.0.0",
  "name": "qemulet",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "{{.Bridge}}",
      "isGateway": true,
      "ipMasq": true,
      "hairpinMode": true,
      "ipam": {
        "type": "host-local",
        "dataDir": "{{.Leases}}",
        "ranges": [[{"subnet": "10.77.0.0/16"}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`))

// DefaultNetworkDir is the directory with the default network's configuration.
func DefaultNetworkDir(stateDir string) string { return filepath.Join(stateDir, "cni", "net.d") }

func leasesDir(stateDir string) string { return filepath.Join(stateDir, "cni", "leases") }

// WriteDefaultNetwork writes the default network's configuration and returns
// its directory.
func WriteDefaultNetwork(stateDir string) (confDir string, err error) {
	confDir = DefaultNetworkDir(stateDir)
	var text bytes.Buffer
	err = defaultNetwork.Execute(&text, map[string]string{
		"Bridge": DefaultBridge,
		"Leases": leasesDir(stateDir),
	})
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(confDir, 0o755); err != nil {
		return "", err
	}
	return confDir, os.WriteFile(filepath.Join(confDir, "10-qemulet.conflist"), text.Bytes(), 0o644)
}

// RemoveDefaultNetwork removes what CNI's plugins make and never remove: the
// bridge, unless something is still connected to it, and the last address that
// was given out. Only for when there are no pods.
func RemoveDefaultNetwork(stateDir string) error {
	return errors.Join(removeBridge(), os.RemoveAll(leasesDir(stateDir)), os.RemoveAll(DefaultNetworkDir(stateDir)))
}

func removeBridge() error {
	bridge, err := netlink.LinkByName(DefaultBridge)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return err
	}
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Attrs().MasterIndex == bridge.Attrs().Index {
			return nil
		}
	}
	return netlink.LinkDel(bridge)
}
