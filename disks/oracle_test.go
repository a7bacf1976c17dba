package disks

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// run runs one of QEMU's own programs, the oracle for this package.
func run(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	out, err := cmd.Output()
	if err != nil {
		var stderr []byte
		if e, ok := err.(*exec.ExitError); ok {
			stderr = e.Stderr
		}
		t.Fatalf("%s %q: %v (is package qemu-utils installed?)\n%s%s", name, args, err, out, stderr)
	}
	return out
}

// qemuInfo is the part of `qemu-img info --output=json` that is compared.
type qemuInfo struct {
	VirtualSize     int64  `json:"virtual-size"`
	ClusterSize     int64  `json:"cluster-size"`
	Format          string `json:"format"`
	Backing         string `json:"backing-filename"`
	BackingFormat   string `json:"backing-filename-format"`
	FullBackingName string `json:"full-backing-filename"`
	Encrypted       bool   `json:"encrypted"`
	DirtyFlag       bool   `json:"dirty-flag"`
	Snapshots       []any  `json:"snapshots"`
	Specific        struct {
		Data struct {
			Compat      string `json:"compat"`
			Compression string `json:"compression-type"`
			DataFile    string `json:"data-file"`
			ExtendedL2  bool   `json:"extended-l2"`
			Corrupt     bool   `json:"corrupt"`
			Encrypt     struct {
				Format string `json:"format"`
			} `json:"encrypt"`
		} `json:"data"`
	} `json:"format-specific"`
}

func infoOf(t testing.TB, path string) qemuInfo {
	t.Helper()
	var info qemuInfo
	if err := json.Unmarshal(run(t, "qemu-img", "info", "--output=json", path), &info); err != nil {
		t.Fatal(err)
	}
	return info
}

// image says what qemu-img says in the words of this package.
func (q qemuInfo) image() Image {
	img := Image{
		Format:        Format(q.Format),
		Version:       3,
		VirtualSize:   q.VirtualSize,
		ClusterSize:   q.ClusterSize,
		BackingFile:   q.Backing,
		BackingFormat: Format(q.BackingFormat),
		DataFile:      q.Specific.Data.DataFile != "",
		DataFileName:  q.Specific.Data.DataFile,
		Encryption:    q.Specific.Data.Encrypt.Format,
		Compression:   q.Specific.Data.Compression,
		Dirty:         q.DirtyFlag,
		Corrupt:       q.Specific.Data.Corrupt,
		ExtendedL2:    q.Specific.Data.ExtendedL2,
		Snapshots:     len(q.Snapshots),
	}
	if q.Specific.Data.Compat == "0.10" {
		img.Version = 2
	}
	return img
}

func create(t testing.TB, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.qcow2")
	full := append([]string{"create", "-q", "-f", "qcow2"}, args...)
	for i, a := range full {
		if a == "PATH" {
			full[i] = path
		}
	}
	run(t, "qemu-img", full...)
	return path
}

// filled is an image with data in it.
func filled(t testing.TB, args ...string) string {
	t.Helper()
	path := create(t, args...)
	run(t, "qemu-io", "-f", "qcow2", "-c", "write -P 0x41 0 1M", "-c", "write -P 0x42 9M 300k", "-c", "write -z 3M 1M", path)
	return path
}

func openFile(t testing.TB, path string) (*os.File, int64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return f, st.Size()
}

func inspectFile(t testing.TB, path string) (Image, error) {
	t.Helper()
	f, size := openFile(t, path)
	return Inspect(f, size)
}

func checkFile(t testing.TB, path string) (Image, error) {
	t.Helper()
	f, size := openFile(t, path)
	return CheckBase(f, size, Limits{})
}
