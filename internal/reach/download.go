package reach

import (
	"context"
	"io"
	"net/http"
	"net/url"
)

// Download asks for what is no JSON and copies it to w. A refusal is a
// *RefusedError.
func (d *Daemon) Download(ctx context.Context, path string, query url.Values, w io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address(path, query), nil)
	if err != nil {
		return err
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return d.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(path, resp)
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return d.unreachable(ctx, err)
	}
	return nil
}
