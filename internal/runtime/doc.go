// Package runtime is the life of a VM pod: the only room in which the
// building blocks (qemu, netns, disks, cloudinit) meet the image store and
// the records.
//
// # States
//
// Each sandbox and each container has a phase in its record (package store).
// Phases ending in "-ing" are intents: they are durable before the first
// external effect that they announce, and are left only when all of it is
// done or undone. So wherever the daemon died, Recover knows what may exist,
// and finishes or undoes it. What is not recorded is never touched.
//
// # Locks and time
//
// Each pod has one lock, taken by whatever changes it; reading never waits
// for it. Nobody holds it while a guest takes its time to power off. An
// operation belongs to the daemon, not to the request that asked for it: when
// a client goes away the operation goes on, and the same request again joins
// it. Every external wait has a bound.
package runtime
