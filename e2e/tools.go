//go:build tools

package e2e

// critest is built for the tests and imported by none of them. It is a test
// itself, so the tool directive of go.mod would not keep what it needs.
import (
	_ "github.com/onsi/ginkgo/v2"
	_ "github.com/onsi/gomega"
	_ "sigs.k8s.io/cri-tools/pkg/benchmark"
	_ "sigs.k8s.io/cri-tools/pkg/validate"
)
