package criproxy

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// field returns the content of the last length-delimited field of that number
// in an encoded message: a string, bytes or a message. What is malformed has
// none; its receiver will say so.
func field(message []byte, number protowire.Number) (content []byte) {
	each(message, func(n protowire.Number, value []byte) {
		if n == number {
			content = value
		}
	})
	return content
}

// each calls f with each length-delimited field, in order, until the end or
// the first byte that is no protobuf.
func each(message []byte, f func(protowire.Number, []byte)) {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return
		}
		message = message[n:]
		if kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
				return
			}
			message = message[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(message)
		if n < 0 {
			return
		}
		f(number, value)
		message = message[n:]
	}
}

// itemField is where all of CRI's list answers have their items.
const itemField = 1

// items are the encoded items of a list's answer.
func items(list []byte) [][]byte {
	var all [][]byte
	each(list, func(n protowire.Number, item []byte) {
		if n == itemField {
			all = append(all, item)
		}
	})
	return all
}

// appendItem adds an encoded item to an encoded list.
func appendItem(list, item []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(list, itemField, protowire.BytesType), item)
}
