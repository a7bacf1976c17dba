package criproxy

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/ids"
)

// kind names what the VM runtime has lists of.
type kind string

const (
	sandboxes      kind = "sandboxes"
	containers     kind = "containers"
	images         kind = "images"
	containerStats kind = "container-stats"
	sandboxStats   kind = "sandbox-stats"
	sandboxMetrics kind = "sandbox-metrics"
	descriptors    kind = "metric-descriptors"
	foreignIDs     kind = "foreign-ids" // ids of the primary's that look like the VM runtime's
)

// lasting are the kinds that survive the proxy: kubelet believes that what is
// not in a list is gone.
var lasting = []kind{sandboxes, containers, images, descriptors, foreignIDs}

// known is what the VM runtime answered last, which stands in while it is
// away. All of it is answers to lists, encoded. Calls are routed by it, so mu
// is never held while a disk works.
type known struct {
	log *slog.Logger
	dir string // "" keeps nothing

	mu    sync.Mutex
	lists map[kind][]byte
	// changes counts what was changed beside lists: a list that was asked for
	// before a change must not undo it.
	changes uint64

	keeper keeper
}

// openKnown reads what an earlier proxy has left in a directory.
func openKnown(dir string, log *slog.Logger) (*known, error) {
	k := &known{log: log, dir: dir, lists: map[kind][]byte{}}
	if dir == "" {
		return k, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for _, of := range lasting {
		raw, err := os.ReadFile(k.path(of))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		k.lists[of] = raw
	}
	k.keeper.start(k)
	return k, nil
}

// close writes what is not written yet. Nothing is kept afterwards.
func (k *known) close() { k.keeper.stop() }

func (k *known) path(of kind) string { return filepath.Join(k.dir, string(of)+".pb") }

// asked is called before a list is asked for; what it returns goes to learn.
func (k *known) asked() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.changes
}

// learn takes a whole list. It is written in the background: a list is asked
// for again and again, and does not wait for a disk.
func (k *known) learn(of kind, list []byte, asked uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if asked != k.changes || bytes.Equal(k.lists[of], list) {
		return
	}
	k.lists[of] = list
	k.keeper.later(of)
}

// list is what was answered last.
func (k *known) list(of kind) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lists[of]
}

// add takes one more item, as its list would have it.
func (k *known) add(of kind, item proto.Message) {
	raw, err := proto.Marshal(item)
	if err != nil {
		return // it came over the wire
	}
	k.edit(of, func(list []byte) []byte { return appendItem(slices.Clone(list), raw) })
}

// change rebuilds a list from its items; f returns an item's new encoding, or
// nil to drop it.
func (k *known) change(of kind, f func(item []byte) []byte) {
	k.edit(of, func(old []byte) (list []byte) {
		for _, item := range items(old) {
			if item = f(item); item != nil {
				list = appendItem(list, item)
			}
		}
		return list
	})
}

// edit changes a list, and returns when that is on disk: the call that it comes
// of is answered afterwards, and then the change must outlive this proxy.
func (k *known) edit(of kind, f func(list []byte) []byte) {
	k.mu.Lock()
	k.changes++
	k.lists[of] = f(k.lists[of])
	k.mu.Unlock()
	k.keeper.write(of)
}

// has tells whether an item of that id is known.
func (k *known) has(of kind, id string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.ContainsFunc(items(k.lists[of]), func(item []byte) bool { return itemID(item) == id })
}

// itemID is the id of a sandbox, a container or an image: field 1 in all.
func itemID(item []byte) string { return string(field(item, 1)) }

// foreign tells whether an id that looks like the VM runtime's is the
// primary's, which draws its ids at random.
func (k *known) foreign(id string) bool { return k.has(foreignIDs, id) }

// primaryMade takes an id that the primary has given. One in 2^32 looks like
// the VM runtime's.
func (k *known) primaryMade(id string) {
	if strings.HasPrefix(id, ids.Lead) {
		k.add(foreignIDs, &runtimeapi.Container{Id: id})
	}
}

// forget drops an item.
func (k *known) forget(of kind, id string) {
	k.change(of, func(item []byte) []byte {
		if itemID(item) == id {
			return nil
		}
		return item
	})
}
