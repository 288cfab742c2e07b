# SPDX-License-Identifier: MIT
# The example of the README: built against the public headers, it must say what `fathom chat` says.
set -eu
fail() { echo "FAILED: $*" && exit 1; }
example=$FATHOM_BINARY_DIR/example_answer
model=$FATHOM_SOURCE_DIR/tests/data/tiny/llama.gguf
[ "$(grep -cvE '^(//|$)' "$FATHOM_SOURCE_DIR/examples/answer.c")" -le 60 ] || fail "answer.c has outgrown a page"
"$example" "$model" "the thing" >/tmp/example.$$ || fail "exit code $?"
"$FATHOM_BIN" chat -m "$model" -n 256 "the thing" >/tmp/chat.$$ 2>/dev/null
same=0
cmp /tmp/example.$$ /tmp/chat.$$ || same=1
[ -s /tmp/example.$$ ] || fail "no answer"
rm -f /tmp/example.$$ /tmp/chat.$$
[ $same = 0 ] || fail "the example and chat differ"
got=0
"$example" /nonexistent.gguf x 2>/dev/null || got=$?
[ $got = 5 ] || fail "a missing model: exit $got, want 5"
got=0
"$example" 2>/dev/null || got=$?
[ $got = 2 ] || fail "no arguments: exit $got, want 2"
