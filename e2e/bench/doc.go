// Package bench measures what qemulet costs beside what its work costs anyway. Each benchmark alternates between the real
// daemon and a baseline, the same work done by hand, and reports the median of the ratios of neighbours, so that a
// machine that is slower for a while is slower for both.
//
// The benchmarks bring their own number of rounds and want to be run once: "make bench", or
//
//	go test -run '^$' -bench . -benchtime 1x ./bench
//
// At the end all results are printed as the table of docs/performance.md; -update writes it there. -rounds sets how many
// pairs are taken.
package bench
