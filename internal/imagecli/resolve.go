package imagecli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/images"
	"github.com/qemulet/qemulet/internal/podrun"
)

// Resolver says where an image would come from.
type Resolver func(ctx context.Context, name string) (api.Resolution, error)

// Daemon lets a daemon answer, which knows its own settings.
func Daemon(c *podrun.Client) Resolver {
	return func(ctx context.Context, name string) (r api.Resolution, err error) {
		err = c.Call(ctx, http.MethodGet, api.ResolvePath, url.Values{"name": {name}}, &r)
		return r, err
	}
}

// Settings answers without a daemon.
func Settings(o images.Options) Resolver {
	return func(ctx context.Context, name string) (api.Resolution, error) {
		e, err := images.Explain(ctx, name, o)
		if err != nil {
			return api.Resolution{}, err
		}
		return api.NewResolution(e), nil
	}
}

// Resolve writes where the images would come from, and why. The error says so
// when one of them cannot be fetched at all.
func Resolve(ctx context.Context, resolve Resolver, names []string, f Format, out io.Writer) error {
	all := []api.Resolution{}
	for _, name := range names {
		r, err := resolve(ctx, name)
		if err != nil {
			return err
		}
		all = append(all, r)
	}
	if f == JSON {
		return writeJSON(out, all)
	}
	for i, r := range all {
		if i > 0 {
			fmt.Fprintln(out)
		}
		if err := explain(out, r); err != nil {
			return err
		}
	}
	for _, r := range all {
		if r.Error != "" {
			return fmt.Errorf("image %s cannot be pulled: %s", r.Name, r.Error)
		}
	}
	return nil
}

func explain(out io.Writer, r api.Resolution) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	lines := func(head string, values []string) {
		for _, v := range values {
			fmt.Fprintf(w, "%s\t%s\n", head, v)
			head = ""
		}
	}
	lines("Name:", []string{r.Name})
	lines("URL:", []string{cmp.Or(r.URL, "none")})
	rule, transport := "none matches, so the name is the URL", "plain defaults"
	if r.URL == "" {
		rule = "none matches"
	}
	if r.Source != "" {
		rule = fmt.Sprintf("%d of %s, %s", r.Rule, r.Source, r.Pattern)
		transport = cmp.Or(r.Transport, "the default one")
	}
	lines("Rule:", []string{rule})
	lines("Transport:", append([]string{transport}, r.Settings...))
	lines("Checksum:", orNone(r.Checks, "none is demanded"))
	lines("No match:", steps(r.Steps))
	lines("Problems:", r.Problems)
	return w.Flush()
}

func orNone(list []string, otherwise string) []string {
	if len(list) == 0 {
		return []string{otherwise}
	}
	return list
}

func steps(all []api.Step) []string {
	var lines []string
	for _, s := range all {
		what := s.Source
		if s.Rule > 0 {
			what = fmt.Sprintf("rule %d of %s, %s", s.Rule, s.Source, s.Pattern)
		}
		lines = append(lines, what+": "+s.Why)
	}
	return lines
}
