package disks

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Modules that the injecting machine needs, unless they are part of its kernel,
// and those that it can do without: xfs has a kernel or not, and names of crc32c
// differ.
var (
	neededModules   = [...]string{"virtio_pci", "virtio_blk", "ext4"}
	optionalModules = [...]string{"crc32c_generic", "crc32c", "xfs"}
)

// injectKernel is a kernel of this node's distribution, with its modules.
type injectKernel struct {
	image   string
	modules []string // paths, in the order in which they are loaded
}

// findKernel takes the kernel that runs, which a node has nearly always, and
// otherwise the newest that will do.
func findKernel(bootDir, modulesDir string) (injectKernel, error) {
	bootDir, modulesDir = cmp.Or(bootDir, "/boot"), cmp.Or(modulesDir, "/lib/modules")
	var problems []error
	for _, release := range kernelReleases(modulesDir) {
		k, err := openKernel(release, bootDir, modulesDir)
		if err == nil {
			return k, nil
		}
		problems = append(problems, fmt.Errorf("kernel %s: %w", release, err))
	}
	return injectKernel{}, fmt.Errorf("%w in %s with modules in %s: install a kernel of the distribution there "+
		"(Debian: linux-image-cloud-amd64, Ubuntu: linux-image-virtual, Fedora and its kin: kernel-core): %w",
		ErrNoKernel, bootDir, modulesDir, errors.Join(problems...))
}

// kernelReleases lists the running kernel, if it has modules, and then the
// others, newest first.
func kernelReleases(modulesDir string) []string {
	entries, _ := os.ReadDir(modulesDir) // none: no kernels
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	slices.SortFunc(all, func(a, b string) int { return compareVersions(b, a) })
	running := runningKernel()
	slices.SortStableFunc(all, func(a, b string) int {
		switch running {
		case a:
			return -1
		case b:
			return 1
		}
		return 0
	})
	return all
}

func runningKernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// compareVersions compares the numbers in two names as numbers.
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		x, restA := cutNumber(a)
		y, restB := cutNumber(b)
		if c := cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y)); x != "" && y != "" && c != 0 {
			return c
		} else if c := cmp.Compare(a[0], b[0]); (x == "" || y == "") && c != 0 {
			return c
		}
		if x == "" {
			restA, restB = a[1:], b[1:]
		}
		a, b = restA, restB
	}
	return cmp.Compare(len(a), len(b))
}

// cutNumber takes the number off with which s begins, without leading zeros; ""
// is none.
func cutNumber(s string) (number, rest string) {
	rest = strings.TrimLeft(s, "0123456789")
	digits := s[:len(s)-len(rest)]
	if number = strings.TrimLeft(digits, "0"); number == "" && digits != "" {
		number = "0"
	}
	return number, rest
}

// openKernel finds the image and the modules of one kernel.
func openKernel(release, bootDir, modulesDir string) (injectKernel, error) {
	dir := filepath.Join(modulesDir, release)
	k := injectKernel{}
	for _, path := range []string{filepath.Join(bootDir, "vmlinuz-"+release), filepath.Join(dir, "vmlinuz")} {
		if _, err := os.Stat(path); err == nil {
			k.image = path
			break
		}
	}
	if k.image == "" {
		return k, fmt.Errorf("its image is neither vmlinuz-%s in %s nor %s: %w", release, bootDir, filepath.Join(dir, "vmlinuz"), fs.ErrNotExist)
	}
	index, err := readModuleIndex(dir)
	if err != nil {
		return k, err
	}
	for _, name := range neededModules {
		if !index.has(name) {
			return k, fmt.Errorf("it has no module %s", name)
		}
		k.modules = index.add(k.modules, name)
	}
	for _, name := range optionalModules {
		k.modules = index.add(k.modules, name)
	}
	return k, nil
}

// moduleIndex is what depmod has written of a kernel's modules, by their names
// with underscores.
type moduleIndex struct {
	builtin map[string]bool
	// files of a module: its own, then those that it needs, of which the last
	// is to be loaded first (modules.dep(5)).
	files map[string][]string
}

func readModuleIndex(dir string) (moduleIndex, error) {
	index := moduleIndex{builtin: map[string]bool{}, files: map[string][]string{}}
	builtin, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return index, err
	}
	for file := range strings.FieldsSeq(string(builtin)) {
		index.builtin[moduleName(file)] = true
	}
	deps, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return index, err
	}
	for line := range strings.Lines(string(deps)) {
		own, needs, found := strings.Cut(line, ":")
		if !found {
			continue
		}
		files := []string{filepath.Join(dir, own)}
		for need := range strings.FieldsSeq(needs) {
			files = append(files, filepath.Join(dir, need))
		}
		index.files[moduleName(own)] = files
	}
	return index, nil
}

// moduleName is xfs of kernel/fs/xfs/xfs.ko.zst.
func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func (x moduleIndex) has(name string) bool { return x.builtin[name] || x.files[name] != nil }

// add appends a module's files, those that it needs first.
func (x moduleIndex) add(to []string, name string) []string {
	for _, file := range slices.Backward(x.files[name]) {
		if !slices.Contains(to, file) {
			to = append(to, file)
		}
	}
	return to
}
