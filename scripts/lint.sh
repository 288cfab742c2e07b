#!/bin/sh
# SPDX-License-Identifier: MIT
# Every static check, the quick ones first: layers, sizes, clang-format, shellcheck where present, cppcheck, clang-tidy.
# Needs build/release/compile_commands.json. --fix formats instead of complaining; --light stops before the slow ones.
# FATHOM_WRAP are words put before every slow piece of work (a machine's gate).
set -u
cd "$(dirname "$0")/.." || exit 1
bad=0
light=
fix=
for word; do
    case $word in
    --fix) fix=1 ;;
    --light) light=1 ;;
    *) echo "lint: unknown option $word (there are --fix, --light)" >&2 && exit 2 ;;
    esac
done
list() { git ls-files -co --exclude-standard -- "$@" | sort -u; }
step() {
    name=$1
    shift
    if "$@"; then echo "lint: $name: clean"; else echo "lint: $name: FAILED" && bad=1; fi
}
format() {
    if [ -n "$fix" ]; then list '*.c' '*.h' | xargs clang-format -i; else list '*.c' '*.h' | xargs clang-format --dry-run -Werror; fi
}
python_syntax() {
    list '*.py' | xargs python3 -c 'import ast, sys
for name in sys.argv[1:]: ast.parse(open(name, encoding="utf-8").read(), name)'
}
shell_check() { list '*.sh' run .ci/run | xargs shellcheck -s sh -S warning; }
cpp_check() {
    # shellcheck disable=SC2086 # words
    ${FATHOM_WRAP:-} cppcheck -q --std=c11 --enable=warning,performance --inline-suppr --error-exitcode=1 -j "$(nproc)" \
        --suppress=missingIncludeSystem --suppress=normalCheckLevelMaxBranches -D__x86_64__ -D__GNUC__ -DFM_VERSION='"x"' \
        --suppress=unknownMacro -I include -I src -I tests src apps
}
tidy() {
    # only what this machine compiles: other architectures' kernels have no compile command
    list 'src/*.c' 'apps/*.c' | while read -r file; do
        grep -q "/$file\"" build/release/compile_commands.json && echo "$file"
    done | xargs -P "$(nproc)" -n 2 ${FATHOM_WRAP:-} clang-tidy -p build/release --quiet 2>/dev/null
}
step layers python3 scripts/check_layers.py
step sizes python3 scripts/check_sizes.py
if command -v clang-format >/dev/null 2>&1; then step clang-format format; fi
step python python_syntax
if command -v shellcheck >/dev/null 2>&1; then step shellcheck shell_check; fi
if [ -z "$light" ]; then
    step cppcheck cpp_check
    step clang-tidy tidy
fi
exit "$bad"
