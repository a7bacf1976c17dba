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

// WriteDefaultNetwork writes the default network's configuration into a
// directory below stateDir and returns the directory.
func WriteDefaultNetwork(stateDir string) (confDir string, err error) {
	confDir = filepath.Join(stateDir, "cni", "net.d")
	var text bytes.Buffer
	err = defaultNetwork.Execute(&text, map[string]string{
		"Bridge": DefaultBridge,
		"Leases": filepath.Join(stateDir, "cni", "leases"),
	})
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(confDir, 0o755); err != nil {
		return "", err
	}
	return confDir, os.WriteFile(filepath.Join(confDir, "10-qemulet.conflist"), text.Bytes(), 0o644)
}

// RemoveDefaultBridge removes the default network's bridge, unless something
// is still connected to it. CNI's plugin makes it and never removes it.
func RemoveDefaultBridge() error {
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
