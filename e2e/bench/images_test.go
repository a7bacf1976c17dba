package bench

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

const storedImages = 1000

// BenchmarkImages measures how long a list of many images takes, which kubelet asks for every half a minute: of a
// store that rests, and of one in which a link has just changed.
func BenchmarkImages(b *testing.B) {
	n := node.Start(b, node.Options{Args: []string{"--log-level", "info"}})
	links := fillStore(b, filepath.Join(n.Dir, "state/images"))
	listImages(b, n)
	var rested, changed samples
	for i := range listings {
		rested.addTime(listImages(b, n))
		a, c := filepath.Join(links, "moving"), filepath.Join(links, "moved")
		if i%2 == 1 {
			a, c = c, a
		}
		must(b, os.Rename(a, c))
		changed.addTime(listImages(b, n))
	}
	var version samples
	for range listings {
		version.addTime(timed(b, func() error {
			_, err := n.Runtime.Version(context.Background(), &runtimeapi.VersionRequest{})
			return err
		}))
	}
	r := row{what: fmt.Sprintf("ListImages over %d images", storedImages), unit: "ms", measured: rested, baseline: version, beside: "Version", goal: goal{value: 5}}
	r.report(b)
	r.what, r.measured = r.what+", a link just changed", changed
	r.report(b)
	r.metric(b, "list")
}

func listImages(b *testing.B, n *node.Node) time.Duration {
	b.Helper()
	return timed(b, func() error {
		r, err := n.Images.ListImages(context.Background(), &runtimeapi.ListImagesRequest{})
		if err == nil && len(r.Images) != storedImages {
			err = fmt.Errorf("%d images are listed, expected %d", len(r.Images), storedImages)
		}
		return err
	})
}

// fillStore makes images as an old node has them, and returns the directory of the links.
func fillStore(b *testing.B, dir string) (links string) {
	b.Helper()
	links = filepath.Join(dir, "links")
	for i := range storedImages {
		content := []byte(fmt.Sprintf("image %d", i))
		sum := sha256.Sum256(content)
		digest, name := hex.EncodeToString(sum[:]), fmt.Sprintf("example.com%%images%%vm-%04d", i)
		if i == 0 {
			name = "moving"
		}
		must(b, os.WriteFile(filepath.Join(dir, "data", digest), content, 0o400))
		must(b, os.Symlink("../data/"+digest, filepath.Join(links, name)))
	}
	return links
}
