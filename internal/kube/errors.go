package kube

import "fmt"

// classed is an error of a class that its message does not repeat.
type classed struct {
	error
	class error
}

// Unwrap gives both to errors.Is.
func (c classed) Unwrap() []error { return []error{c.error, c.class} }

// as makes an error of one of errdefs' classes.
func as(class error, format string, args ...any) error {
	return classed{fmt.Errorf(format, args...), class}
}
