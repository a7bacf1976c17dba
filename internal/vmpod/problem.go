package vmpod

import (
	"fmt"
	"strings"
)

// Problem is one thing in a pod that cannot be.
type Problem struct {
	// Annotation tells whether Field is the name of an annotation; otherwise
	// it is a path in CRI's message.
	Annotation bool
	Field      string
	// Key is the path in the document that an annotation holds, or the object
	// that it names and a key there, or empty.
	Key string
	// Value is the offending text, shortened; empty where there is none or it
	// may be a secret.
	Value string
	// Reason is what is wrong, Accepted what would be right ("" if nothing would).
	Reason, Accepted string
}

// String is the problem on one line.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Field)
	if p.Key != "" {
		b.WriteString(" " + p.Key)
	}
	if p.Value != "" {
		fmt.Fprintf(&b, " = %q", p.Value)
	}
	b.WriteString(": " + p.Reason)
	if p.Accepted != "" {
		b.WriteString("; accepted: " + p.Accepted)
	}
	return b.String()
}

// Error lists all problems of a pod. It is the only kind of error that this
// package returns.
type Error struct {
	Problems []Problem
}

// Error has a heading and one line per problem.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.heading())
	for _, p := range e.Problems {
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

// heading is Virtlet's words when annotations are all that is wrong.
func (e *Error) heading() string {
	for _, p := range e.Problems {
		if !p.Annotation {
			return "this pod cannot be a virtual machine:"
		}
	}
	return "bad virtlet annotations:"
}

// problems collects them while a pod is read.
type problems []Problem

func (p *problems) add(field, value, reason, accepted string) {
	*p = append(*p, Problem{Field: field, Value: shorten(value), Reason: reason, Accepted: accepted})
}

func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return &Error{Problems: p}
}

// shorten keeps a message readable when somebody put a document where a word
// was expected.
func shorten(s string) string {
	const limit = 64
	r := []rune(s)
	if len(r) <= limit {
		return s
	}
	return string(r[:limit]) + "..."
}
