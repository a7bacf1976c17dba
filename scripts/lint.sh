#!/bin/bash
# lint.sh: formatting, vet, staticcheck and tidiness of all modules; syntax of the scripts; white space; and that the
# licence is where it belongs. Every check runs, also after another has failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
status=0
# check TITLE COMMAND...: a check fails when its command does.
check() {
  local title=$1 out
  shift
  if out=$("$@" 2>&1); then
    printf 'ok    %s\n' "$title"
  else
    printf 'FAIL  %s\n%s\n' "$title" "$out"
    status=1
  fi
}
# none COMMAND...: succeeds when the command prints nothing; what it prints is what is wrong.
none() {
  local out
  out=$("$@")
  [ -z "$out" ] || { printf '%s\n' "$out"; return 1; }
}
files() { git ls-files -co --exclude-standard -- "$@" | while IFS= read -r f; do if [ -f "$f" ]; then printf '%s\0' "$f"; fi; done; }
trailing_space() { files | xargs -0r grep -nIE '[[:blank:]]+$' -- | head -20; }
no_final_newline() { files | while IFS= read -r -d '' f; do [ ! -s "$f" ] || ! grep -qI . "$f" || [ -z "$(tail -c 1 "$f")" ] || echo "$f: no newline at the end"; done; }
scripts() { files | while IFS= read -r -d '' f; do if head -n 1 "$f" | grep -qE '^#!.*/(ba)?sh'; then printf '%s\0' "$f"; fi; done; }
script_syntax() { scripts | xargs -0rn1 bash -n; }
# What stands in testdata is what a guest will get, not ours to run.
not_executable() { scripts | while IFS= read -r -d "" f; do case $f in */testdata/*) continue ;; esac; [ -x "$f" ] || echo "$f: begins with #! but is not executable"; done; }
in_module() { (cd "$1" && shift && "$@"); }

for module in . e2e deploy; do
  check "gofmt ($module)" none in_module "$module" gofmt -l -s .
  check "go vet ($module)" in_module "$module" go vet ./...
  check "go.mod is tidy ($module)" in_module "$module" go mod tidy -diff
done
staticcheck=$(go tool -n staticcheck) && check "staticcheck (.)" go tool staticcheck ./... &&
  check "staticcheck (e2e)" in_module e2e "$staticcheck" ./... &&
  check "staticcheck (deploy)" in_module deploy "$staticcheck" ./...
check "syntax of the scripts" script_syntax
check "scripts are executable" none not_executable
check "no white space at line ends" none trailing_space
check "files end with a newline" none no_final_newline
check "LICENSE is Apache 2.0" grep -q 'Version 2.0, January 2004' LICENSE
exit $status
