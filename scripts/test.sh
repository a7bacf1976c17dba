#!/bin/bash
# test.sh MODULE_DIR... [-- ARGUMENT...]: runs all tests of the modules, or those that the arguments of "go test" say; shows go's own
# output, and ends with a summary in plain words.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
dirs=() what=(./...)
while [ $# -gt 0 ]; do
  if [ "$1" = -- ]; then shift; what=("$@"); break; fi
  dirs+=("$1"); shift
done
status=0
begin=$SECONDS
for dir in "${dirs[@]}"; do
  echo "== go test ${what[*]} in $dir"
  (cd "$dir" && go test -timeout 60m "${what[@]}") 2>&1 | tee -a "$log" || status=1
done
echo
awk -v seconds=$((SECONDS - begin)) -v status=$status '
  /^ok  /                      { ok++ }
  /^FAIL\t/                    { failed = failed "\n    " $2; nf++ }
  /^ *--- FAIL/                { tests = tests "\n    " $3 }
  END {
    printf "%d packages passed, %d failed, in %d s\n", ok, nf, seconds
    if (failed) print "  failed packages:" failed
    if (tests) print "  failed tests:" tests
    print (status == 0 ? "PASS" : "FAIL")
  }' "$log"
exit $status
