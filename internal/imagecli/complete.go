package imagecli

import (
	"context"
	"slices"
	"strings"

	"github.com/qemulet/qemulet/internal/images"
	"github.com/qemulet/qemulet/internal/podrun"
)

// Stored returns the names of stored images that begin so; what goes wrong is an
// empty list, for a shell has no use for errors.
func Stored(ctx context.Context, c *podrun.Client, start string) []string {
	all, err := ask(ctx, c, "")
	if err != nil {
		return nil
	}
	var names []string
	for _, img := range all {
		names = append(names, img.Names...)
	}
	return beginning(names, start)
}

// Translated returns the names that translations have rules for and that begin
// so. A rule with a regexp is for names that nobody can list.
func Translated(ctx context.Context, o images.Options, start string) []string {
	var names []string
	for _, n := range images.TranslatedNames(ctx, o) {
		names = append(names, images.Prefix+n)
	}
	return beginning(names, start)
}

func beginning(names []string, start string) []string {
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, start) })
	slices.Sort(names)
	return slices.Compact(names)
}
