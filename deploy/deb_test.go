package deploy

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/qemulet/qemulet/internal/podrun"
)

// packaged is the package of the programs as they are now; it takes a while.
var packaged = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "qemulet-deb-")
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-buildvcs=false", "-o", filepath.Join(dir, "bin")+"/", "./cmd/...")
	build.Dir = ".."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	out, err := exec.Command("deb/build.sh", filepath.Join(dir, "bin"), dir).CombinedOutput()
	if err != nil {
		return "", errors.New(string(out))
	}
	return strings.TrimSpace(string(out)), nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if deb != "" {
		os.RemoveAll(filepath.Dir(deb))
	}
	os.Exit(status)
}

// deb is what packaged made.
var deb string

func pack(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"dpkg-deb", "dpkg", "systemd-sysusers", "deb-systemd-helper"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err) // not on Debian
		}
	}
	file, err := packaged()
	if err != nil {
		t.Fatal(err)
	}
	deb = file
	return file
}

func output(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", argv, err, out)
	}
	return string(out)
}

// The network of the package is that of the one-machine mode.
func TestDebNetwork(t *testing.T) {
	dir := t.TempDir()
	confDir, err := podrun.WriteDefaultNetwork(dir)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(confDir, "10-qemulet.conflist"))
	if err != nil {
		t.Fatal(err)
	}
	has, err := os.ReadFile("deb/10-qemulet.conflist")
	if err != nil || string(has) != strings.ReplaceAll(string(want), dir, "/var/lib/qemulet") {
		t.Errorf("%s, %v", has, err)
	}
}

// What lintian, Debian's own examiner, would look at first.
func TestDebIsInOrder(t *testing.T) {
	file := pack(t)
	if name := filepath.Base(file); !regexp.MustCompile(`^qemulet_[0-9][0-9A-Za-z.+~]*_amd64\.deb$`).MatchString(name) {
		t.Errorf("it is called %s", name)
	}
	fields := output(t, "dpkg-deb", "--field", file)
	for _, want := range []string{"Package: qemulet\n", "Architecture: amd64\n", "Maintainer: ", "Section: admin\n", "qemu-system-x86, qemu-utils, containernetworking-plugins, iproute2"} {
		if !strings.Contains(fields, want) {
			t.Errorf("no %q in %s", want, fields)
		}
	}
	for line := range strings.Lines(output(t, "dpkg-deb", "--contents", file)) {
		c := strings.Fields(line)
		mode, owner, path := c[0], c[1], strings.TrimPrefix(c[5], "./")
		executable := strings.HasPrefix(path, "usr/bin/") || strings.HasPrefix(path, "usr/libexec/")
		switch {
		case owner != "root/root":
			t.Errorf("%s belongs to %s", path, owner)
		case strings.HasPrefix(path, "usr/local") || path != "" && !strings.HasPrefix(path, "usr/") && !strings.HasPrefix(path, "etc/"):
			t.Errorf("%s is no place for a package", path)
		case mode[0] == '-' && executable != (mode == "-rwxr-xr-x") || mode[0] == '-' && !executable && mode != "-rw-r--r--" || mode[0] == 'd' && mode != "drwxr-xr-x":
			t.Errorf("%s has the mode %s", path, mode)
		}
	}
	dir := t.TempDir()
	output(t, "dpkg-deb", "--raw-extract", file, dir)
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		output(t, "sh", "-n", filepath.Join(dir, "DEBIAN", script))
	}
	check := exec.Command("md5sum", "--check", "--quiet", "DEBIAN/md5sums")
	check.Dir = dir
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	for _, page := range []string{"man1/qemulet-run.1.gz", "man1/qemulet.1.gz", "man1/qemuletctl.1.gz", "man8/criproxy.8.gz"} {
		output(t, "gzip", "--test", filepath.Join(dir, "usr/share/man", page))
	}
	if lintian, err := exec.LookPath("lintian"); err == nil {
		t.Log(output(t, lintian, "--fail-on", "error", "--suppress-tags", "statically-linked-binary", file))
	}
}

// Its services are those of deploy/systemd, but for where the programs are.
func TestDebUnits(t *testing.T) {
	dir := t.TempDir()
	output(t, "dpkg-deb", "--extract", pack(t), dir)
	for _, unit := range []string{"qemulet.service", "criproxy.service"} {
		has, err := os.ReadFile(filepath.Join(dir, "usr/lib/systemd/system", unit))
		if err != nil {
			t.Fatal(err)
		}
		text := string(has)
		if strings.Contains(text, "/usr/local") || strings.Contains(text, "node-install") || !strings.Contains(text, "\nExecStart=/usr/bin/") {
			t.Errorf("%s: %s", unit, text)
		}
		if unit == "qemulet.service" && !strings.Contains(text, "\nKillMode=process\n") {
			t.Errorf("%s kills VMs", unit)
		}
	}
}

// debian is a root directory with dpkg's records and no more. Scripts of packages run outside of it.
type debian struct {
	t    *testing.T
	root string
}

func newDebian(t *testing.T) *debian {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root may give files to root")
	}
	d := &debian{t: t, root: t.TempDir()}
	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "etc", "usr/bin"} {
		if err := os.MkdirAll(filepath.Join(d.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	d.write("var/lib/dpkg/status", "")
	d.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
	d.write("etc/group", "root:x:0:\nkvm:x:999:\n")
	return d
}

func (d *debian) write(path, text string) {
	d.t.Helper()
	file := filepath.Join(d.root, path)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		d.t.Fatal(err)
	}
}

func (d *debian) has(path string) bool {
	_, err := os.Lstat(filepath.Join(d.root, path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.t.Fatal(err)
	}
	return err == nil
}

func (d *debian) dpkg(args ...string) {
	d.t.Helper()
	output(d.t, append([]string{"dpkg", "--root=" + d.root, "--force-depends", "--force-script-chrootless", "--log=/dev/null"}, args...)...)
}

// The package is put on a machine, runs, is upgraded, removed and purged. A changed settings file stays until the purge, and
// so do images and disks.
func TestDebIsInstalled(t *testing.T) {
	file := pack(t)
	d := newDebian(t)
	d.dpkg("--install", file)
	program := filepath.Join(d.root, "usr/bin/qemulet")
	if out := output(t, program, "version"); !strings.HasPrefix(out, "qemulet ") {
		t.Errorf("said %s", out)
	}
	if out := output(t, program, "config", "dump", "--config", filepath.Join(d.root, "etc/qemulet/config.yaml")); !strings.Contains(out, "/etc/qemulet/net.d ") {
		t.Errorf("settings: %s", out)
	}
	output(t, program, "config", "check", filepath.Join(d.root, "etc/qemulet/config.yaml"))
	output(t, filepath.Join(d.root, "usr/bin/kubectl-virt"), "version", "--client")
	users, err := os.ReadFile(filepath.Join(d.root, "etc/passwd"))
	if err != nil || !strings.Contains(string(users), "\nqemulet:x:") {
		t.Errorf("users: %s, %v", users, err)
	}
	if !d.has("etc/systemd/system/multi-user.target.wants/qemulet.service") || d.has("etc/systemd/system/multi-user.target.wants/criproxy.service") {
		t.Error("qemulet is not enabled, or criproxy is")
	}
	d.write("etc/qemulet/config.yaml", "accel: tcg\n")
	d.write("var/lib/qemulet/pods/uid/root.qcow2", "a disk")
	d.dpkg("--install", file)
	if text, err := os.ReadFile(filepath.Join(d.root, "etc/qemulet/config.yaml")); err != nil || string(text) != "accel: tcg\n" {
		t.Errorf("after an upgrade the settings are %q, %v", text, err)
	}
	d.dpkg("--remove", "qemulet")
	for path, want := range map[string]bool{"usr/bin/qemulet": false, "etc/qemulet/config.yaml": true, "var/lib/qemulet/pods/uid/root.qcow2": true} {
		if d.has(path) != want {
			t.Errorf("after the removal: %s: %v", path, d.has(path))
		}
	}
	d.dpkg("--purge", "qemulet")
	for _, path := range []string{"etc/qemulet", "var/lib/qemulet", "etc/systemd/system/multi-user.target.wants/qemulet.service"} {
		if d.has(path) {
			t.Errorf("after the purge %s is there", path)
		}
	}
}

// A purge leaves alone what an installation by the DaemonSet uses.
func TestPurgeBesideTheDaemonSet(t *testing.T) {
	d := newDebian(t)
	d.dpkg("--install", pack(t))
	d.write("var/lib/qemulet-install/files", "")
	d.write("var/lib/qemulet/images/data/x", "")
	d.dpkg("--purge", "qemulet")
	if !d.has("var/lib/qemulet/images/data/x") {
		t.Error("images are gone")
	}
}

// The scripts kill no VM: only a removal stops the services, and it asks before.
func TestScriptsStopNothingOnUpgrade(t *testing.T) {
	stops := regexp.MustCompile(`\b(stop|kill|disable)\b.*\.service`)
	for _, script := range []string{"postinst", "postrm", "prerm"} {
		text, err := os.ReadFile("deb/" + script)
		if err != nil {
			t.Fatal(err)
		}
		found := stops.FindAllString(string(text), -1)
		if want := script == "prerm"; want != (len(found) > 0) {
			t.Errorf("%s: %q", script, found)
		}
	}
	prerm, err := os.ReadFile("deb/prerm")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(prerm), "\n")
	ask := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "qemulet ps") })
	stop := slices.IndexFunc(lines, func(l string) bool { return stops.MatchString(l) })
	if ask < 0 || stop < ask || !strings.Contains(string(prerm), `"$1" = remove`) {
		t.Errorf("prerm: %s", prerm)
	}
}
