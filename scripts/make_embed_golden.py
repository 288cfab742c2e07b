# SPDX-License-Identifier: MIT
"""Writes tests/data/tiny/embed.json: llama.cpp's embeddings (mean and last pooling, length 1, f32 cache) of one text by
the tiny models. Needs llama-cpp-python. With --check MODEL TEXT it prints the cosine of ours to its instead."""
import json
import os
import subprocess
import sys

import llama_cpp

TINY = os.path.join(os.path.dirname(__file__), "../tests/data/tiny")
TEXT = "the thing in the"
KINDS = {"mean": llama_cpp.LLAMA_POOLING_TYPE_MEAN, "last": llama_cpp.LLAMA_POOLING_TYPE_LAST}


def vector(path, text, kind):
    model = llama_cpp.Llama(path, embedding=True, pooling_type=KINDS[kind], n_ctx=512, type_k=0, type_v=0, verbose=False)
    return model.embed(text, normalize=True)


def check(path, text):
    for kind in KINDS:
        done = subprocess.run([os.environ["FATHOM_BIN"], "embed", "-m", path, text, "--pooling", kind, "--json"],
                              capture_output=True, check=True)
        ours = json.loads(done.stdout)["embedding"]
        print(kind, sum(x * y for x, y in zip(ours, vector(path, text, kind))))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        check(*sys.argv[2:])
    else:
        golden = {name: {kind: [round(x, 9) for x in vector(f"{TINY}/{name}.gguf", TEXT, kind)] for kind in KINDS}
                  for name in ("llama", "qwen3", "gemma3", "gpt2")}
        with open(f"{TINY}/embed.json", "w") as f:
            json.dump({"text": TEXT, "vectors": golden}, f)
            f.write("\n")
