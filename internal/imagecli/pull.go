package imagecli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/podrun"
)

// PullOptions are those of Pull.
type PullOptions struct {
	// Digest is what the one image must have, with or without "sha256:".
	Digest string
	// Username is sent with Password, by basic authentication; "" sends neither.
	Username, Password string
}

// Pull fetches images one after another. How far it is goes to info, the ids of
// the images to out. A failure does not stop the others.
func Pull(ctx context.Context, c *podrun.Client, names []string, o PullOptions, out, info io.Writer) error {
	names, err := o.pin(names)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		id, err := c.PullImage(ctx, o.request(name), info)
		if err == nil {
			fmt.Fprintln(out, id)
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

func (o PullOptions) request(name string) *runtimeapi.PullImageRequest {
	req := &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: name, UserSpecifiedImage: name}}
	if o.Username != "" {
		req.Auth = &runtimeapi.AuthConfig{Username: o.Username, Password: o.Password}
	}
	return req
}

// pin puts the digest behind the name.
func (o PullOptions) pin(names []string) ([]string, error) {
	switch {
	case o.Digest == "":
		return names, nil
	case len(names) != 1:
		return nil, fmt.Errorf("--digest is of one image, and %d names were given: NAME@sha256:DIGEST is accepted for each", len(names))
	case strings.Contains(names[0], "@"):
		return nil, fmt.Errorf("image %q has a digest already, beside --digest %s", names[0], o.Digest)
	}
	return []string{names[0] + "@" + digestPrefix + strings.TrimPrefix(o.Digest, digestPrefix)}, nil
}

// ReadPassword reads a line.
func ReadPassword(in io.Reader) (string, error) {
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("--password-stdin: %w", err)
	}
	password := strings.TrimRight(line, "\r\n")
	if password == "" {
		return "", errors.New("--password-stdin: standard input holds no password")
	}
	return password, nil
}
