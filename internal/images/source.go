package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	sourcesName = "sources.json"
	// dateSettled is how old a Last-Modified must be to stand for the very
	// bytes: RFC 9110, 8.8.2.2 leaves it to us, its predecessor said a minute.
	dateSettled = time.Minute
)

// source is what a server said about the content that a digest stands for. The
// store remembers it per URL, so that a pull of an unchanged image, which
// kubelet asks for with each pod whose tag is "latest", moves no data.
// The file is a cache: losing it costs a download.
type source struct {
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"lastModified,omitempty"`
	Digest       string `json:"digest"`
	// URL is for people: without what may be secret.
	URL string `json:"url,omitempty"`
	// Sent are the digests of what the content came in: see arrival.
	Sent []string `json:"sent,omitempty"`
	// Name is the key of a tag that was pulled so, when this is not about a URL:
	// several tags may have one URL.
	Name string `json:"name,omitempty"`
}

// sourceOf keeps what identifies the very bytes: strong ETags, settled dates.
func sourceOf(h http.Header) source {
	var s source
	if tag := h.Get("ETag"); strings.HasPrefix(tag, `"`) {
		s.ETag = tag
	}
	modified, err := http.ParseTime(h.Get("Last-Modified"))
	if err != nil {
		return s
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err == nil && now.Sub(modified) >= dateSettled {
		s.LastModified = h.Get("Last-Modified")
	}
	return s
}

// validator returns what If-Range takes, or "".
func (s source) validator() string {
	if s.ETag != "" {
		return s.ETag
	}
	return s.LastModified
}

// condition asks for the content only if it has changed.
func (s source) condition(h http.Header) {
	switch {
	case s.Digest == "":
	case s.ETag != "":
		h.Set("If-None-Match", s.ETag)
	case s.LastModified != "":
		h.Set("If-Modified-Since", s.LastModified)
	}
}

// sourceKey stands for a URL that may hold secrets.
func sourceKey(url string) string {
	sum := sha256.Sum256([]byte(url))
	return hex.EncodeToString(sum[:])
}

// source returns what is known about a URL if the content is still stored.
func (s *Store) source(url string) source {
	s.mu.Lock()
	defer s.mu.Unlock()
	src := s.loadSources()[sourceKey(url)]
	ix, err := s.index()
	if err != nil || ix.data[src.Digest].size == 0 || s.checked[src.Digest].err != nil {
		return source{}
	}
	return src
}

// linkKnown gives the name to the stored content that this digest stands for, if
// there is such: its own, one of what it came in, or one that it was pulled by.
func (s *Store) linkKnown(ctx context.Context, n Name, digest string) (_ Image, ok bool, _ error) {
	if digest == "" {
		return Image{}, false, nil
	}
	s.mu.Lock()
	hex := s.knownAs(digest)
	s.mu.Unlock()
	if hex == "" {
		return Image{}, false, nil
	}
	return s.link(ctx, n, hex)
}

// knownAs returns the digest of the stored file, or "". It needs s.mu.
func (s *Store) knownAs(digest string) string {
	ix, err := s.index()
	if err != nil || ix.data[digest].size > 0 {
		return digest // link finds the error again
	}
	for _, l := range ix.links {
		if l.name.Digest == digest && ix.data[l.hex].size > 0 {
			return l.hex
		}
	}
	for _, src := range s.loadSources() {
		if slices.Contains(src.Sent, digest) && ix.data[src.Digest].size > 0 {
			return src.Digest
		}
	}
	return ""
}

// remember writes down what the server said about stored content.
func (s *Store) remember(url string, src source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sources := s.loadSources()
	src.URL = RedactURL(url)
	sources[sourceKey(url)] = src
	s.sourcesChanged()
}

// pulled remembers what the content came in when a tag was pulled, which is what
// its server knows it by, and returns the image as it is shown from then on.
func (s *Store) pulled(ctx context.Context, n Name, img Image, sent []string) (Image, error) {
	if n.Digest != "" || len(sent) == 0 {
		return img, nil
	}
	s.mu.Lock()
	sources, key := s.loadSources(), sourceKey("name "+n.key())
	old, had := sources[key]
	same := sent[0] == img.Digest
	if same && !had || had && old.Digest == img.Digest && slices.Equal(old.Sent, sent) {
		s.mu.Unlock()
		return img, nil
	}
	if delete(sources, key); !same {
		sources[key] = source{Digest: img.Digest, Sent: sent, Name: n.key()}
	}
	s.sourcesChanged()
	s.mu.Unlock()
	return s.Get(ctx, digestPrefix+img.Digest)
}

// sentTags are the sources of tags by the tag's key. It needs s.mu.
func (s *Store) sentTags() map[string]source {
	tags := map[string]source{}
	for _, src := range s.loadSources() {
		if src.Name != "" && len(src.Sent) > 0 && isHexDigest(src.Sent[0]) {
			tags[src.Name] = src
		}
	}
	return tags
}

// sourcesChanged writes them down without those of content that has gone. It
// needs s.mu.
func (s *Store) sourcesChanged() {
	sources := s.sources
	if ix, err := s.index(); err == nil {
		for key, known := range sources {
			if _, stored := ix.data[known.Digest]; !stored {
				delete(sources, key)
			}
		}
		ix.tags = nil
	}
	if err := s.saveSources(); err != nil {
		s.opts.Warn(fmt.Errorf("image store: %w", err))
	}
}

// loadSources needs s.mu. A file that does not parse counts as empty.
func (s *Store) loadSources() map[string]source {
	if s.sources == nil {
		s.sources = map[string]source{}
		if text, err := os.ReadFile(filepath.Join(s.opts.Dir, sourcesName)); err == nil {
			if json.Unmarshal(text, &s.sources) != nil {
				s.sources = map[string]source{}
			}
		}
	}
	return s.sources
}

// saveSources needs s.mu. It does not sync: see source.
func (s *Store) saveSources() error {
	text, err := json.Marshal(s.sources)
	if err != nil {
		return err
	}
	path := filepath.Join(s.opts.Dir, sourcesName)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// origins returns by digest where images were fetched from. It needs s.mu.
func (s *Store) origins() map[string][]string {
	all := map[string][]string{}
	for _, src := range s.loadSources() {
		if src.URL != "" && !slices.Contains(all[src.Digest], src.URL) {
			all[src.Digest] = append(all[src.Digest], src.URL)
		}
	}
	for _, urls := range all {
		slices.Sort(urls)
	}
	return all
}
