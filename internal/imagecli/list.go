package imagecli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/podrun"
)

// ListOptions say what List shows.
type ListOptions struct {
	Format Format
	// Digests adds a column.
	Digests bool
	// Quiet leaves only the ids.
	Quiet bool
}

// List writes a table of the images that go by these names, or of all.
func List(ctx context.Context, c *podrun.Client, names []string, o ListOptions, out io.Writer) error {
	found, err := find(ctx, c, names)
	if err != nil {
		return err
	}
	switch {
	case o.Format == JSON:
		return writeJSON(out, found)
	case o.Quiet:
		for _, img := range found {
			fmt.Fprintln(out, img.ID)
		}
		return nil
	case len(found) == 0:
		_, err := fmt.Fprintln(out, "there are no images; `qemulet image pull NAME` fetches one")
		return err
	}
	return table(out, found, o.Digests)
}

// find returns each image once. All of the names must be there.
func find(ctx context.Context, c *podrun.Client, names []string) ([]api.Image, error) {
	if len(names) == 0 {
		return ask(ctx, c, "")
	}
	all, seen := []api.Image{}, map[string]bool{}
	for _, name := range names {
		img, err := one(ctx, c, name)
		if err != nil {
			return nil, err
		}
		if !seen[img.ID] {
			seen[img.ID] = true
			all = append(all, img)
		}
	}
	return all, nil
}

func ask(ctx context.Context, c *podrun.Client, name string) ([]api.Image, error) {
	var found []api.Image
	if err := c.Call(ctx, http.MethodGet, api.ImagesPath, url.Values{"name": {name}}, &found); err != nil {
		return nil, fmt.Errorf("listing the images: %w", err)
	}
	return found, nil
}

// one returns the image that goes by the name, id or digest.
func one(ctx context.Context, c *podrun.Client, name string) (api.Image, error) {
	if name == "" {
		return api.Image{}, fmt.Errorf("an empty name is no image's")
	}
	found, err := ask(ctx, c, name)
	if err != nil {
		return api.Image{}, err
	}
	if len(found) == 0 {
		return api.Image{}, fmt.Errorf("image %q is not on this machine; `qemulet image ls` lists those that are", name)
	}
	return found[0], nil
}

const none = "<none>"

// table has a row for each name.
func table(out io.Writer, all []api.Image, digests bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	head := "NAME\tID\t"
	if digests {
		head += "DIGEST\t"
	}
	fmt.Fprintln(w, head+"SIZE\tVIRTUAL\tPULLED\tUSED BY")
	for _, img := range all {
		for _, name := range namesOf(img) {
			row := []string{name, shortID(img.ID)}
			if digests {
				row = append(row, digestPrefix+img.Digest)
			}
			row = append(row, podrun.Bytes(img.Size), virtual(img), podrun.Age(img.PulledAt.UnixNano())+" ago", users(img))
			fmt.Fprintln(w, strings.Join(row, "\t"))
		}
	}
	return w.Flush()
}

// namesOf are the names, or what stands for them in an image that has none.
func namesOf(img api.Image) []string {
	if len(img.Names) > 0 {
		return img.Names
	}
	if len(img.RepoDigests) > 0 {
		repo, _, _ := strings.Cut(img.RepoDigests[0], "@")
		return []string{repo + ":" + none}
	}
	return []string{none}
}

func virtual(img api.Image) string {
	if img.Damaged != "" {
		return "damaged"
	}
	return podrun.Bytes(img.VirtualSize)
}

func users(img api.Image) string {
	if len(img.UsedBy) == 0 {
		return "-"
	}
	return strings.Join(img.UsedBy, ", ")
}

const digestPrefix = "sha256:"

// shortID is as much of an id as people need.
func shortID(id string) string {
	id = strings.TrimPrefix(id, digestPrefix)
	return id[:min(len(id), 12)]
}
