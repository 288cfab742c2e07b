# SPDX-License-Identifier: MIT
# test-labels: long noasan
# The kernels of 64-bit ARM: built with Debian's cross compiler, run by qemu-user. Every test with the label kernels runs
# on a CPU that has everything (and so at levels neon, dotprod and i8mm); on real CPUs that lack i8mm, or dotprod too,
# detection must say so, and the kernels below must not need what is missing (an unknown instruction ends the test).
set -eu
for tool in aarch64-linux-gnu-gcc qemu-aarch64; do
    command -v "$tool" >/dev/null && continue
    echo "skipped: $tool is not here (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)"
    exit 77
done
build=$FATHOM_BINARY_DIR/aarch64
cd "$FATHOM_SOURCE_DIR"
set -- -S . -B "$build" --preset aarch64
if command -v ccache >/dev/null; then set -- "$@" -DCMAKE_C_COMPILER_LAUNCHER=ccache; fi
cmake "$@" >"$build.log" 2>&1 || { cat "$build.log" && exit 1; }
cmake --build "$build" >"$build.log" 2>&1 || { tail -n 60 "$build.log" && exit 1; }

# on CPU LEVEL TEST…: the level that is found, and tests that pass
on() {
    QEMU_CPU=$1 qemu-aarch64 -L /usr/aarch64-linux-gnu "$build/test_cpuinfo" >"$build.log" || { cat "$build.log" && exit 1; }
    grep -qx "level=$2" "$build.log" || { echo "FAILED: on $1" && grep level= "$build.log" && exit 1; }
    echo "$1: level $2"
    QEMU_CPU=$1 ctest --test-dir "$build" -j "$(nproc)" --output-on-failure -R "^($3)\$"
}
on max i8mm '.*'
on neoverse-n1 dotprod 'functions|linear'
on cortex-a72 neon 'functions|linear'
