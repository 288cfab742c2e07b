# SPDX-License-Identifier: MIT
# test-labels: noasan
# Installs into a temporary folder and builds a small program and the README's example against what lies there: with
# pkg-config (shared and static) and as a CMake package; the example must answer as the installed binary does. Checks that the shared library exports fm_ names only, the man page and the completion.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cmake --install "$FATHOM_BINARY_DIR" --prefix "$tmp/moved-from" >/dev/null
mv "$tmp/moved-from" "$tmp/prefix" # an installed tree may be moved
prefix=$tmp/prefix
lib=$(dirname "$(find "$prefix" -name libfathom.a)")
export PKG_CONFIG_PATH="$lib/pkgconfig"
fail() { echo "FAILED: $*" && exit 1; }

cat >"$tmp/main.c" <<'C'
#include <fathom/gguf.h>
#include <fathom/status.h>
#include <string.h>
int main(void)
{
    struct fm_gguf *g = NULL;
    struct fm_error err;
    fm_status status = fm_gguf_open_memory("GGUX", 4, NULL, &g, &err);
    return status == FM_E_FORMAT && g == NULL && strcmp(fm_status_text(FM_OK), "ok") == 0 ? 0 : 1;
}
C
cp "$FATHOM_SOURCE_DIR/examples/answer.c" "$tmp/"
cflags=$(pkg-config --cflags fathom) libs=$(pkg-config --libs fathom)
static_libs=$(pkg-config --static --libs fathom | sed 's/-lfathom//')
# every public header compiles alone, as C and as C++ where there is such a compiler
for header in "$prefix"/include/fathom/*.h; do
    echo "#include <fathom/$(basename "$header")>" >"$tmp/one.c"
    cc -std=c17 -Wall -Wextra -Werror -fsyntax-only $cflags "$tmp/one.c"
    if command -v c++ >/dev/null; then
        cp "$tmp/one.c" "$tmp/one.cc" && c++ -fsyntax-only $cflags "$tmp/one.cc"
    fi
done
# the README's example against what is installed: the shared library, the archive
model=$FATHOM_SOURCE_DIR/tests/data/tiny/llama.gguf
"$prefix/bin/fathom" chat -m "$model" -n 256 "the thing" >"$tmp/want" 2>/dev/null
[ -s "$tmp/want" ] || fail "the installed binary has no answer"
answers() {
    "$1" "$model" "the thing" >"$tmp/got" || fail "$1: exit $?"
    cmp "$tmp/got" "$tmp/want" || fail "$1 answers differently"
}
for name in main answer; do
    cc -Wall -Werror "$tmp/$name.c" $cflags $libs -Wl,-rpath,"$lib" -o "$tmp/shared_$name"
    cc -Wall -Werror "$tmp/$name.c" $cflags "$lib/libfathom.a" $static_libs -o "$tmp/static_$name"
done
for kind in shared static; do
    "$tmp/${kind}_main" || fail "the program linked with the $kind library"
    answers "$tmp/${kind}_answer"
done
ldd "$tmp/shared_answer" | grep -q libfathom || fail "the shared program does not need the shared library"
ldd "$tmp/static_answer" | grep -q libfathom && fail "the static program needs the shared library"

others=$(nm -D --defined-only "$lib/libfathom.so" | awk '{print $3}' | grep -v '^fm_[a-z0-9]' || true)
[ -z "$others" ] || fail "the shared library exports $others"
internal=$(nm -D --defined-only "$lib/libfathom.so" | awk '{print $3}' | grep '^fm__' || true)
[ -z "$internal" ] || fail "the shared library exports the internal $internal"

mkdir "$tmp/consumer"
cp "$tmp/main.c" "$tmp/answer.c" "$tmp/consumer/"
cat >"$tmp/consumer/CMakeLists.txt" <<'C'
cmake_minimum_required(VERSION 3.20)
project(consumer C)
find_package(Fathom REQUIRED)
foreach(kind fathom fathom_static)
  foreach(name main answer)
    add_executable(${name}_${kind} ${name}.c)
    target_link_libraries(${name}_${kind} Fathom::${kind})
  endforeach()
endforeach()
C
cmake -S "$tmp/consumer" -B "$tmp/consumer/build" -DCMAKE_PREFIX_PATH="$prefix" >"$tmp/log" 2>&1 || { cat "$tmp/log" && exit 1; }
cmake --build "$tmp/consumer/build" >"$tmp/log" 2>&1 || { cat "$tmp/log" && exit 1; }
for kind in fathom fathom_static; do
    "$tmp/consumer/build/main_$kind" || fail "CMake's main_$kind"
    answers "$tmp/consumer/build/answer_$kind"
done

"$prefix/bin/fathom" version >/dev/null
for command in $("$prefix/bin/fathom" --help=words); do
    "$prefix/bin/fathom" "$command" --help | grep -q "^usage: fathom $command" || fail "$command --help"
    grep -q "^.SS fathom $command\$" "$prefix/share/man/man1/fathom.1" || fail "$command in the man page"
done
if command -v bash >/dev/null; then
    words=$(PATH="$prefix/bin:$PATH" bash -c '. "$0"; COMP_WORDS=(fathom pull --sh); COMP_CWORD=2; _fathom; echo "${COMPREPLY[*]}"' \
        "$prefix/share/bash-completion/completions/fathom")
    [ "$words" = "--sha256" ] || fail "completion of --sh gives: $words"
fi
