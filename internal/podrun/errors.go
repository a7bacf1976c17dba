package podrun

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
)

// RPCError says what was being done when a call of the Client's services failed,
// and leaves out gRPC's own words.
func (c *Client) RPCError(doing string, err error) error {
	s, ok := status.FromError(err)
	switch {
	case !ok:
		return fmt.Errorf("%s: %w", doing, err)
	case s.Code() == codes.Canceled:
		return fmt.Errorf("%s: %w", doing, ErrInterrupted)
	case s.Code() == codes.Unavailable && c.conn.GetState() != connectivity.Ready:
		return fmt.Errorf("%s: the daemon no longer answers on %s; `qemulet ps` tells what still runs", doing, c.socket)
	}
	return &rpcFailure{doing: doing, status: s}
}

// rpcFailure is a call that the daemon refused.
type rpcFailure struct {
	doing  string
	status *status.Status
}

// Error leaves out the class that ends the daemon's own errors: it tells
// programs what the words before it have told the person.
func (e *rpcFailure) Error() string {
	return e.doing + ": " + trimClass(e.status.Message())
}

func trimClass(text string) string {
	for _, class := range []error{
		errdefs.ErrInvalidArgument, errdefs.ErrFailedPrecondition, errdefs.ErrUnavailable, errdefs.ErrNotFound, errdefs.ErrAlreadyExists,
	} {
		text = strings.TrimSuffix(text, ": "+class.Error())
	}
	return text
}

// GRPCStatus lets status.Code find the code.
func (e *rpcFailure) GRPCStatus() *status.Status { return e.status }
