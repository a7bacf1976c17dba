package api

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
)

// Debug is what people who debug VMs have of them, by the names of their pods.
// Errors have the classes of errdefs.
type Debug interface {
	// Monitor returns what serves QMP to a client. writes lets it do more than look.
	Monitor(ctx context.Context, namespace, name string, writes bool) (func(context.Context, net.Conn), error)
	// VNC connects to the display, which speaks RFB.
	VNC(ctx context.Context, namespace, name string) (net.Conn, error)
	// Screenshot writes a PNG.
	Screenshot(ctx context.Context, namespace, name string, w io.Writer) error
}

// The paths below VMPath. MonitorPath is a stream of QMP, with ?writes=true one for
// commands that do more than look; VNCPath is one of RFB; ScreenshotPath answers
// GET with a PNG.
const (
	MonitorPath    = "qmp"
	VNCPath        = "vnc"
	ScreenshotPath = "screenshot"
)

func (o Options) routeDebug(mux *http.ServeMux) {
	const pod = "GET " + VMsPath + "/{namespace}/{name}/"
	mux.HandleFunc(pod+MonitorPath, serveStream(o.monitor))
	mux.HandleFunc(pod+VNCPath, serveStream(o.vnc))
	mux.HandleFunc(pod+ScreenshotPath, o.screenshot)
}

func (o Options) monitor(r *http.Request) (func(context.Context, *Stream), error) {
	var writes bool
	if text := r.URL.Query().Get("writes"); text != "" {
		var err error
		if writes, err = strconv.ParseBool(text); err != nil {
			return nil, badRequest("writes=" + text + ": true and false are accepted")
		}
	}
	serve, err := o.Debug.Monitor(r.Context(), r.PathValue("namespace"), r.PathValue("name"), writes)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, s *Stream) { serve(ctx, s) }, nil
}

func (o Options) vnc(r *http.Request) (func(context.Context, *Stream), error) {
	display, err := o.Debug.VNC(r.Context(), r.PathValue("namespace"), r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, s *Stream) { s.join(ctx, display) }, nil
}

func (o Options) screenshot(w http.ResponseWriter, r *http.Request) {
	var picture bytes.Buffer
	if err := o.Debug.Screenshot(r.Context(), r.PathValue("namespace"), r.PathValue("name"), &picture); err != nil {
		http.Error(w, err.Error(), code(err))
		return
	}
	w.Header().Set("Content-Type", "image/png")
	_, _ = picture.WriteTo(w) // a client that has left needs no picture
}
