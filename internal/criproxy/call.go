package criproxy

import (
	"context"
	"errors"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Services of CRI v1.
const (
	runtimeService = "/runtime.v1.RuntimeService/"
	imageService   = "/runtime.v1.ImageService/"
)

// call is a request that came in, with its first message. For CRI's methods
// that is the only one.
type call struct {
	method string // with its service, as gRPC names it
	in     *frame
	stream grpc.ServerStream
	ctx    context.Context // the client's, with its metadata to be passed on; it ends with the call
}

// name is the method without its service, "" if it is none of CRI v1.
func (c *call) name() string {
	if name, ok := strings.CutPrefix(c.method, runtimeService); ok {
		return name
	}
	name, _ := strings.CutPrefix(c.method, imageService)
	if name == c.method {
		return ""
	}
	return name
}

// outgoing passes the client's metadata on: the context of traces above all.
// Deadline and cancellation are in the context already.
func outgoing(ctx context.Context) context.Context {
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		return metadata.NewOutgoingContext(ctx, md)
	}
	return ctx
}

// ask makes the same call to a runtime. Headers and trailers go to the client.
func (c *call) ask(b *backend) (*frame, error) {
	var header, trailer metadata.MD
	out, err := b.invoke(c.ctx, c.method, c.in, grpc.Header(&header), grpc.Trailer(&trailer))
	c.passOn(header, trailer)
	return out, err
}

// passOn gives the client a runtime's headers and trailers.
func (c *call) passOn(header, trailer metadata.MD) {
	_ = c.stream.SetHeader(header) // fails when an answer is under way, which is too late
	c.stream.SetTrailer(trailer)
}

// answer sends the only answer.
func (c *call) answer(out *frame, err error) error {
	if err != nil {
		return err
	}
	defer out.release()
	return c.stream.SendMsg(out)
}

// relay connects the client with a runtime until the runtime has said all, or
// either is gone, whatever the method's kind.
func (c *call) relay(b *backend) error {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	up, err := b.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, c.method)
	if err != nil {
		return err
	}
	// It ends when the client has said all, or when this call has returned.
	go c.upstream(up)
	err = c.downstream(up)
	c.stream.SetTrailer(up.Trailer())
	return err
}

// upstream carries the client's messages, the first of which was read already.
func (c *call) upstream(up grpc.ClientStream) {
	for in := c.in; ; {
		if in != nil && up.SendMsg(in) != nil {
			return // why is what the other direction reads
		}
		next := new(frame)
		if c.stream.RecvMsg(next) != nil {
			_ = up.CloseSend() // never fails
			return
		}
		in = next
	}
}

func (c *call) downstream(up grpc.ClientStream) error {
	if header, err := up.Header(); err == nil {
		_ = c.stream.SetHeader(header)
	}
	for {
		out := new(frame)
		if err := up.RecvMsg(out); err != nil {
			return ignoreEOF(err)
		}
		err := c.stream.SendMsg(out)
		out.release()
		if err != nil {
			return err
		}
	}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
