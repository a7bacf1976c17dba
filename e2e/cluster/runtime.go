package cluster

import (
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/qemulet/qemulet/e2e/node"
)

// Guests are the images of VM pods: virtlet.cloud/NAME is the built guest NAME, fetched over https. slow-tiny is tiny on a very slow line.
var Guests = []string{"tiny", "tiny-9p", "debian"}

// startRuntime starts what the cluster is there to try: qemulet, and the proxy between kubelet and both runtimes.
func (c *Cluster) startRuntime(tb testing.TB) {
	tb.Helper()
	c.serveImages(tb)
	c.installDriver(tb)
	c.component("qemulet", []string{"SSL_CERT_FILE=" + c.Path("pki/images.crt"), "KUBE_NODE_NAME=" + NodeName}, program(tb, "qemulet"), "serve",
		"--run-dir", c.Path("q"), "--state-dir", c.Path("state"), "--cni-conf-dir", c.Path("cni"), "--cni-bin-dir", "/usr/lib/cni",
		"--kubelet-root-dir", c.Path("kubelet"), "--kubeconfig", c.Path("kubeconfig"), "--image-translation-dir", c.Path("images.d"),
		"--cgroup-driver", "cgroupfs", "--accel", "tcg", "--log-level", "debug").Start(tb)
	c.component("criproxy", nil, program(tb, "criproxy"), "-connect", c.ContainerdSocket()+",virtlet.cloud:"+c.VMSocket(),
		"-listen", c.ProxySocket(), "-state-dir", c.Path("criproxy")).Start(tb)
	for _, socket := range []string{c.VMSocket(), c.ProxySocket()} {
		eventually(tb, 30*time.Second, socket+" is served", func() error { return c.try(c.crictl(tb, socket, "version")...) })
	}
}

// VMSocket is where qemulet serves CRI, ProxySocket where kubelet connects.
func (c *Cluster) VMSocket() string    { return c.Path("q/cri.sock") }
func (c *Cluster) ProxySocket() string { return c.Path("criproxy.sock") }

// serveImages is the web server that guests come from, on the node's loopback.
func (c *Cluster) serveImages(tb testing.TB) {
	tb.Helper()
	files := http.NewServeMux()
	for _, guest := range Guests {
		path := node.Guest(tb, guest)
		files.HandleFunc("/"+guest+".qcow2", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, path) })
	}
	files.HandleFunc("/slow-tiny.qcow2", slowly(node.Guest(tb, "tiny")))
	c.web = httptest.NewUnstartedServer(files)
	c.web.Listener.Close()
	must(tb, node.InNamespace(c.netns(), func() (err error) {
		c.web.Listener, err = net.Listen("tcp", "127.0.0.1:443")
		return err
	}))
	c.web.Config.ErrorLog = log.New(io.Discard, "", 0)
	c.web.StartTLS()
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.web.Certificate().Raw})
	must(tb, os.WriteFile(c.Path("pki/images.crt"), certificate, 0o644))
	text := "translations:\n  - regexp: '^([a-z0-9-]+)(:latest)?$'\n    url: https://127.0.0.1/$1.qcow2\n"
	must(tb, os.WriteFile(c.Path("images.d/guests.yaml"), []byte(text), 0o644))
}

// slowly serves a file a little at a time, which takes some ten seconds.
func slowly(file string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		data, err := os.ReadFile(file)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for piece := range slices.Chunk(data, 128<<10) {
			w.Write(piece)
			w.(http.Flusher).Flush()
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	}
}

// installDriver puts the FlexVolume driver where kubelet looks for it.
func (c *Cluster) installDriver(tb testing.TB) {
	tb.Helper()
	dir := c.Path("flex/virtlet~flexvolume_driver")
	must(tb, os.MkdirAll(dir, 0o755))
	must(tb, os.WriteFile(filepath.Join(dir, "flexvolume_driver"), read(tb, program(tb, "flexvolume_driver")), 0o755))
}
