package podrun

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// pull makes sure that the image is there and returns its id.
func (r *runner) pull(ctx context.Context) (string, error) {
	c := &r.m.Pod.Spec.Containers[0]
	spec := &runtimeapi.ImageSpec{Image: c.Image, UserSpecifiedImage: c.Image}
	if c.ImagePullPolicy != corev1.PullAlways {
		resp, err := r.Images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: spec})
		if err != nil {
			return "", rpcError("looking for the image", err)
		}
		if image := resp.GetImage(); image != nil {
			return image.Id, nil
		}
	}
	if c.ImagePullPolicy == corev1.PullNever {
		return "", fmt.Errorf("image %s is not on this machine, and imagePullPolicy is Never", c.Image)
	}
	return r.PullImage(ctx, spec, r.Err)
}

// PullImage pulls an image, shows the progress on out, and returns its id.
func (c *Client) PullImage(ctx context.Context, spec *runtimeapi.ImageSpec, out io.Writer) (string, error) {
	type result struct {
		id  string
		err error
	}
	done := make(chan result, 1)
	go func() {
		resp, err := c.Images.PullImage(ctx, &runtimeapi.PullImageRequest{Image: spec})
		done <- result{resp.GetImageRef(), err}
	}()
	p := &progress{image: spec.Image, out: out}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case res := <-done:
			p.end(res.err == nil)
			if res.err != nil {
				return "", rpcError("pulling the image", res.err)
			}
			return res.id, nil
		case <-tick.C:
			p.show(c.download(ctx, spec.Image))
		}
	}
}

// Pull is a running download as the api socket tells it.
type Pull struct {
	Ref          string
	URL          string
	Waiting      bool
	Bytes, Total int64 // Total is -1 when it is not known
	Rate         float64
}

// download finds the image's running download; nil when there is none, or the
// daemon does not tell.
func (c *Client) download(ctx context.Context, image string) *Pull {
	var pulls []Pull
	if err := c.getJSON(ctx, "/v1/pulls", &pulls); err != nil {
		return nil
	}
	bare := func(name string) string {
		return strings.TrimSuffix(strings.TrimPrefix(name, imagePrefix), ":latest")
	}
	for i := range pulls {
		if bare(pulls[i].Ref) == bare(image) {
			return &pulls[i]
		}
	}
	return nil
}

// progress draws a bar on a terminal, and elsewhere prints a line now and then.
type progress struct {
	image string
	out   io.Writer
	drawn bool
	last  time.Time
}

const (
	barWidth    = 30
	lineSeconds = 5
)

func (p *progress) show(d *Pull) {
	if d == nil {
		return
	}
	if f, ok := p.out.(*os.File); ok && IsTerminal(f) {
		p.drawn = true
		fmt.Fprintf(p.out, "\r\x1b[Kpulling %s  %s", p.image, bar(d))
		return
	}
	if time.Since(p.last) >= lineSeconds*time.Second {
		p.last = time.Now()
		fmt.Fprintf(p.out, "pulling %s  %s\n", p.image, amount(d))
	}
}

func (p *progress) end(ok bool) {
	if p.drawn {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
	if ok {
		fmt.Fprintf(p.out, "pulled %s\n", p.image)
	}
}

func bar(d *Pull) string {
	if d.Total <= 0 {
		return amount(d)
	}
	full := int(min(d.Bytes*barWidth/d.Total, barWidth))
	return fmt.Sprintf("[%s%s] %3d%%  %s", strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), d.Bytes*100/d.Total, amount(d))
}

func amount(d *Pull) string {
	switch {
	case d.Waiting:
		return "waits for other downloads"
	case d.Total > 0:
		return fmt.Sprintf("%s of %s, %s/s", bytesText(d.Bytes), bytesText(d.Total), bytesText(int64(d.Rate)))
	}
	return fmt.Sprintf("%s, %s/s", bytesText(d.Bytes), bytesText(int64(d.Rate)))
}

// bytesText writes a size for people.
func bytesText(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, i := float64(n)/unit, 0
	for value >= unit && i < 3 {
		value, i = value/unit, i+1
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGT"[i])
}
