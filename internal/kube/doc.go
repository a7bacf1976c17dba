// Package kube reads what pods refer to, ConfigMaps and Secrets, of the API
// server (API) or of a directory (Dir), and the image translations that are
// objects of a cluster.
//
// Errors name kind, namespace and name of the object and what to do, never what
// is in it. Their classes are those of errdefs: ErrNotFound (there is no such
// object), ErrPermissionDenied (the API server does not let the daemon read it),
// ErrInvalidArgument (no object can have this name), and ErrUnavailable (it could
// not be asked for or not be read).
package kube
