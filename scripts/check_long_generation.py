#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Long texts under default sampling, ours beside llama.cpp's: do they stay as sane as the peer's?

    python3 scripts/check_long_generation.py --model MODEL.gguf [--fathom build/release/fathom] [--seeds 6] [-n 2000]

needs llama-cpp-python. Both programs continue the same prompts at temperature 0.8, top-k 40, top-p 0.95, min-p 0.05, the end of
text forbidden. A small model that may not stop falls into loops, with any program: so what is held against the peer is how
often. For each text: the share of its 8-grams (of words) that occurred before, and whether its last quarter is a loop (more
than half of it). Texts must be UTF-8. Exit status 1 if ours loop in two more texts than the peer's or a text is not UTF-8. One
JSON line a text, then one a program."""
import argparse
import json
import statistics
import subprocess
import sys

PROMPTS = ["The history of the lighthouse begins", "Dear Anna,\n\nyesterday we", "In order to bake bread,"]


def repeated(words, n=8):
    """Share of n-grams that occurred before, in the whole text and in its last quarter."""
    seen, hits = set(), []
    for i in range(len(words) - n + 1):
        gram = tuple(words[i:i + n])
        hits.append(gram in seen)
        seen.add(gram)
    last = hits[len(hits) * 3 // 4:]
    return sum(hits) / max(1, len(hits)), sum(last) / max(1, len(last))


def ours(args, prompt, seed):
    done = subprocess.run([args.fathom, "generate", "-m", args.model, "-p", prompt, "-n", str(args.n), "--ignore-eos", "-s", str(seed),
                           "--temp", "0.8", "-c", str(args.n + 64)], check=True, capture_output=True)
    return done.stdout.decode("utf-8")  # strict


def peers(llm, args, prompt, seed):
    llm.set_seed(seed)
    llm.reset()
    forbidden = {str(llm.token_eos()): -1e9}
    for text in ("<|endoftext|>", "<|im_end|>", "<end_of_turn>", "<eos>"):
        ids = llm.tokenize(text.encode(), add_bos=False, special=True)
        if len(ids) == 1:
            forbidden[str(ids[0])] = -1e9
    out = llm.create_completion(prompt, max_tokens=args.n, temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, repeat_penalty=1.0,
                                logit_bias=forbidden, seed=seed)
    return out["choices"][0]["text"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--fathom", default="build/release/fathom")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("-n", type=int, default=2000)
    args = parser.parse_args()
    import llama_cpp
    llm = llama_cpp.Llama(args.model, n_ctx=args.n + 64, verbose=False)
    loops = {}
    for name, run in (("fathom", ours), ("llama.cpp", lambda *more: peers(llm, *more))):
        whole, ends = [], []
        for i in range(args.seeds):
            prompt = PROMPTS[i % len(PROMPTS)]
            words = run(args, prompt, 1 + i).split()
            share, last = repeated(words)
            whole.append(share)
            ends.append(last)
            print(json.dumps({"program": name, "seed": 1 + i, "words": len(words), "repeated": round(share, 3), "repeated_at_end": round(last, 3)}),
                  flush=True)
        loops[name] = sum(x > 0.5 for x in ends)
        print(json.dumps({"program": name, "texts": args.seeds, "repeated_median": round(statistics.median(whole), 3), "loops": loops[name]}))
    return 1 if loops["fathom"] > loops["llama.cpp"] + 1 else 0


if __name__ == "__main__":
    sys.exit(main())
