package criproxy

import (
	"fmt"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// frame is an encoded message, perhaps in several parts: protobuf messages
// are merged by joining their encodings.
type frame struct{ parts [][]byte }

func newFrame(parts ...[]byte) *frame { return &frame{parts: parts} }

// bytes is the whole message. The caller does not change it.
func (f *frame) bytes() []byte {
	if len(f.parts) == 1 {
		return f.parts[0]
	}
	var all []byte
	for _, part := range f.parts {
		all = append(all, part...)
	}
	return all
}

// codec moves frames without looking at them, and knows messages too, for the
// calls that the proxy makes by itself.
type codec struct{}

// Name is the content subtype of CRI.
func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	switch v := v.(type) {
	case *frame:
		var s mem.BufferSlice
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
		v.parts = [][]byte{data.Materialize()}
		return nil
	case proto.Message:
		return proto.Unmarshal(data.Materialize(), v)
	}
	return fmt.Errorf("cannot decode into a %T", v)
}
