// Package critwin is an in-memory twin of the runtime and the image store, for
// tests of what speaks CRI. It keeps their promises (ids by unique beginning,
// error classes, idempotence, states) and does nothing else.
package critwin
