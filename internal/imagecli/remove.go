package imagecli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/podrun"
)

// Remove removes images with all their names. One that a pod uses is refused
// unless force is set. A failure does not stop the others.
func Remove(ctx context.Context, c *podrun.Client, names []string, force bool, info io.Writer) error {
	var errs []error
	for _, name := range names {
		errs = append(errs, remove(ctx, c, name, force, info))
	}
	return errors.Join(errs...)
}

func remove(ctx context.Context, c *podrun.Client, name string, force bool, info io.Writer) error {
	img, err := one(ctx, c, name)
	if err != nil {
		return err
	}
	used := strings.Join(img.UsedBy, ", ")
	if used != "" && !force {
		return fmt.Errorf("image %q is used by the VM of %s: remove the pod first; --force takes the image off the list now, and frees it with the pod", name, used)
	}
	if _, err := c.Images.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: img.ID}}); err != nil {
		return c.RPCError(fmt.Sprintf("removing image %q", name), err)
	}
	what := "removed"
	if used != "" {
		what = "no longer listed, and freed with its last pod (" + used + "):"
	}
	fmt.Fprintf(info, "%s %s\n", what, title(img.Names, img.Digest))
	return nil
}

// title is how people know an image.
func title(names []string, digest string) string {
	if len(names) == 0 {
		return shortID(digest) + " (no name)"
	}
	return strings.Join(names, ", ")
}

// GCOptions are those of GC.
type GCOptions struct {
	// All adds the images that have a name and no VM.
	All bool
	// DryRun only tells.
	DryRun bool
	Format Format
}

// GC frees what no VM needs, and says what it was.
func GC(ctx context.Context, c *podrun.Client, o GCOptions, out io.Writer) error {
	freed, err := prune(ctx, c, o)
	if err != nil {
		return fmt.Errorf("freeing images: %w", err)
	}
	if o.Format == JSON {
		return writeJSON(out, freed)
	}
	verb := "freed"
	if o.DryRun {
		verb = "would free"
	}
	var total int64
	for _, f := range freed {
		total += f.Bytes
		fmt.Fprintf(out, "%s %s, %s\n", verb, title(f.Names, f.Digest), podrun.Bytes(f.Bytes))
	}
	switch {
	case len(freed) > 0:
		fmt.Fprintf(out, "%s %s in all\n", verb, podrun.Bytes(total))
	case o.All:
		fmt.Fprintln(out, "nothing to free: VMs use all images")
	default:
		fmt.Fprintln(out, "nothing to free; --all takes also the images that have a name and no VM")
	}
	return nil
}

func prune(ctx context.Context, c *podrun.Client, o GCOptions) ([]api.Freed, error) {
	var freed []api.Freed
	err := c.Call(ctx, "POST", api.PrunePath, map[string][]string{
		"unused": {fmt.Sprint(o.All)}, "dry-run": {fmt.Sprint(o.DryRun)},
	}, &freed)
	return freed, err
}
