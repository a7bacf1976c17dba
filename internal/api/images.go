package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/internal/images"
)

const (
	// ImagesPath answers GET with a JSON array of Image: all, or, with ?name=,
	// the one that goes by this id, digest, name or unique beginning of an id.
	ImagesPath = "/v1/images"
	// PrunePath answers POST with a JSON array of Freed. ?unused=true frees also
	// what has a name, and ?dry-run=true only tells.
	PrunePath = "/v1/images/prune"
	// ResolvePath answers GET with ?name= with a Resolution.
	ResolvePath = "/v1/images/resolve"
)

// Image is a stored image, with what CRI has no field for.
type Image struct {
	ID          string   `json:"id"`
	Digest      string   `json:"digest"`
	Names       []string `json:"names"`
	RepoDigests []string `json:"repoDigests"`
	// Format is QEMU's name of the file's format: qcow2, raw.
	Format string `json:"format"`
	// Size is what the file occupies, VirtualSize the length of the guest's disk, in bytes.
	Size        int64 `json:"size"`
	VirtualSize int64 `json:"virtualSize"`
	// Sources are the URLs that it was fetched from, without what may be secret;
	// none when that is not known.
	Sources []string `json:"sources"`
	// Damaged says why the file cannot be used, "" for one that can.
	Damaged string `json:"damaged,omitempty"`
	// Path is the file.
	Path     string    `json:"path"`
	PulledAt time.Time `json:"pulledAt"`
	// UsedBy are the pods whose disks stand on it, as namespace/name.
	UsedBy []string `json:"usedBy"`
}

// Freed is an image that was deleted, or would be.
type Freed struct {
	Digest string   `json:"digest"`
	Names  []string `json:"names"`
	// Bytes are what it occupied on the disk.
	Bytes int64 `json:"bytes"`
}

// Store is the image store; *images.Store implements it.
type Store interface {
	Details(ctx context.Context, filter string) ([]images.Image, error)
	Prune(ctx context.Context, o images.PruneOptions) ([]images.Freed, error)
	Explain(ctx context.Context, ref string) (images.Explanation, error)
	Downloads() []images.Download
}

func (o Options) images(r *http.Request) (any, error) {
	found, err := o.Images.Details(r.Context(), r.URL.Query().Get("name"))
	if err != nil {
		return nil, err
	}
	users := o.ImageUsers()
	all := make([]Image, 0, len(found))
	for _, img := range found {
		all = append(all, NewImage(img, users[img.Digest]))
	}
	return all, nil
}

// NewImage writes an image for people and programs. users are the pods whose disks
// stand on it.
func NewImage(img images.Image, users []string) Image {
	i := Image{
		ID: img.ID, Digest: img.Digest, Names: some(img.Names), RepoDigests: some(img.RepoDigests),
		Format: img.Format, Size: img.Size, VirtualSize: img.VirtualSize, Sources: some(img.Sources),
		Path: img.Path, PulledAt: img.PulledAt, UsedBy: some(users),
	}
	if img.Damaged != nil {
		i.Damaged = img.Damaged.Error()
	}
	return i
}

// some makes an array of JSON, where null would be another thing.
func some(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func (o Options) prune(r *http.Request) (any, error) {
	var prune images.PruneOptions
	for name, value := range map[string]*bool{"unused": &prune.Unused, "dry-run": &prune.DryRun} {
		text := r.URL.Query().Get(name)
		if text == "" {
			continue
		}
		var err error
		if *value, err = strconv.ParseBool(text); err != nil {
			return nil, badRequest(name + "=" + text + ": true and false are accepted")
		}
	}
	freed, err := o.Images.Prune(r.Context(), prune)
	if err != nil {
		return nil, err
	}
	all := make([]Freed, 0, len(freed))
	for _, f := range freed {
		all = append(all, Freed{Digest: f.Digest, Names: some(f.Names), Bytes: f.Bytes})
	}
	return all, nil
}

func (o Options) resolve(r *http.Request) (any, error) {
	e, err := o.Images.Explain(r.Context(), r.URL.Query().Get("name"))
	if err != nil {
		return nil, err
	}
	return NewResolution(e), nil
}

type badRequest string

func (e badRequest) Error() string { return string(e) }

// Is makes it an errdefs.ErrInvalidArgument.
func (e badRequest) Is(target error) bool { return target == errdefs.ErrInvalidArgument }

// answer serves a function's result as JSON, and its error as text.
func answer(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		what, err := f(r)
		if err != nil {
			http.Error(w, err.Error(), code(err))
			return
		}
		reply(w, what)
	}
}

func code(err error) int {
	switch {
	case errdefs.IsInvalidArgument(err):
		return http.StatusBadRequest
	case errdefs.IsNotFound(err):
		return http.StatusNotFound
	case errdefs.IsFailedPrecondition(err):
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}
