# SPDX-License-Identifier: MIT
# ./run on machines that lack something: every tool it calls is a stand-in in a folder that is the whole PATH.
# test-labels: noasan
set -eu
root=$(cd "$FATHOM_SOURCE_DIR" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fail() { echo "FAILED: $*" && exit 1; }

# A copy: nothing here may touch the real build folder.
cp "$root/run" "$root/CMakePresets.json" "$tmp/"
mkdir "$tmp/bin"
for tool in sh dirname mktemp rm tail cat cmp mkdir; do ln -s "$(command -v "$tool")" "$tmp/bin/$tool"; done
stand_in() { printf '#!/bin/sh\n%s\n' "$2" >"$tmp/bin/$1" && chmod +x "$tmp/bin/$1"; }

# expect CODE TEXT WORDS…: ./run WORDS
expect() {
    code=$1 text=$2 got=0
    shift 2
    env -i PATH="$tmp/bin" HOME="$tmp/home" TMPDIR="$tmp" "$tmp/run" "$@" >"$tmp/out" 2>&1 || got=$?
    [ "$got" = "$code" ] || fail "run $*: exit $got, want $code: $(cat "$tmp/out")"
    grep -qF -- "$text" "$tmp/out" || fail "run $*: no \"$text\" in: $(cat "$tmp/out")"
}

expect 0 './run chat ["PROMPT"]' help
expect 2 "names: " fuzz

stand_in dpkg-query ''
stand_in id 'echo 1000'
expect 1 "as root: apt-get install gcc libc6-dev cmake" chat hello
stand_in sudo 'echo "not in the sudoers file" && exit 1'
expect 1 "not in the sudoers file" chat hello
rm "$tmp/bin/sudo"

stand_in id 'echo 0'
stand_in env 'while :; do case $1 in *=*) shift ;; *) break ;; esac; done; exec "$@"'
stand_in apt-get 'echo "Temporary failure resolving the host" && exit 100'
expect 1 "Temporary failure resolving the host" chat hello
expect 1 "run: failed: updating the list of packages" chat hello

# what is missing is asked for once, and only that
stand_in apt-get 'echo "$*" >>"'"$tmp"'/asked"'
stand_in dpkg-query 'for p in gcc libc6-dev cmake ninja-build pkg-config git ca-certificates libpcre2-dev libutf8proc-dev libjansson-dev libcurl4-openssl-dev libssl-dev libcmocka-dev zlib1g-dev libpng-dev libjpeg62-turbo-dev; do printf "%s:ii " "$p"; done'
stand_in cmake 'echo "no compiler works" && exit 1'
expect 1 "run: failed: configuring release" chat hello
grep -q "no compiler works" "$tmp/out" || fail "the reason is not said"
[ "$(cat "$tmp/asked")" = "-q -y --no-install-recommends install libedit-dev" ] || fail "asked for: $(cat "$tmp/asked")"

# a build that works: the default model is fetched only for commands that need it
stand_in cmake 'case $1 in -S) mkdir -p "$2/build/release" && : >"$2/build/release/build.ninja" ;; esac'
mkdir -p "$tmp/build/release"
printf '#!/bin/sh\necho "fathom $*"\n' >"$tmp/build/release/fathom"
chmod +x "$tmp/build/release/fathom"
for words in "chat hello" "bench" "inspect --plan" "tokenize a"; do
    expect 0 "getting the default model" $words
done
for words in "chat -m x hello" "bench --machine" "inspect x.gguf" "generate --model=x" "version" "chat --help"; do
    expect 0 "fathom $words" $words
    if grep -q "default model" "$tmp/out"; then fail "run $words fetches the default model"; fi
done
left=$(find "$tmp" -maxdepth 1 -name 'fathom-run.*')
[ -z "$left" ] || fail "left behind: $left"
