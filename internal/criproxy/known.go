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
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/changes"
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
	// counter is the file in which the VM runtime counts its changes.
	counter string
	told    map[kind]asking

	keeper keeper
}

// asking is the state of things when a list was asked for.
type asking struct {
	at      time.Time
	changes uint64
	counted uint64 // by the VM runtime; 0 if it does not count
}

// trust is how long a list is believed on the word of the VM runtime's counter,
// in case that fails to count.
const trust = 5 * time.Second

// openKnown reads what an earlier proxy has left in a directory. The counter
// is the file in which the VM runtime counts its changes.
func openKnown(dir, counter string, log *slog.Logger) (*known, error) {
	k := &known{log: log, dir: dir, lists: map[kind][]byte{}, counter: counter, told: map[kind]asking{}}
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
func (k *known) asked() asking {
	counted, err := changes.Read(k.counter)
	if err != nil {
		counted = 0
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return asking{at: time.Now(), changes: k.changes, counted: counted}
}

// current returns a list that need not be asked for, for the VM runtime has
// changed nothing since it told of it. Only what it counts changes of is there:
// sandboxes and containers.
func (k *known) current(of kind) ([]byte, bool) {
	if of != sandboxes && of != containers {
		return nil, false
	}
	now := k.asked()
	k.mu.Lock()
	defer k.mu.Unlock()
	told, ok := k.told[of]
	if !ok || now.counted == 0 || told.counted != now.counted || told.changes != k.changes || now.at.Sub(told.at) > trust {
		return nil, false
	}
	return k.lists[of], true
}

// learn takes a whole list. It is written in the background: a list is asked
// for again and again, and does not wait for a disk.
func (k *known) learn(of kind, list []byte, asked asking) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if asked.changes != k.changes {
		return
	}
	k.told[of] = asked
	if bytes.Equal(k.lists[of], list) {
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
