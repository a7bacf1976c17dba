package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
)

const (
	dataName   = "data"
	linksName  = "links"
	partPrefix = "part_"
)

// Store keeps images in a directory. All methods may be called concurrently.
type Store struct {
	opts           Options
	dataDir        string
	linksDir       string
	places         chan struct{} // one token per running download
	wg             sync.WaitGroup
	received       atomic.Int64 // bytes
	reportInterval time.Duration
	onStep         func(step string) // tests only: called between the steps of a change

	mu        sync.Mutex
	ix        *index // nil: read before use
	watch     *watch // of dataDir and linksDir
	checked   map[string]checked
	sources   map[string]source // nil: read before use
	downloads map[pullKey]*download
	held      map[string]int // digests that Acquire handed out, counted
	releases  uint64         // how often something held was released
	inUse     func() map[string]bool
	changed   *Rules // what SetRules set, nil before
	closed    bool
}

// checked is the answer of Options.Check about a data file.
type checked struct {
	format      string
	virtualSize int64
	err         error
}

// Open opens the store, creates what is missing, and removes part files that no
// process is writing. It does not read the images. The caller ends the store
// with Close.
func Open(o Options) (*Store, error) {
	if o.Dir == "" {
		return nil, fmt.Errorf("image store: no directory given: %w", errdefs.ErrInvalidArgument)
	}
	o.setDefaults()
	if err := checkProtocol(o.Protocol); err != nil {
		return nil, err
	}
	s := &Store{
		opts:           o,
		dataDir:        filepath.Join(o.Dir, dataName),
		linksDir:       filepath.Join(o.Dir, linksName),
		places:         make(chan struct{}, o.MaxParallel),
		checked:        map[string]checked{},
		downloads:      map[pullKey]*download{},
		held:           map[string]int{},
		reportInterval: reportInterval,
	}
	for _, dir := range []string{s.dataDir, s.linksDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("image store: %w", err)
		}
	}
	s.cleanParts()
	var err error
	if s.watch, err = newWatch(s.dataDir, s.linksDir); err != nil {
		o.Warn(fmt.Errorf("image store: changes are not told, so lists will take longer: %w", err))
	}
	return s, nil
}

// Close cancels all downloads and waits until their part files are gone.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	for _, d := range s.downloads {
		d.cancel(ErrClosed)
	}
	s.mu.Unlock()
	s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.watch
	s.watch = nil
	return w.close()
}

// Received is how many bytes downloads have brought since the store was opened,
// those that were thrown away included.
func (s *Store) Received() int64 { return s.received.Load() }

// SetInUse sets how the store asks which images VMs use: the answer holds the
// hex digests of their data, which are then never deleted. It is called without
// any lock of the store held. Until it is set the store deletes no data at all.
func (s *Store) SetInUse(inUse func() map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inUse = inUse
}

// List returns the image that filter names (see Get), or all images when filter
// is empty. A filter that matches nothing gives an empty list.
func (s *Store) List(_ context.Context, filter string) ([]Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ix, err := s.index()
	if err != nil {
		return nil, err
	}
	if filter == "" {
		return s.copies(ix.images), nil
	}
	img, err := ix.find(filter)
	if err != nil {
		return nil, nil
	}
	return s.copies([]Image{img}), nil
}

// Details is List with everything that is known of each image: it looks at the
// files that nobody asked about before.
func (s *Store) Details(ctx context.Context, filter string) ([]Image, error) {
	found, err := s.List(ctx, filter)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	origins := s.origins()
	s.mu.Unlock()
	for i, img := range found {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		found[i] = s.withCheck(img)
		found[i].Sources = origins[img.Digest]
	}
	return found, nil
}

// Get returns the image that goes by this id, digest, name (with or without
// Prefix and ":latest") or unique beginning of an id. The errors are
// errdefs.ErrNotFound and, for an ambiguous beginning, errdefs.ErrInvalidArgument.
func (s *Store) Get(_ context.Context, refOrID string) (Image, error) {
	s.mu.Lock()
	img, err := s.find(refOrID)
	s.mu.Unlock()
	if err != nil {
		return Image{}, err
	}
	return s.withCheck(img), nil
}

// Acquire is Get for somebody who is going to use the data: it is not deleted
// until release has been called, or longer if SetInUse's function names it by
// then. release may be called more than once.
func (s *Store) Acquire(_ context.Context, refOrID string) (_ Image, release func(), _ error) {
	s.mu.Lock()
	img, err := s.find(refOrID)
	if err == nil {
		s.held[img.Digest]++
	}
	s.mu.Unlock()
	if err != nil {
		return Image{}, nil, err
	}
	return s.withCheck(img), sync.OnceFunc(func() { s.release(img.Digest) }), nil
}

func (s *Store) release(hex string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.releases++
	if s.held[hex]--; s.held[hex] == 0 {
		delete(s.held, hex)
	}
}

// find needs s.mu.
func (s *Store) find(refOrID string) (Image, error) {
	ix, err := s.index()
	if err != nil {
		return Image{}, err
	}
	return ix.find(refOrID)
}

// index returns the store's contents, brought up to date with the directories.
// It needs s.mu.
func (s *Store) index() (*index, error) {
	data, links := s.watch.drain()
	if s.ix == nil {
		s.ix, data, links = newIndex(), changes{all: true}, changes{all: true}
	}
	if s.ix.tags == nil {
		s.ix.tags, s.ix.built = s.sentTags(), false
	}
	if err := s.ix.update(s.dataDir, s.linksDir, data, links); err != nil {
		s.ix = nil
		return nil, fmt.Errorf("image store: %w", err)
	}
	return s.ix, nil
}

// copies needs s.mu.
func (s *Store) copies(images []Image) []Image {
	out := make([]Image, len(images))
	for i, img := range images {
		c := s.checked[img.Digest]
		img.Format, img.VirtualSize, img.Damaged = c.format, c.virtualSize, c.err
		out[i] = img.clone()
	}
	return out
}

// withCheck fills in what Options.Check says. It looks at each file once.
func (s *Store) withCheck(img Image) Image {
	img = img.clone()
	s.mu.Lock()
	c, known := s.checked[img.Digest]
	s.mu.Unlock()
	if !known {
		c = s.checkFile(img.Path)
		// A file that vanished meanwhile says nothing about the next of that name.
		if !errors.Is(c.err, fs.ErrNotExist) {
			s.mu.Lock()
			s.checked[img.Digest] = c
			s.mu.Unlock()
		}
	}
	img.Format, img.VirtualSize, img.Damaged = c.format, c.virtualSize, c.err
	return img
}

func (s *Store) checkFile(path string) checked {
	f, err := os.Open(path)
	if err != nil {
		return checked{err: err}
	}
	defer f.Close()
	return s.check(f)
}

func (s *Store) check(f *os.File) checked {
	fi, err := f.Stat()
	if err != nil {
		return checked{err: err}
	}
	format, size, err := s.opts.Check(f, fi.Size())
	return checked{format: format, virtualSize: size, err: err}
}

func (s *Store) step(name string) {
	if s.onStep != nil {
		s.onStep(name)
	}
}
