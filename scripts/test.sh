#!/bin/bash
# test.sh MODULE_DIR...: runs all tests of the modules, shows go's own output, and ends with a summary in plain words.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
begin=$SECONDS
for dir; do
  echo "== go test ./... in $dir"
  (cd "$dir" && go test -timeout 40m ./...) 2>&1 | tee -a "$log" || status=1
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
