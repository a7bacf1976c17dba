package volumes

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// emptyDir is a directory of the pod's own, or a tmpfs.
type emptyDir struct {
	memory bool
	limit  int64 // bytes of the tmpfs; 0 is the kernel's default
}

func newEmptyDir(v *corev1.EmptyDirVolumeSource) (source, error) {
	switch v.Medium {
	case corev1.StorageMediumDefault:
		return emptyDir{}, nil
	case corev1.StorageMediumMemory:
		e := emptyDir{memory: true}
		if v.SizeLimit != nil {
			e.limit = v.SizeLimit.Value()
		}
		return e, nil
	}
	return nil, fmt.Errorf("emptyDir.medium %q: accepted are nothing and Memory", v.Medium)
}

func (emptyDir) plugin() string { return "kubernetes.io~empty-dir" }

// anybody is the mode that kubelet gives to directories for containers: who they
// run as is not known.
const anybody = 0o777

func (e emptyDir) setUp(dir string, m *making) (string, error) {
	if err := makeDir(dir); err != nil || !e.memory || m.pretend {
		return dir, err
	}
	options := "mode=0777"
	if e.limit > 0 {
		options += fmt.Sprintf(",size=%d", e.limit)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return "", &os.PathError{Op: "mount tmpfs on", Path: dir, Err: err}
	}
	return dir, nil
}

// makeDir makes a directory that anybody may write to, whatever the umask says.
// Those above it are for root alone.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, anybody)
}

func (e emptyDir) String() string { return "emptyDir" }
