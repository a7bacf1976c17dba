// Package api is the daemon's own HTTP interface, on a unix socket beside
// CRI's. It serves what CRI has no call for (the VMs as people want to know them,
// the progress of pulls, the details of images, metrics), and the same sessions
// that kubelet reaches over TCP, so that a program on the node can attach without
// sharing the daemon's network.
package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/qemulet/qemulet/internal/images"
)

// PullsPath answers GET with a JSON array of Pull.
const PullsPath = "/v1/pulls"

// Pull is a running download of an image.
type Pull struct {
	// Ref is the image's name, with its tag or digest.
	Ref string `json:"ref"`
	// URL is where it comes from, without credentials; empty until that is known.
	URL string `json:"url,omitempty"`
	// Waiting is true until it is this one's turn.
	Waiting bool `json:"waiting,omitempty"`
	// Bytes have arrived out of Total; Total is -1 while not known.
	Bytes int64 `json:"bytes"`
	Total int64 `json:"total"`
	// Started is when it was asked for.
	Started time.Time `json:"started"`
	// Rate is the recent speed in bytes per second.
	Rate float64 `json:"rate"`
}

// Options are what the interface answers from.
type Options struct {
	// Images is the image store.
	Images Store
	// Machines are the VMs.
	Machines Machines
	// Debug is for people who debug VMs.
	Debug Debug
	// Diagnose tells all that there is to know of the node.
	Diagnose func(context.Context) Diagnosis
	// ImageUsers tells which pods use which images: by digest, the pods as
	// namespace/name.
	ImageUsers func() map[string][]string
	// Settings tells those in force.
	Settings func() Settings
	// Metrics serves GET /metrics in Prometheus' text format.
	Metrics http.Handler
	// Sessions serves the URLs that CRI's Attach and PortForward return, below
	// /attach/ and /portforward/.
	Sessions http.Handler
}

// Handler makes the interface.
func Handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+PullsPath, func(w http.ResponseWriter, _ *http.Request) {
		reply(w, pulls(o.Images.Downloads()))
	})
	mux.HandleFunc("GET "+ImagesPath, answer(o.images))
	mux.HandleFunc("POST "+PrunePath, answer(o.prune))
	mux.HandleFunc("GET "+ResolvePath, answer(o.resolve))
	o.routeVMs(mux)
	mux.HandleFunc("GET "+SettingsPath, func(w http.ResponseWriter, _ *http.Request) { reply(w, o.Settings()) })
	o.routeDebug(mux)
	mux.HandleFunc("GET "+DiagPath, func(w http.ResponseWriter, r *http.Request) { reply(w, o.Diagnose(r.Context())) })
	mux.Handle("GET /metrics", o.Metrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.Handle("/attach/", o.Sessions)
	mux.Handle("/portforward/", o.Sessions)
	return mux
}

// MetricsOnly serves GET /metrics and nothing else, for those who are let in from
// other machines.
func MetricsOnly(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	return mux
}

func pulls(running []images.Download) []Pull {
	all := make([]Pull, 0, len(running))
	for _, d := range running {
		all = append(all, Pull{
			Ref: d.Ref, URL: d.URL, Waiting: d.Waiting,
			Bytes: d.Bytes, Total: d.Total, Started: d.Started, Rate: d.Rate,
		})
	}
	return all
}

func reply(w http.ResponseWriter, what any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(what) // a client that has left needs no answer
}
