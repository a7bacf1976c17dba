package imagecli

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/podrun"
)

// Inspect writes all that is known of the images.
func Inspect(ctx context.Context, c *podrun.Client, names []string, f Format, out io.Writer) error {
	found, err := find(ctx, c, names)
	if err != nil {
		return err
	}
	if f == JSON {
		return writeJSON(out, found)
	}
	for i, img := range found {
		if i > 0 {
			fmt.Fprintln(out)
		}
		if err := describe(out, img); err != nil {
			return err
		}
	}
	return nil
}

func describe(out io.Writer, img api.Image) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	field := func(name string, values ...string) {
		if len(values) == 0 {
			values = []string{"-"}
		}
		for _, v := range values {
			fmt.Fprintf(w, "%s\t%s\n", name, v)
			name = ""
		}
	}
	field("Id:", img.ID)
	field("Names:", img.Names...)
	field("Digests:", img.RepoDigests...)
	field("File:", img.Path)
	field("Size:", size(img.Size))
	if img.Damaged != "" {
		field("DAMAGED:", img.Damaged)
	} else {
		field("Format:", img.Format)
		field("Virtual size:", size(img.VirtualSize))
	}
	field("Fetched from:", img.Sources...)
	field("Pulled:", img.PulledAt.Local().Format(time.DateTime)+", "+podrun.Age(img.PulledAt.UnixNano())+" ago")
	field("Used by:", img.UsedBy...)
	return w.Flush()
}

func size(n int64) string { return fmt.Sprintf("%s (%d bytes)", podrun.Bytes(n), n) }
