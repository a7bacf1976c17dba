package images

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/containerd/errdefs"
)

const (
	sumsName = "SHA256SUMS"
	// maxSums bounds a SHA256SUMS file, in bytes: the largest mirrors' have some
	// hundred kilobytes.
	maxSums = 4 << 20
)

// gatherWanted finds out which digests the image must have.
func (s *Store) gatherWanted(ctx context.Context, j *job) error {
	j.want(j.name.Digest, "the image's name")
	if r := j.res.Rule; r != nil {
		j.want(strings.ToLower(r.SHA256), "the rule's sha256")
	}
	if !j.res.Profile.RequireSHA256SUMS {
		return nil
	}
	sum, err := s.sumBeside(ctx, j)
	if err != nil {
		return fmt.Errorf("%s, which transport %q requires: %w", sumsName, j.res.ProfileName, err)
	}
	j.want(sum, sumsName)
	return nil
}

func (j *job) want(digest, by string) {
	if digest != "" {
		j.wanted = append(j.wanted, wanted{digest, by})
	}
}

// sumBeside reads the image's digest from the SHA256SUMS in its directory.
func (s *Store) sumBeside(ctx context.Context, j *job) (string, error) {
	text, err := s.sumsBeside(ctx, j)
	if err != nil {
		return "", err
	}
	name := path.Base(j.url.Path)
	sum, ok := findSum(text, name)
	if !ok {
		return "", fmt.Errorf("it has no line for %q: %w", name, errdefs.ErrFailedPrecondition)
	}
	return sum, nil
}

func (s *Store) sumsBeside(ctx context.Context, j *job) ([]byte, error) {
	u := *j.url
	u.Path, u.RawPath, u.RawQuery = path.Join(path.Dir(u.Path), sumsName), "", ""
	switch u.Scheme {
	case schemeOCI, schemePlainOCI:
		return nil, fmt.Errorf("a registry has no such file (give the url a digest, and the rule another transport): %w", errdefs.ErrInvalidArgument)
	case schemeFile:
		f, err := s.openLocal(u.Path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return readAtMost(&localFile{ctx, f, j.prog.aside()}, maxSums)
	}
	st := &stream{fetcher: j.fetcher, ctx: ctx, url: &u, auth: j.auth, prog: j.prog.aside()}
	return st.readAtMost(maxSums)
}

// readAtMost reads the whole stream, anew if its content changes, and closes it.
func (s *stream) readAtMost(limit int64) ([]byte, error) {
	defer s.close()
	for {
		text, err := readAtMost(s, limit)
		if err != errStartOver { // as Read returned it
			return text, err
		}
	}
}

func readAtMost(r io.Reader, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("larger than %d bytes: %w", limit, errdefs.ErrFailedPrecondition)
	}
	return text, nil
}

// findSum finds a file's digest in what sha256sum writes, with or without
// --tag. Other lines, such as those of a signature around it, do not count.
func findSum(text []byte, name string) (string, bool) {
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		sum, file, ok := parseSum(strings.TrimSuffix(lines.Text(), "\r"))
		if ok && strings.TrimPrefix(file, "./") == name {
			return sum, true
		}
	}
	return "", false
}

// parseSum parses one line: the digest, a blank, a blank or "*" (read in binary
// mode), the name; or "SHA256 (name) = digest". A backslash before all of it
// says that the name has escapes.
func parseSum(line string) (sum, file string, ok bool) {
	line, escaped := strings.CutPrefix(line, "\\")
	if rest, tagged := strings.CutPrefix(line, "SHA256 ("); tagged {
		i := strings.LastIndex(rest, ") = ")
		if i < 0 {
			return "", "", false
		}
		file, sum = rest[:i], rest[i+len(") = "):]
	} else {
		if sum, file, ok = strings.Cut(line, " "); !ok || file == "" || file[0] != ' ' && file[0] != '*' {
			return "", "", false
		}
		file = file[1:]
	}
	if escaped {
		file = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\r`, "\r").Replace(file)
	}
	sum = strings.ToLower(sum)
	return sum, file, isHexDigest(sum)
}
