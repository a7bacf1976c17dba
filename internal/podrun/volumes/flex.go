package volumes

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"

	"github.com/qemulet/qemulet/internal/flexvolume"
)

// flexDriver is the one FlexVolume driver of a machine without kubelet's plugins.
const flexDriver = "virtlet/flexvolume_driver"

// flex is a FlexVolume, made by calling the driver as kubelet does.
type flex struct {
	name    string // of the volume, or of the PersistentVolume
	options map[string]string
	ro      bool
	driver  flexvolume.Driver
}

func (p *Pod) newFlex(name string, v *corev1.FlexVolumeSource) (source, error) {
	if v.Driver != flexDriver {
		return nil, fmt.Errorf("flexVolume.driver %q is not available on one machine: accepted is %s", v.Driver, flexDriver)
	}
	f := &flex{name: name, ro: v.ReadOnly, driver: flexvolume.Driver{NewUUID: flexvolume.NewUUID}, options: p.flexOptions(name, v)}
	if v.SecretRef == nil {
		return f, nil
	}
	data, err := p.objects.Secret(v.SecretRef.Name, nil)
	for key, value := range data {
		f.options["kubernetes.io/secret/"+key] = base64.StdEncoding.EncodeToString(value)
	}
	return f, err
}

// flexOptions adds kubelet's own to those of the manifest (Kubernetes' page
// "FlexVolume", "Driver options").
func (p *Pod) flexOptions(name string, v *corev1.FlexVolumeSource) map[string]string {
	access := "rw"
	if v.ReadOnly {
		access = "ro"
	}
	own := map[string]string{
		"kubernetes.io/fsType":              v.FSType,
		"kubernetes.io/readwrite":           access,
		"kubernetes.io/pvOrVolumeName":      name,
		"kubernetes.io/pod.name":            p.pod.Name,
		"kubernetes.io/pod.namespace":       p.pod.Namespace,
		"kubernetes.io/pod.uid":             string(p.pod.UID),
		"kubernetes.io/serviceAccount.name": p.pod.Spec.ServiceAccountName,
	}
	maps.Copy(own, v.Options)
	own["kubernetes.io/readwrite"] = access
	return own
}

func (*flex) plugin() string    { return "virtlet~flexvolume_driver" }
func (f *flex) dirName() string { return f.name }
func (f *flex) readOnly() bool  { return f.ro }

func (f *flex) setUp(dir string, m *making) (string, error) {
	options, err := json.Marshal(f.options)
	if err != nil {
		return "", err
	}
	if m.pretend {
		return dir, f.driver.Write(dir, string(options))
	}
	return dir, callDriver(f.driver, "mount", dir, string(options))
}

func callDriver(d flexvolume.Driver, args ...string) error {
	if reply := d.Call(args); reply.Status != flexvolume.StatusSuccess {
		return errors.New(reply.Message)
	}
	return nil
}

func (f *flex) String() string { return "flexVolume " + f.options["type"] }
