// Package bench measures the daemon against what the same work costs when it is done by hand, in one run on one
// machine, because figures of different runs and machines do not compare: "make bench".
package bench
