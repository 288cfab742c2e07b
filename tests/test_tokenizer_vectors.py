#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The real vocabularies of ../shared against the vectors beside them (.inp and .out, ids of the models' own tokenizers);
qwen2's vocabulary is made from tokenizer-qwen's ranks. Skipped (exit code 77) where ../shared is absent."""
import base64
import os
import shutil
import struct
import subprocess
import sys
import tempfile

ROOT = os.environ.get("FATHOM_SOURCE_DIR", os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
TOOL = os.path.join(os.environ.get("FATHOM_BINARY_DIR", os.path.join(ROOT, "build", "release")), "tok_tool")
SHARED = os.path.join(ROOT, "..", "shared", "data")
WANTED = {"bert-bge", "deepseek-coder", "deepseek-llm", "falcon", "gpt-2", "llama-spm", "mpt", "phi-3", "refact", "starcoder",
          "qwen2", "deepseek-r1-qwen"}
sys.path.insert(0, os.path.join(ROOT, "scripts"))
import check_tokenizers  # noqa: E402


def unpack(name, folder):
    subprocess.run(["tar", "--zstd", "-xf", os.path.join(SHARED, name + ".tar.zst"), "-C", folder], check=True)
    return os.path.join(folder, name)


def merge_of(token, ranks):
    """The two parts that byte-level BPE joins last to make a token: its merge rule."""
    parts = [token[i:i + 1] for i in range(len(token))]
    limit = ranks[token]
    while len(parts) > 2:
        best, at = limit, -1
        for i in range(len(parts) - 1):
            rank = ranks.get(parts[i] + parts[i + 1], limit)
            if rank < best:
                best, at = rank, i
        if at < 0:
            return None  # not reachable by merging
        parts[at:at + 2] = [parts[at] + parts[at + 1]]
    return parts


def write_qwen(tiktoken, path, pre):
    """tokenizer.ggml metadata from a file of "base64 rank" lines."""
    with open(tiktoken, "rb") as f:
        ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in f)}
    visible = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    rest = [b for b in range(256) if b not in visible]
    alphabet = {b: chr(b) for b in visible} | {b: chr(256 + i) for i, b in enumerate(rest)}
    spell = lambda token: "".join(alphabet[b] for b in token)
    ordered = sorted(ranks, key=ranks.get)
    merges = [merge_of(t, ranks) for t in ordered if len(t) > 1]
    tokens = [spell(t) for t in ordered] + ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    string = lambda s: struct.pack("<Q", len(s.encode())) + s.encode()
    array = lambda kind, values: struct.pack("<IIQ", 9, kind, len(values)) + b"".join(values)
    entries = {
        "general.architecture": struct.pack("<I", 8) + string("qwen2"),
        "tokenizer.ggml.model": struct.pack("<I", 8) + string("gpt2"),
        "tokenizer.ggml.pre": struct.pack("<I", 8) + string(pre),
        "tokenizer.ggml.tokens": array(8, [string(t) for t in tokens]),
        "tokenizer.ggml.token_type": array(5, [struct.pack("<i", 1 if i < len(ordered) else 3) for i in range(len(tokens))]),
        "tokenizer.ggml.eos_token_id": struct.pack("<II", 4, len(ordered) + 2),
        "tokenizer.ggml.merges": array(8, [string(f"{spell(a)} {spell(b)}") for m in merges if m for a, b in [m]]),
    }
    with open(path, "wb") as f:
        f.write(struct.pack("<4sIQQ", b"GGUF", 3, 0, len(entries)))
        for key, value in entries.items():
            f.write(string(key) + value)


def main():
    if not os.path.exists(os.path.join(SHARED, "gguf-vocabs.tar.zst")) or not shutil.which("zstd"):
        print("skipped: gguf-vocabs.tar.zst is not here (needs ../shared and zstd)")
        return 77
    with tempfile.TemporaryDirectory() as tmp:
        models = os.path.join(unpack("gguf-vocabs", tmp), "models")
        qwen = os.path.join(models, "ggml-vocab-qwen2.gguf")
        write_qwen(os.path.join(unpack("tokenizer-qwen", tmp), "qwen.tiktoken"), qwen, "qwen2")
        # the same vocabulary under another name
        with open(qwen, "rb") as f, open(qwen.replace("qwen2", "deepseek-r1-qwen"), "wb") as out:
            pre, other = (struct.pack("<Q", len(s)) + s for s in (b"qwen2", b"deepseek-r1-qwen"))
            head, tail = f.read().split(b"tokenizer.ggml.pre" + struct.pack("<I", 8) + pre)
            out.write(head + b"tokenizer.ggml.pre" + struct.pack("<I", 8) + other + tail)
        found = {n[11:-9] for n in os.listdir(models) if n.endswith(".gguf.inp")} & \
                {n[11:-5] for n in os.listdir(models) if n.endswith(".gguf")}
        if not WANTED <= found:
            print(f"missing vocabularies: {sorted(WANTED - found)}")
            return 1
        return 1 if check_tokenizers.check_vectors(TOOL, models) else 0


if __name__ == "__main__":
    sys.exit(main())
