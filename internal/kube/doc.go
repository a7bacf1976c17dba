// Package kube reads what pods refer to: ConfigMaps and Secrets.
//
// Errors name kind, namespace and name of the object and what to do, never what
// is in it. Their classes are those of errdefs: ErrNotFound (there is no such
// object), ErrInvalidArgument (no object can have this name), and ErrUnavailable
// (it could not be read).
package kube
