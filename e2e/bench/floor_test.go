package bench

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qemulet/qemulet/e2e/node"
)

// pluginDir is where Debian keeps CNI's plugins, and where the node's daemon looks for them.
const pluginDir = "/usr/lib/cni"

// What a person does to start a VM by hand.
const (
	stepNetns    = "ip netns add"
	stepLoopback = "CNI ADD loopback"
	stepBridge   = "CNI ADD bridge, host-local"
	stepOverlay  = "qemu-img create"
	stepSeed     = "genisoimage"
	stepQEMU     = "QEMU until cont"
)

// steps are done one after another.
var steps = []string{stepNetns, stepLoopback, stepBridge, stepOverlay, stepSeed, stepQEMU}

// floor starts VMs by hand on a node, next to its daemon.
type floor struct {
	node   *node.Node
	thread *thread
	dir    string
	base   string // the image's file
	plugin []byte // configuration of the bridge plugin
	argv   []string
	took   map[string]*samples // of each step
	total  samples
}

// newFloor makes ready for VMs like that one, which was made by the daemon.
func newFloor(b *testing.B, vm *node.VM) *floor {
	b.Helper()
	removeStrayNamespaces(b)
	n := vm.Node
	f := &floor{
		node:   n,
		thread: newThread(b, "/run/netns/"+n.Netns()),
		dir:    filepath.Join(n.Dir, "floor"),
		base:   onlyFile(b, n.Dir, "state/images/data/*"),
		plugin: pluginConfig(b, n),
		argv:   argvOf(b, vm),
		took:   map[string]*samples{},
	}
	for _, step := range steps {
		f.took[step] = new(samples)
	}
	seed := filepath.Join(f.dir, "seed")
	must(b, os.MkdirAll(seed, 0o755))
	for _, name := range []string{"meta-data", "user-data", "network-config"} {
		must(b, os.WriteFile(filepath.Join(seed, name), []byte("#cloud-config\n"), 0o644))
	}
	return f
}

func onlyFile(b *testing.B, dir, pattern string) string {
	b.Helper()
	found, _ := filepath.Glob(filepath.Join(dir, pattern))
	if len(found) != 1 {
		b.Fatalf("%d files are %s in %s, expected 1", len(found), pattern, dir)
	}
	return found[0]
}

// pluginConfig is the node's network as its first plugin is told of it.
func pluginConfig(b *testing.B, n *node.Node) []byte {
	b.Helper()
	var list struct {
		CNIVersion, Name string
		Plugins          []map[string]any
	}
	data, err := os.ReadFile(onlyFile(b, n.Dir, "cni/*.conflist"))
	must(b, err)
	must(b, json.Unmarshal(data, &list))
	plugin := list.Plugins[0]
	plugin["cniVersion"], plugin["name"] = list.CNIVersion, list.Name
	data, err = json.Marshal(plugin)
	must(b, err)
	return data
}

// argvOf is what the daemon has recorded of a VM: QEMU's path and arguments.
func argvOf(b *testing.B, vm *node.VM) []string {
	b.Helper()
	var config struct {
		VM struct {
			Hypervisor struct {
				Path       string
				Parameters []string
			}
		}
	}
	data, err := os.ReadFile(onlyFile(b, vm.Node.Dir, "state/pods/"+vm.Pod.Metadata.Uid+"/*/config.json"))
	must(b, err)
	must(b, json.Unmarshal(data, &config))
	return append([]string{config.VM.Hypervisor.Path}, config.VM.Hypervisor.Parameters...)
}

// handMade is a VM that was started by hand.
type handMade struct {
	floor *floor
	netns string
	id    string
	dir   string
	qemu  *bareQEMU
}

// run starts a VM by hand and notes how long that took. The VM must be ended by end.
func (f *floor) run(b *testing.B) *handMade {
	b.Helper()
	id := randomID()
	vm := &handMade{
		floor: f,
		netns: fmt.Sprintf("%s%d-%s", namespacePrefix, os.Getpid(), id[:12]),
		id:    id,
		dir:   filepath.Join(f.dir, id[:12]),
	}
	b.Cleanup(func() { removeNamespace(b, vm.netns) }) // all else goes with the node
	must(b, os.Mkdir(vm.dir, 0o755))
	var total time.Duration
	step := func(name string, do func() error) {
		b.Helper()
		begin := time.Now()
		if err := do(); err != nil {
			vm.end(b)
			b.Fatalf("%s: %v", name, err)
		}
		took := time.Since(begin)
		f.took[name].addTime(took)
		total += took
	}
	step(stepNetns, func() error { return f.program(nil, nil, "ip", "netns", "add", vm.netns) })
	step(stepLoopback, func() error { return vm.cni("ADD", "loopback", "lo", loopback) })
	step(stepBridge, func() error { return vm.cni("ADD", "bridge", "eth0", f.plugin) })
	step(stepOverlay, func() error {
		return f.program(nil, nil, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", f.base, vm.path("root.qcow2"))
	})
	step(stepSeed, func() error {
		return f.program(nil, nil, "genisoimage", "-quiet", "-V", "cidata", "-J", "-r", "-o", vm.path("seed.iso"), filepath.Join(f.dir, "seed"))
	})
	// Files and sockets are opened off the clock.
	qemu, err := vm.prepare()
	if err != nil {
		vm.end(b)
		b.Fatal(err)
	}
	vm.qemu = qemu
	step(stepQEMU, func() error { return f.thread.do(qemu.start) })
	f.total.addTime(total)
	return vm
}

func (vm *handMade) path(name string) string { return filepath.Join(vm.dir, name) }

// end ends what runs and removes what is there, however far run has come.
func (vm *handMade) end(b *testing.B) {
	b.Helper()
	if vm.qemu != nil {
		vm.qemu.kill()
	}
	if err := vm.cni("DEL", "bridge", "eth0", vm.floor.plugin); err != nil {
		b.Log(err)
	}
	removeNamespace(b, vm.netns)
	must(b, os.RemoveAll(vm.dir))
}

var loopback = []byte(`{"cniVersion": "1.0.0", "name": "lo", "type": "loopback"}`)

// cni runs a plugin as the CNI specification says, section 2.
func (vm *handMade) cni(command, plugin, link string, config []byte) error {
	env := []string{
		"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + vm.id, "CNI_NETNS=/run/netns/" + vm.netns,
		"CNI_IFNAME=" + link, "CNI_PATH=" + pluginDir, "PATH=" + os.Getenv("PATH"),
	}
	return vm.floor.program(env, config, filepath.Join(pluginDir, plugin))
}

// program runs a program on the node.
func (f *floor) program(env []string, stdin []byte, argv ...string) error {
	return f.thread.do(func() error { return runProgram(env, stdin, argv...) })
}

func runProgram(env []string, stdin []byte, argv ...string) error {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = env
	if stdin != nil {
		cmd.Stdin = bytes.NewReader(stdin)
	}
	impatience := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer impatience.Stop()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func randomID() string {
	id := make([]byte, 32)
	rand.Read(id)
	return hex.EncodeToString(id)
}

// namespacePrefix begins the names of namespaces made by hand; the number of the process that made it follows.
const namespacePrefix = "qe2e-bench-"

func removeNamespace(b *testing.B, name string) {
	b.Helper()
	if _, err := os.Stat("/run/netns/" + name); err != nil {
		return
	}
	if err := runProgram(nil, nil, "ip", "netns", "del", name); err != nil {
		b.Log(err)
	}
}

// removeStrayNamespaces removes those of a process that was killed before it could do so itself.
func removeStrayNamespaces(b *testing.B) {
	b.Helper()
	found, _ := filepath.Glob("/run/netns/" + namespacePrefix + "*")
	for _, path := range found {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), namespacePrefix), "-")
		if _, err := os.Stat("/proc/" + owner); os.IsNotExist(err) {
			removeNamespace(b, filepath.Base(path))
		}
	}
}
