#!/bin/bash
# fuzz.sh TIME: runs every fuzz test of the module for TIME (10s, 1m ...), one after another.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
status=0
for dir in $(grep -rlE --include='*_test.go' '^func Fuzz' . | grep -v '^\./e2e/' | xargs -r -n1 dirname | sort -u); do
  for name in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$dir"/*_test.go | sort -u); do
    echo "== $dir $name"
    # Shortening what was found interesting may take a minute each, in which nothing new is tried and a short run is over.
    go test "$dir" -run '^$' -fuzz "^$name\$" -fuzztime "${1:-10s}" -fuzzminimizetime 10x || status=1
  done
done
exit $status
