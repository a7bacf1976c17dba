package criproxy

import (
	"fmt"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// frame is an encoded message, perhaps in several parts: protobuf messages
// are merged by joining their encodings.
type frame struct {
	received mem.BufferSlice // as it came, which comes first
	parts    [][]byte
}

func newFrame(parts ...[]byte) *frame { return &frame{parts: parts} }

// bytes is the whole message. The caller does not change it.
func (f *frame) bytes() []byte {
	if len(f.received) > 0 {
		f.parts = append([][]byte{f.received.Materialize()}, f.parts...)
		f.release()
	}
	if len(f.parts) != 1 {
		var all []byte
		for _, part := range f.parts {
			all = append(all, part...)
		}
		f.parts = [][]byte{all}
	}
	return f.parts[0]
}

// release gives the buffers back in which the message came. It is empty then.
func (f *frame) release() {
	f.received.Free()
	f.received = nil
}

// codec moves frames without looking at them, and knows messages too, for the
// calls that the proxy makes by itself.
type codec struct{}

// Name is the content subtype of CRI.
func (codec) Name() string { return "proto" }

// Marshal leaves to gRPC what it returns, and to v what it has.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	switch v := v.(type) {
	case *frame:
		v.received.Ref()
		s := append(mem.BufferSlice(nil), v.received...)
		for _, part := range v.parts {
			s = append(s, mem.SliceBuffer(part))
		}
		return s, nil
	case proto.Message:
		raw, err := proto.Marshal(v)
		return mem.BufferSlice{mem.SliceBuffer(raw)}, err
	}
	return nil, fmt.Errorf("cannot encode a %T", v)
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch v := v.(type) {
	case *frame:
		data.Ref()
		v.received = data
		return nil
	case proto.Message:
		return proto.Unmarshal(data.Materialize(), v)
	}
	return fmt.Errorf("cannot decode into a %T", v)
}
