#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`fathom tokenizer train` against Hugging Face's tokenizers: the same merges, the same ids; and its file against llama.cpp's loader.

usage: check_tokenizer_train.py TEXT… [--vocab-size 4096] [--min-count 2] [--binary build/release/fathom] [--bytes 200000]

Needs tokenizers and llama-cpp-python. Trains on the same texts, each whole, cut by GPT-2's pattern; equal counts are broken alike
(smaller ids first). Then --bytes of each text are encoded by all three. Exit status 1 when anything differs."""
import argparse
import json
import os
import subprocess
import sys
import tempfile

from llama_cpp import Llama
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

SPECIAL = ["<|endoftext|>", "<|pad|>"]


def theirs(args, texts):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=args.vocab_size, min_frequency=args.min_count, special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tok


def ours(args, path):
    command = [args.binary, "tokenizer", "train", *args.texts, "-o", path, "--vocab-size", str(args.vocab_size), "--min-count",
               str(args.min_count), "--json"]
    for text in SPECIAL:
        command += ["--special", text]
    done = subprocess.run(command, capture_output=True, check=True)
    shown = subprocess.run([args.binary, "inspect", path, "--json"], capture_output=True, check=True)
    return json.loads(done.stdout), json.loads(shown.stdout)["metadata"]


def encode_ours(binary, path, text):
    done = subprocess.run([binary, "tokenize", "-m", path, "--json", "-f", "-"], input=text.encode(), capture_output=True, check=True)
    return json.loads(done.stdout)["ids"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--min-count", type=int, default=2)
    parser.add_argument("--binary", default="build/release/fathom")
    parser.add_argument("--bytes", type=int, default=200000)
    args = parser.parse_args()
    texts = []
    for path in args.texts:
        with open(path, encoding="utf-8", newline="") as f:
            texts.append(f.read())
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tokenizer.gguf")
        told, metadata = ours(args, path)
        tok = theirs(args, texts)
        model = json.loads(tok.to_str())["model"]
        merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
        vocab = [t for t, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]
        same = next((i for i, (a, b) in enumerate(zip(merges, metadata["tokenizer.ggml.merges"])) if a != b), None)
        print("merges: %d there, %d here, %s" % (len(merges), len(metadata["tokenizer.ggml.merges"]),
                                                 "the same" if merges == metadata["tokenizer.ggml.merges"] else "first difference at %s" % same))
        bad += merges != metadata["tokenizer.ggml.merges"]
        print("tokens: %d there, %d here, %s" % (len(vocab), told["tokens"],
                                                 "the same" if vocab == metadata["tokenizer.ggml.tokens"] else "different"))
        bad += vocab != metadata["tokenizer.ggml.tokens"]
        llama = Llama(path, vocab_only=True, verbose=False)
        for name, text in zip(args.texts, texts):
            text = text[:args.bytes]
            a, b = encode_ours(args.binary, path, text), tok.encode(text, add_special_tokens=False).ids
            c = llama.tokenize(text.encode(), add_bos=False, special=False)
            print("%s: %d ids, %s, %s" % (name, len(a), "as Hugging Face" if a == b else "NOT as Hugging Face",
                                          "as llama.cpp" if a == list(c) else "NOT as llama.cpp"))
            bad += (a != b) + (a != list(c))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
