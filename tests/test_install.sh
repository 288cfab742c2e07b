# SPDX-License-Identifier: MIT
# test-labels: noasan
# Installs into a temporary folder and builds a small program against what lies there: with pkg-config (shared and static)
# and as a CMake package. Checks that the shared library exports fm_ names only, the man page and the completion.
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
# every public header compiles alone, as C and as C++ where there is such a compiler
for header in "$prefix"/include/fathom/*.h; do
    echo "#include <fathom/$(basename "$header")>" >"$tmp/one.c"
    cc -std=c17 -Wall -Wextra -Werror -fsyntax-only $(pkg-config --cflags fathom) "$tmp/one.c"
    if command -v c++ >/dev/null; then
        cp "$tmp/one.c" "$tmp/one.cc" && c++ -fsyntax-only $(pkg-config --cflags fathom) "$tmp/one.cc"
    fi
done
cc -Wall -Werror "$tmp/main.c" $(pkg-config --cflags --libs fathom) -Wl,-rpath,"$lib" -o "$tmp/shared"
"$tmp/shared" || fail "the program linked with the shared library"
cc "$tmp/main.c" $(pkg-config --cflags fathom) "$lib/libfathom.a" \
    $(pkg-config --static --libs fathom | sed 's/-lfathom//') -o "$tmp/static"
"$tmp/static" || fail "the program linked with the archive"
ldd "$tmp/static" | grep -q libfathom && fail "the static program needs the shared library"

others=$(nm -D --defined-only "$lib/libfathom.so" | awk '{print $3}' | grep -v '^fm_[a-z0-9]' || true)
[ -z "$others" ] || fail "the shared library exports $others"
internal=$(nm -D --defined-only "$lib/libfathom.so" | awk '{print $3}' | grep '^fm__' || true)
[ -z "$internal" ] || fail "the shared library exports the internal $internal"

mkdir "$tmp/consumer"
cp "$tmp/main.c" "$tmp/consumer/"
cat >"$tmp/consumer/CMakeLists.txt" <<'C'
cmake_minimum_required(VERSION 3.20)
project(consumer C)
find_package(Fathom REQUIRED)
foreach(kind fathom fathom_static)
  add_executable(with_${kind} main.c)
  target_link_libraries(with_${kind} Fathom::${kind})
endforeach()
C
cmake -S "$tmp/consumer" -B "$tmp/consumer/build" -DCMAKE_PREFIX_PATH="$prefix" >"$tmp/log" 2>&1 || { cat "$tmp/log" && exit 1; }
cmake --build "$tmp/consumer/build" >"$tmp/log" 2>&1 || { cat "$tmp/log" && exit 1; }
for kind in fathom fathom_static; do "$tmp/consumer/build/with_$kind" || fail "CMake's with_$kind"; done

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
