// Package criproxy stands between kubelet and two CRI runtimes: the primary,
// which runs ordinary pods, and the VM runtime.
//
// It relays bytes. No id is rewritten and no answer of the primary changed: ids
// of the VM runtime are told by their lead, answers that are lists are joined
// by joining their encodings. So fields, methods and errors that this package
// knows nothing of pass unchanged. Only what routing needs is decoded.
//
// A list is never partial. While the VM runtime is away, what it answered
// last stands in; while the primary is away, lists fail: a list without its
// items would tell kubelet that all its containers are dead.
package criproxy
