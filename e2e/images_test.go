package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

// qemulet runs a command of the daemon's program on the node.
func qemulet(t *testing.T, n *node.Node, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	c := exec.CommandContext(seconds(t, 60), node.Binary(t, "qemulet"), args...)
	c.Env = append(os.Environ(), "QEMULET_RUN_DIR="+filepath.Join(n.Dir, "run"), "QEMULET_STATE_DIR="+filepath.Join(n.Dir, "state"))
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err = c.Run()
	return out.String(), errs.String(), err
}

func mustQemulet(t *testing.T, n *node.Node, args ...string) (stdout, stderr string) {
	t.Helper()
	stdout, stderr, err := qemulet(t, n, args...)
	if err != nil {
		t.Fatalf("qemulet %v: %v\n%s%s", args, err, stdout, stderr)
	}
	return stdout, stderr
}

// failsWith fails unless the command fails with these words.
func failsWith(t *testing.T, n *node.Node, words []string, args ...string) {
	t.Helper()
	_, stderr, err := qemulet(t, n, args...)
	if err == nil {
		t.Fatalf("qemulet %v succeeded", args)
	}
	mentions(t, stderr, words...)
}

// blank serves an empty disk of so many MiB as the image NAME.
func blank(t *testing.T, n *node.Node, name string, mebibytes int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", path, strconv.Itoa(mebibytes)+"M").CombinedOutput(); err != nil {
		t.Fatalf("qemu-img create: %v: %s", err, out)
	}
	n.Web.File(t, name, path)
}

// The images of a node, as crictl and `qemulet image` show and change them.
func TestImages(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	for i, name := range []string{"one", "two", "team/three"} {
		blank(t, n, name, i+1)
	}
	t.Run("of an old node", func(t *testing.T) { imagesOfOldNode(t, n) })
	t.Run("crictl", func(t *testing.T) { imagesByCrictl(t, n) })
	t.Run("qemulet", func(t *testing.T) { imagesByQemulet(t, n) })
	t.Run("in use", func(t *testing.T) { imageInUse(t, n) })
	t.Run("progress", func(t *testing.T) { pullProgress(t, n) })
	t.Run("metrics", func(t *testing.T) { imageMetrics(t, n) })
	t.Run("resolve", func(t *testing.T) { resolveImages(t, n) })
	n.NoLeaks(t)
}

// A node that ran Virtlet keeps its images: files by digest, links by the name behind virtlet.cloud/.
func imagesOfOldNode(t *testing.T, n *node.Node) {
	disk, err := os.ReadFile(node.Guest(t, "tiny"))
	check(t, err)
	sum := sha256.Sum256(disk)
	digest := hex.EncodeToString(sum[:])
	store := filepath.Join(n.Dir, "state/images")
	check(t, os.WriteFile(filepath.Join(store, "data", digest), disk, 0o644))
	check(t, os.Symlink("../data/"+digest, filepath.Join(store, "links", "library%vm")))
	matches(t, "images", n.Crictl(t, "images"), `virtlet\.cloud/library/vm +latest`)
	vm := n.NewVM(t, "old", func(vm *node.VM) {
		vm.Config.Image.Image, vm.Config.Image.UserSpecifiedImage = "virtlet.cloud/library/vm", "virtlet.cloud/library/vm"
	})
	vm.Run(t)
	vm.Remove(t)
	n.Crictl(t, "rmi", "virtlet.cloud/library/vm@sha256:"+digest)
	if data := storedFiles(t, n); len(data) != 0 {
		t.Errorf("left: %v", data)
	}
}

// crictlImage is an image as crictl writes it.
type crictlImage struct {
	ID                    string
	RepoTags, RepoDigests []string
	Size                  string
}

func imagesByCrictl(t *testing.T, n *node.Node) {
	matches(t, "pull", n.Crictl(t, "pull", "virtlet.cloud/one"), `up to date for sha256:[0-9a-f]{64}$`)
	n.Crictl(t, "pull", "virtlet.cloud/one:v2")
	var listed struct{ Images []crictlImage }
	n.CrictlJSON(t, &listed, "images", "-o", "json")
	if len(listed.Images) != 1 || len(listed.Images[0].RepoTags) != 2 || len(listed.Images[0].RepoDigests) != 1 {
		t.Fatalf("images: %+v", listed)
	}
	id := listed.Images[0].ID
	matches(t, "images", n.Crictl(t, "images", "--digests"), `virtlet\.cloud/one +v2 +[0-9a-f]{12,} +[0-9a-f]{12,} +\d`)
	if got := n.Crictl(t, "images", "-q", "virtlet.cloud/one:v2"); got != id {
		t.Errorf("images -q: %s, want %s", got, id)
	}
	if got := n.Crictl(t, "images", "-q", "virtlet.cloud/none"); got != "" {
		t.Errorf("images -q of none: %s", got)
	}
	for _, ref := range []string{"virtlet.cloud/one", id, id[:20], listed.Images[0].RepoDigests[0]} {
		var status struct {
			Status crictlImage
			Info   map[string]any
		}
		n.CrictlJSON(t, &status, "inspecti", ref)
		if status.Status.ID != id || len(status.Info) == 0 {
			t.Errorf("inspecti %s: %+v", ref, status)
		}
	}
	mentions(t, n.CrictlFails(t, "inspecti", "virtlet.cloud/none"), "no such image")
	used := usedBytes(t, n)
	// One of its names takes all of them with it, and the space is free.
	n.Crictl(t, "rmi", "virtlet.cloud/one:v2")
	if got := n.Crictl(t, "images", "-q"); got != "" {
		t.Errorf("left: %s", got)
	}
	if now := usedBytes(t, n); now >= used {
		t.Errorf("%d bytes are used, after %d", now, used)
	}
	n.Crictl(t, "pull", "virtlet.cloud/one")
	n.Crictl(t, "pull", "virtlet.cloud/two")
	n.Crictl(t, "rmi", "--prune")
	if got := n.Crictl(t, "images", "-q"); got != "" {
		t.Errorf("left: %s", got)
	}
}

// usedBytes is what kubelet sees, which must be what is there.
func usedBytes(t *testing.T, n *node.Node) int {
	t.Helper()
	var info struct {
		Status struct {
			ImageFilesystems []struct {
				FsID       struct{ Mountpoint string } `json:"fsId"`
				UsedBytes  struct{ Value string }
				InodesUsed struct{ Value string }
			}
		}
	}
	n.CrictlJSON(t, &info, "imagefsinfo")
	fs := info.Status.ImageFilesystems
	if len(fs) != 1 || fs[0].FsID.Mountpoint == "" {
		t.Fatalf("imagefsinfo: %+v", info)
	}
	out, err := exec.Command("du", "-s", "-B1", filepath.Join(n.Dir, "state/images")).Output()
	check(t, err)
	if want := strings.Fields(string(out))[0]; fs[0].UsedBytes.Value != want {
		t.Errorf("%s bytes are said to be used, du says %s", fs[0].UsedBytes.Value, want)
	}
	bytes, err := strconv.Atoi(fs[0].UsedBytes.Value)
	check(t, err)
	return bytes
}

type listedImage struct {
	ID, Digest             string
	Names, UsedBy, Sources []string
	Size, VirtualSize      int
}

func imagesByQemulet(t *testing.T, n *node.Node) {
	out, info := mustQemulet(t, n, "image", "pull", "virtlet.cloud/one", "virtlet.cloud/two", "virtlet.cloud/team/three")
	if ids := strings.Fields(out); len(ids) != 3 || !strings.HasPrefix(ids[0], "sha256:") {
		t.Errorf("ids: %q", out)
	}
	mentions(t, info, "pulled virtlet.cloud/one", "pulled virtlet.cloud/team/three")
	out, _ = mustQemulet(t, n, "image", "ls")
	matches(t, "ls", out, `(?m)^NAME +ID +SIZE +VIRTUAL +PULLED +USED BY\n(.*\n)*virtlet\.cloud/two:latest +[0-9a-f]{12} +\d+\.\d KiB +2\.0 MiB +\d+s ago +-$`)

	var all []listedImage
	out, _ = mustQemulet(t, n, "image", "ls", "-o", "json")
	check(t, json.Unmarshal([]byte(out), &all))
	if len(all) != 3 || all[0].VirtualSize != 1<<20 || len(all[0].Sources) != 1 || all[0].Sources[0] != "http://127.0.0.1/one.qcow2" {
		t.Fatalf("%+v", all)
	}
	out, _ = mustQemulet(t, n, "image", "inspect", all[0].ID[7:19])
	mentions(t, out, all[0].ID, all[0].Digest, "virtlet.cloud/one:latest", "http://127.0.0.1/one.qcow2", "1.0 MiB (1048576 bytes)", "qcow2")

	_, info = mustQemulet(t, n, "image", "pull", "--digest", "sha256:"+all[0].Digest, "virtlet.cloud/one")
	mentions(t, info, "pulled virtlet.cloud/one@sha256:"+all[0].Digest)
	failsWith(t, n, []string{"image digest mismatch"}, "image", "pull", "--digest", strings.Repeat("0", 64), "virtlet.cloud/two")
	failsWith(t, n, []string{"no image translation rule matches", "none"}, "image", "pull", "virtlet.cloud/none")

	_, info = mustQemulet(t, n, "image", "rm", "virtlet.cloud/one@sha256:"+all[0].Digest)
	mentions(t, info, "removed virtlet.cloud/one:latest")
	failsWith(t, n, []string{`"virtlet.cloud/one"`, "not on this machine"}, "image", "rm", "virtlet.cloud/one")

	out, _ = mustQemulet(t, n, "image", "gc", "--all", "--dry-run")
	mentions(t, out, "would free virtlet.cloud/two:latest", "in all")
	if ids, _ := mustQemulet(t, n, "image", "ls", "-q"); len(strings.Fields(ids)) != 2 {
		t.Errorf("a dry run frees: %s", ids)
	}
	before := usedBytes(t, n)
	out, _ = mustQemulet(t, n, "image", "gc", "--all")
	mentions(t, out, "freed virtlet.cloud/two:latest", "freed virtlet.cloud/team/three:latest", "in all")
	if now := usedBytes(t, n); now >= before {
		t.Errorf("%d bytes are used, after %d", now, before)
	}
	out, _ = mustQemulet(t, n, "image", "gc")
	mentions(t, out, "nothing to free")
	out, _ = mustQemulet(t, n, "image", "ls")
	mentions(t, out, "there are no images")
}

// An image with a VM on it is never lost.
func imageInUse(t *testing.T, n *node.Node) {
	vm := n.NewVM(t, "user", func(vm *node.VM) {
		vm.Config.Image.Image, vm.Config.Image.UserSpecifiedImage = "virtlet.cloud/one", "virtlet.cloud/one"
	})
	mustQemulet(t, n, "image", "pull", "virtlet.cloud/one")
	check(t, vm.TrySandbox(seconds(t, 30)))
	check(t, vm.TryCreate(seconds(t, 30)))
	out, _ := mustQemulet(t, n, "image", "ls")
	matches(t, "ls", out, `virtlet\.cloud/one:latest .* [a-z0-9-]+/user`)
	failsWith(t, n, []string{"virtlet.cloud/one", "used by", "/user"}, "image", "rm", "virtlet.cloud/one")
	out, _ = mustQemulet(t, n, "image", "gc", "--all")
	mentions(t, out, "nothing to free")
	_, info := mustQemulet(t, n, "image", "rm", "--force", "virtlet.cloud/one")
	mentions(t, info, "no longer listed", "/user")
	if data := storedFiles(t, n); len(data) != 1 {
		t.Errorf("the disk's base is gone: %v", data)
	}
	vm.Remove(t)
	if data := storedFiles(t, n); len(data) != 0 {
		t.Errorf("left: %v", data)
	}
}

func storedFiles(t *testing.T, n *node.Node) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(n.Dir, "state/images/data/*"))
	check(t, err)
	return found
}

// metrics asks the api socket as Prometheus' node agent would.
func metrics(t *testing.T, n *node.Node) string {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(n.Dir, "run/api.sock"))
	}}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Get("http://daemon/metrics")
	check(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	check(t, err)
	return string(text)
}

// halfway serves the image NAME and stops in the middle until goOn is called; half is closed when it is there.
func halfway(t *testing.T, n *node.Node, name string) (half <-chan struct{}, goOn func()) {
	t.Helper()
	disk, err := os.ReadFile(node.Guest(t, "tiny"))
	check(t, err)
	there, on := make(chan struct{}), make(chan struct{})
	n.Web.Handle(t, name, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(disk)))
		w.Write(disk[:len(disk)/2])
		w.(http.Flusher).Flush()
		close(there)
		<-on
		w.Write(disk[len(disk)/2:])
	}))
	goOn = sync.OnceFunc(func() { close(on) })
	t.Cleanup(goOn)
	return there, goOn
}

// A bar for a person in a terminal, lines for whoever is none.
func pullProgress(t *testing.T, n *node.Node) {
	half, goOn := halfway(t, n, "watched")
	env := []string{"QEMULET_RUN_DIR=" + filepath.Join(n.Dir, "run"), "QEMULET_STATE_DIR=" + filepath.Join(n.Dir, "state")}
	pull := []string{node.Binary(t, "qemulet"), "image", "pull", "virtlet.cloud/watched"}
	terminal := node.InTerminal(t, env, pull...)
	<-half
	plain := exec.CommandContext(seconds(t, 60), pull[0], pull[1:]...)
	plain.Env = append(os.Environ(), env...)
	lines, err := plain.StderrPipe()
	check(t, err)
	check(t, plain.Start())
	terminal.Expect(`pulling virtlet\.cloud/watched +\[=+ *\] +\d+%`, 20*time.Second)
	said := bufio.NewScanner(lines)
	said.Scan()
	matches(t, "the first line", said.Text(), `^pulling virtlet\.cloud/watched  [0-9.]+ [KM]iB of [0-9.]+ MiB, `)
	goOn()
	terminal.Expect(`pulled virtlet\.cloud/watched`, 20*time.Second)
	terminal.Wait(5 * time.Second)
	for said.Scan() {
	}
	check(t, plain.Wait())
	n.Crictl(t, "rmi", "virtlet.cloud/watched")
}

// A download that stands still is seen in the metrics while it does.
func imageMetrics(t *testing.T, n *node.Node) {
	half, goOn := halfway(t, n, "slow")
	done := make(chan error, 1)
	go func() {
		_, err := n.Images.PullImage(context.Background(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: "virtlet.cloud/slow"}})
		done <- err
	}()
	<-half
	text := metrics(t, n)
	mentions(t, text, `qemulet_image_pulls_in_progress{state="running"} 1`, `qemulet_image_pull_size_bytes{image="virtlet.cloud/slow:latest"}`,
		`qemulet_image_pull_progress_bytes{image="virtlet.cloud/slow:latest"}`, `qemulet_image_pulls_total{result="failed"} 2`)
	goOn()
	check(t, <-done)
	text = metrics(t, n)
	mentions(t, text, `qemulet_image_pulls_in_progress{state="running"} 0`, "qemulet_image_store_images 1", `qemulet_image_pull_duration_seconds_count{result="fetched"}`)
	if stored := regexp.MustCompile(`qemulet_image_store_bytes (\S+)`).FindStringSubmatch(text); stored == nil {
		t.Errorf("no size of the store:\n%s", text)
	}
	n.Crictl(t, "rmi", "virtlet.cloud/slow")
}

// With the daemon and without.
func resolveImages(t *testing.T, n *node.Node) {
	n.Translate(t, "zz.yaml", "translations: [{regexp: '^debian/(.*)$', url: 'https://joe:secret@host/$1.qcow2', transport: slow}]\ntransports: {slow: {timeout: 5000, maxRedirects: 2}}\n")
	n.Translate(t, "broken.yaml", "translations: [")
	offline := []string{"--image-translation-dir=" + filepath.Join(n.Dir, "images.d")}
	for _, more := range [][]string{nil, offline} {
		out, _ := mustQemulet(t, n, append([]string{"image", "resolve", "virtlet.cloud/debian/12"}, more...)...)
		mentions(t, out, "https://host/12.qcow2", "rule:", "1 of "+filepath.Join(n.Dir, "images.d/zz.yaml"), `regexp "^debian/(.*)$"`, "slow", "at most 5s",
			"at most 2 redirects", "one.yaml", "another name", "broken.yaml")
		if strings.Contains(out, "secret") {
			t.Errorf("a password is shown: %s", out)
		}
		failsWith(t, n, []string{"none", "cannot be pulled"}, append([]string{"image", "resolve", "none"}, more...)...)
		failsWith(t, n, []string{"Upper"}, append([]string{"image", "resolve", "Upper"}, more...)...)
	}
	for _, command := range []string{"pull", "resolve"} {
		out, _ := mustQemulet(t, n, "__complete", "image", command, offline[0], "virtlet.cloud/te")
		mentions(t, out, "virtlet.cloud/team/three")
	}
}
