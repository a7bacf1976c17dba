package runtime

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestAnImageThatIsNotHere(t *testing.T) {
	err := explainImage(fmt.Errorf("image %q: %w", "sha256:1", errdefs.ErrNotFound), &runtimeapi.ImageSpec{Image: "sha256:1", UserSpecifiedImage: "busybox:1"})
	if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), `image "busybox:1" is not`) || !strings.Contains(err.Error(), "virtlet.cloud/") {
		t.Error(err)
	}
	other := errors.New("other")
	if err := explainImage(other, &runtimeapi.ImageSpec{}); err != other {
		t.Error(err)
	}
}
