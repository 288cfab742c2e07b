#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""log p of `fathom eval` against llama.cpp's, example by example, on the same GGUF file.

usage: check_eval.py --model MODEL.gguf --task choice|lambada EXAMPLES.jsonl [--n 40] [--binary build/release/fathom] [--tolerance 0.2]
                     [-- EVAL OPTIONS…]

Needs llama-cpp-python and numpy. Tokens are cut here anew, by llama.cpp's tokenizer. On quantised files the engines round activations
and caches differently, some 0.1 a token for unlikely ones; on a file of f32 weights with `-- --kv f16` --tolerance 0.002 holds. Exit status
1 when the mean of |Δ log p| a token is above it, or more than one pick in twenty differs where llama.cpp's two best are more than
that apart."""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
from llama_cpp import Llama


def log_p(llama, context, continuation):
    """Sum of log p of the continuation's tokens, their number, whether all are first choices."""
    stripped = context.rstrip(" \n")
    continuation = context[len(stripped):] + continuation
    before = llama.tokenize(stripped.encode(), add_bos=llama.metadata.get("tokenizer.ggml.add_bos_token") == "true")
    whole = llama.tokenize((stripped + continuation).encode(), add_bos=llama.metadata.get("tokenizer.ggml.add_bos_token") == "true")
    llama.reset()
    llama.eval(whole)
    total, greedy = 0.0, True
    for at in range(len(before), len(whole)):
        logits = np.asarray(llama.scores[at - 1], dtype=np.float64)
        top = logits.max()
        total += logits[whole[at]] - top - np.log(np.exp(logits - top).sum())
        greedy &= int(logits.argmax()) == whole[at]
    return total, len(whole) - len(before), greedy


def ours(args, path):
    out = os.path.join(path, "predictions.jsonl")
    subprocess.run([args.binary, "eval", "--task", args.task, args.examples, "-m", args.model, "--limit", str(args.n), "--predictions", out,
                    "--json", *args.more], check=True, stdout=subprocess.DEVNULL)
    with open(out, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("examples")
    parser.add_argument("--model", required=True)
    parser.add_argument("--task", required=True, choices=["choice", "lambada"])
    parser.add_argument("--n", type=int, default=40)
    parser.add_argument("--binary", default="build/release/fathom")
    parser.add_argument("--tolerance", type=float, default=0.2)
    parser.add_argument("--threads", type=int, default=2)
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args = parser.parse_args(sys.argv[1:at])
    args.more = sys.argv[at + 1:]
    with tempfile.TemporaryDirectory() as folder:
        mine = ours(args, folder)
    with open(args.examples, encoding="utf-8") as f:
        rows = [json.loads(line) for line in f if line.strip()][:args.n]
    llama = Llama(args.model, n_ctx=1024, logits_all=True, verbose=False, n_threads=args.threads, n_threads_batch=args.threads)
    deltas, differ, picks = [], 0, 0
    for row, got in zip(rows, mine):
        if args.task == "lambada":
            context, _, word = row["text"].rstrip(" \t\r\n").rpartition(" ")
            want, n, greedy = log_p(llama, context, " " + word)
            deltas.append(abs(want - got["log_p"]) / n)
            picks += 1
            differ += greedy != got["correct"]
            continue
        scores = []
        for choice, score in zip(row["choices"], got["scores"]):
            want, n, _ = log_p(llama, row["context"], " " + choice)
            deltas.append(abs(want - score) / n)
            scores.append(want)
        best = sorted(scores, reverse=True)
        if best[0] - best[1] > args.tolerance:
            picks += 1
            differ += int(np.argmax(scores)) != got["predicted"]
    print("%d log p compared: mean |Δ| a token %.5f, largest %.5f; %d of %d picks differ" %
          (len(deltas), np.mean(deltas), np.max(deltas), differ, picks))
    return 1 if np.mean(deltas) > args.tolerance or differ > max(1, picks / 20) else 0


if __name__ == "__main__":
    sys.exit(main())
