package podrun

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/terminal"
)

// pull makes sure that the image is there and returns its id.
// An interruption ends it.
func (r *runner) pull(ctx context.Context) (string, error) {
	ctx, cancel := r.untilInterrupted(ctx)
	defer cancel()
	c := &r.m.Pod.Spec.Containers[0]
	spec := &runtimeapi.ImageSpec{Image: c.Image, UserSpecifiedImage: c.Image}
	if c.ImagePullPolicy != corev1.PullAlways {
		resp, err := r.Images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: spec})
		if err != nil {
			return "", r.RPCError("looking for the image", err)
		}
		if image := resp.GetImage(); image != nil {
			return image.Id, nil
		}
	}
	if c.ImagePullPolicy == corev1.PullNever {
		return "", fmt.Errorf("image %s is not on this machine, and imagePullPolicy is Never", c.Image)
	}
	return r.PullImage(ctx, &runtimeapi.PullImageRequest{Image: spec}, r.Err)
}

func (r *runner) untilInterrupted(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-r.Interrupted:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// PullImage pulls an image, shows the progress on out, and returns its id.
func (c *Client) PullImage(ctx context.Context, req *runtimeapi.PullImageRequest, out io.Writer) (string, error) {
	type result struct {
		id  string
		err error
	}
	done := make(chan result, 1)
	go func() {
		resp, err := c.Images.PullImage(ctx, req)
		done <- result{resp.GetImageRef(), err}
	}()
	name := req.GetImage().GetImage()
	p := &progress{image: name, out: out}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case res := <-done:
			p.end(res.err == nil)
			if res.err != nil {
				return "", c.pullError(res.err)
			}
			return res.id, nil
		case <-tick.C:
			p.show(c.download(ctx, name))
		}
	}
}

// pullError adds how an image is found to the error of one that is not there.
func (c *Client) pullError(err error) error {
	if status.Code(err) != codes.NotFound {
		return c.RPCError("pulling the image", err)
	}
	return fmt.Errorf("%w (behind %s stands a name of the image translations, see --image-translation-dir, or the address of a file without its https://)",
		c.RPCError("pulling the image", err), imagePrefix)
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
	if err := c.Call(ctx, http.MethodGet, "/v1/pulls", nil, &pulls); err != nil {
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

const lineInterval = 5 * time.Second

func (p *progress) show(d *Pull) {
	if d == nil {
		return
	}
	if terminal.IsWriterTerminal(p.out) {
		p.drawn = true
		fmt.Fprint(p.out, "\r\x1b[K"+bar("pulling "+p.image, d, terminal.Width(p.out)-1))
		return
	}
	if time.Since(p.last) >= lineInterval {
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

const (
	widestBar    = 30
	narrowestBar = 5
)

// bar is one line of at most width columns; a longer one would wrap, and could
// not be drawn over.
func bar(title string, d *Pull, width int) string {
	line := title + "  " + amount(d)
	if d.Total > 0 && !d.Waiting {
		percent := fmt.Sprintf("%3d%%  %s", min(d.Bytes*100/d.Total, 100), amount(d))
		line = title + "  " + percent
		if room := int64(min(width-len(line)-len("[] "), widestBar)); room >= narrowestBar {
			full := min(d.Bytes*room/d.Total, room)
			line = fmt.Sprintf("%s  [%s%s] %s", title, strings.Repeat("=", int(full)), strings.Repeat(" ", int(room-full)), percent)
		}
	}
	return line[:min(len(line), max(width, 0))]
}

func amount(d *Pull) string {
	switch {
	case d.Waiting:
		return "waits for other downloads"
	case d.Total > 0:
		return fmt.Sprintf("%s of %s, %s/s", Bytes(d.Bytes), Bytes(d.Total), Bytes(int64(d.Rate)))
	}
	return fmt.Sprintf("%s, %s/s", Bytes(d.Bytes), Bytes(int64(d.Rate)))
}

// Bytes writes a size for people, in the unit that fits.
func Bytes(n int64) string {
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
