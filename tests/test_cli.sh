# SPDX-License-Identifier: MIT
# The frame of the binary: help, mistakes and their suggestions, exit codes, output that cannot be written.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export HOME="$tmp"
unset XDG_CACHE_HOME
fail() { echo "FAILED: $*" && exit 1; }
# expect CODE TEXT CMD…: the exit code, and TEXT somewhere in what is printed
expect() {
    code=$1 text=$2
    shift 2
    got=0
    "$@" >"$tmp/out" 2>&1 || got=$?
    [ "$got" = "$code" ] || fail "$*: exit $got, want $code: $(cat "$tmp/out")"
    grep -qF -- "$text" "$tmp/out" || fail "$*: no \"$text\" in: $(cat "$tmp/out")"
}
F=$FATHOM_BIN

expect 2 "usage: fathom COMMAND" "$F"
expect 0 "usage: fathom COMMAND" "$F" --help
expect 0 "usage: fathom COMMAND" "$F" help
expect 0 "usage: fathom pull" "$F" help pull
expect 2 "did you mean pull?" "$F" pul x
expect 2 "did you mean version?" "$F" vresion
expect 2 "unknown command" "$F" zzzzzzzzz
expect 2 "did you mean --sha256?" "$F" pull x --sha265 0
expect 2 "did you mean --json?" "$F" models --jsno
expect 2 "unknown option -q (fathom models --help" "$F" models -q
[ "$(wc -l <"$tmp/out")" = 1 ] || fail "more than a line: $(cat "$tmp/out")"
expect 2 "takes no argument" "$F" models here
expect 2 "needs a value" "$F" pull x --sha256
expect 2 "takes no value" "$F" pull x --force=1
expect 2 "is not a whole number" "$F" pull x --retries many
expect 2 "is not in the range 0 … 100" "$F" pull x --retries=101
expect 2 "needs NAME|URL|FILE" "$F" pull --force
expect 5 "No such file" "$F" pull -- --force
expect 0 '"version"' "$F" --version --json
expect 0 "pcre2" "$F" version
expect 5 "neither XDG_CACHE_HOME nor HOME" env -u HOME "$F" models
for command in $("$F" --help=words); do
    expect 0 "usage: fathom $command" "$F" "$command" -h
    expect 0 "examples:" "$F" "$command" --help
    expect 2 "unknown option" "$F" "$command" --no-such-option-at-all
    expect 0 "--help" "$F" "$command" --help=words
done
if [ -w /dev/full ]; then
    got=0
    "$F" --help >/dev/full 2>"$tmp/out" || got=$?
    [ "$got" = 4 ] || fail "help to a full device: exit $got, want 4"
fi
# docs/cli.md lists the exit codes of status.def, each with its text
sed -n 's/^X(FM_[A-Z_]*, [-0-9]*, "\([^"]*\)", \([0-9]*\))$/| \2 | \1 |/p' "$FATHOM_SOURCE_DIR/include/fathom/status.def" >"$tmp/codes"
[ "$(wc -l <"$tmp/codes")" -ge 14 ] || fail "status.def could not be read"
while read -r row; do
    grep -qF "$row" "$FATHOM_SOURCE_DIR/docs/cli.md" || fail "docs/cli.md has no \"$row\""
done <"$tmp/codes"
