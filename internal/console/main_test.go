package console

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(childSource) != "" {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}
