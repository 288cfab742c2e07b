#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares Fathom's token ids, token bytes and end-of-generation marks with llama.cpp's (through llama-cpp-python).

  check_tokenizers.py --tool build/release/tok_tool [-n 10000] [--seed 1] MODEL.gguf…
  check_tokenizers.py --tool build/release/tok_tool --vectors FOLDER    # NAME.gguf with NAME.gguf.inp and .out

Random strings mix scripts, categories, controls, emoji sequences, runs, words of the file's own vocabulary and, for half
of them, its special tokens; each is encoded with and without parsing special tokens, and with and without BOS and EOS.
Needs llama-cpp-python (pip install llama-cpp-python). Exit code 1 at any difference.
"""
import argparse
import ctypes
import glob
import os
import random
import struct
import subprocess
import sys

ADD_SPECIAL, PARSE_SPECIAL = 1, 2


def run_tool(tool, model, mode, flags, records, overrides=()):
    """Records (bytes) through tok_tool; the answers as lists of ids (encode) or bytes (decode)."""
    data = b"".join(records)
    cmd = [tool, model, mode] + ([str(flags)] if flags is not None else []) + list(overrides)
    out = subprocess.run(cmd, input=data, stdout=subprocess.PIPE, check=True).stdout
    answers, at = [], 0
    while at < len(out):
        (n,) = struct.unpack_from("<I", out, at)
        at += 4
        if mode == "encode":
            answers.append(list(struct.unpack_from(f"<{n}i", out, at)))
            at += 4 * n
        else:
            answers.append(out[at:at + n])
            at += n
            if mode == "tokens":
                answers[-1] = (answers[-1], out[at])
                at += 1
    return answers


def encode(tool, model, texts, flags, overrides=()):
    return run_tool(tool, model, "encode", flags, [struct.pack("<I", len(t)) + t for t in texts], overrides)


def decode(tool, model, ids, flags):
    return run_tool(tool, model, "decode", flags, [struct.pack(f"<I{len(i)}i", len(i), *i) for i in ids])


class Peer:
    """llama.cpp's tokenizer of a file."""

    def __init__(self, model):
        import llama_cpp
        self.lib = llama_cpp
        self.quiet = llama_cpp.llama_log_callback(lambda level, text, user: None)
        llama_cpp.llama_log_set(self.quiet, ctypes.c_void_p(0))
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        self.model = llama_cpp.llama_model_load_from_file(model.encode(), params)
        if not self.model:
            sys.exit(f"{model}: llama.cpp cannot load it")
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(self.vocab)

    def encode(self, text, flags):
        cap = len(text) * 4 + 16
        ids = (ctypes.c_int32 * cap)()
        n = self.lib.llama_tokenize(self.vocab, text, len(text), ids, cap, bool(flags & ADD_SPECIAL),
                                    bool(flags & PARSE_SPECIAL))
        assert n >= 0
        return list(ids[:n])

    def token(self, i):
        buf = ctypes.create_string_buffer(32768)
        n = self.lib.llama_token_to_piece(self.vocab, i, buf, len(buf), 0, True)
        return buf.raw[:n]

    def is_eog(self, i):
        return bool(self.lib.llama_vocab_is_eog(self.vocab, i))

    def text(self, i):
        return self.lib.llama_vocab_get_text(self.vocab, i)

    def is_special(self, i):
        # CONTROL 1<<3, USER_DEFINED 1<<4, UNKNOWN 1<<0 of llama_token_attr
        return bool(self.lib.llama_vocab_get_attr(self.vocab, i) & 0b11001)


# Blocks that strings are drawn from; surrogates are left out (they are no characters).
BLOCKS = [(0x20, 0x7e)] * 8 + [(0x41, 0x5a), (0x61, 0x7a), (0x30, 0x39), (0x9, 0xd), (0, 0x1f), (0xa0, 0xff),
          (0x100, 0x24f), (0x250, 0x36f), (0x370, 0x3ff), (0x400, 0x52f), (0x590, 0x6ff), (0x900, 0xdff), (0xe00, 0xeff),
          (0x1100, 0x11ff), (0x1e00, 0x1fff), (0x2000, 0x206f), (0x2070, 0x218f), (0x2190, 0x2bff), (0x2c00, 0x2e7f),
          (0x2ff0, 0x30ff), (0x3100, 0x33ff), (0x3400, 0x4dbf), (0x4e00, 0x9fff), (0xa000, 0xabff), (0xac00, 0xd7ff),
          (0xe000, 0xf8ff), (0xf900, 0xfaff), (0xfb00, 0xffff), (0x10000, 0x10fff), (0x11000, 0x16fff),
          (0x1d000, 0x1d7ff), (0x1e000, 0x1efff), (0x1f000, 0x1faff), (0x20000, 0x323af), (0xe0000, 0xe01ef),
          (0, 0xd7ff), (0xe000, 0x10ffff)]
PIECES = ["'s", "'S", "'ll", "'LL", "'d", "'Re", " '", "  ", "   ", "\n", "\n\n", "\r\n", " \n", "\t", "\u00a0", "\u3000",
          "\u0085", "\u180e", "\u200b", "\u200d", "\ufeff", "e\u0301", "\u0130", "\u017f", "👨‍👩‍👧", "🇩🇪", "▁", "Ġ", "Ċ",
          "123456", "3.14159", "http://x.y/?q=1&r=%20", "don't", "I'M", "C++", "#include <x>", "été", "Straße", "ǅ", "ﬁ",
          "…", "——", "你好，世界", "한국어", "日本語テスト", "हिन्दी", "ไทย", "עברית", "العربية", "Ελλάδα", "Привет", "½", "²", "Ⅷ", "٣٤"]


def random_text(rng, words, specials):
    parts = []
    for _ in range(rng.randint(1, 24)):
        kind = rng.random()
        if kind < 0.35:
            low, high = rng.choice(BLOCKS)
            parts.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 6))))
        elif kind < 0.6:
            parts.append(rng.choice(PIECES))
        elif kind < 0.7:
            parts.append(rng.choice(PIECES + [chr(rng.randint(0x20, 0x7e))]) * rng.randint(1, 20))
        elif kind < 0.95 or not specials:
            parts.append(rng.choice(words))
        else:
            parts.append(rng.choice(specials))
        if rng.random() < 0.4:
            parts.append(" ")
    text = "".join(parts)
    return "".join(c for c in text if not 0xd800 <= ord(c) < 0xe000).encode()


def report(model, what, text, ours, theirs):
    k = next((k for k, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    print(f"{model}: {what} differs from place {k}\n  text   {text!r}\n  ours   {ours[:k + 12]}\n  theirs {theirs[:k + 12]}")


def check_model(tool, model, n, seed):
    peer = Peer(model)
    rng = random.Random(f"{seed} {os.path.basename(model)}")
    tokens = run_tool(tool, model, "tokens", None, [])
    differences = int(len(tokens) != peer.n_vocab)
    for i, (piece, kind) in enumerate(tokens):
        if piece != peer.token(i) or bool(kind & 128) != peer.is_eog(i):
            differences += 1
            if differences < 4:
                print(f"{model}: token {i}: {piece!r}, {kind}; llama.cpp has {peer.token(i)!r}, eog {peer.is_eog(i)}")
    words = [p.decode() for p, _ in tokens if p.isascii() or b"\xef\xbf\xbd" not in p.decode(errors="replace").encode()]
    words = [w for w in words if w]
    specials = [peer.text(i).decode(errors="replace") for i in range(peer.n_vocab) if peer.is_special(i)]
    texts = [b""] + [random_text(rng, words, specials if k % 2 else []) for k in range(n)]
    for flags in (0, ADD_SPECIAL, PARSE_SPECIAL, ADD_SPECIAL | PARSE_SPECIAL):
        for text, ours in zip(texts, encode(tool, model, texts, flags)):
            theirs = peer.encode(text, flags)
            if ours != theirs:
                differences += 1
                if differences < 8:
                    report(model, f"encoding with flags {flags}", text, ours, theirs)
    print(f"{os.path.basename(model)}: {len(tokens)} tokens, {len(texts)} texts × 4 flags, {differences} differences", flush=True)
    return differences


def read_vectors(path):
    """Texts of a .inp and ids of its .out."""
    with open(path + ".inp", "rb") as f:
        texts = f.read().split(b"\n__ggml_vocab_test__\n")
    with open(path + ".out") as f:
        ids = [[int(x) for x in line.split()] for line in f.read().splitlines()]
    return texts, ids


def check_vectors(tool, folder):
    differences = 0
    for path in sorted(glob.glob(os.path.join(folder, "*.gguf"))):
        if not os.path.exists(path + ".inp"):
            continue
        texts, want = read_vectors(path)
        got = encode(tool, path, texts[:len(want)], 0)
        wrong = sum(a != b for a, b in zip(got, want)) + abs(len(want) - len(got))
        for text, a, b in zip(texts, got, want):
            if a != b:
                report(path, "a vector", text, a, b)
        print(f"{os.path.basename(path)}: {len(want)} vectors, {wrong} differences", flush=True)
        differences += wrong
    return differences


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", default="build/release/tok_tool")
    parser.add_argument("--vectors", metavar="FOLDER")
    parser.add_argument("-n", type=int, default=10000, help="random strings a model")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("models", nargs="*")
    args = parser.parse_args()
    differences = check_vectors(args.tool, args.vectors) if args.vectors else 0
    for model in args.models:
        differences += check_model(args.tool, model, args.n, args.seed)
    print(f"{differences} differences in all")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
