#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The rows of the speed table: their names, what is asked of them, and reading results/*.jsonl.

A result line is one repeat: {when, commit, cpu, series, phase, row, engine, version, flags, command, value, unit, turn, …};
phase is "sweep" (a flag setting tried once), "turn" (one of the interleaved repeats) or "profile" (where a step's time went).
`commit` is the last one that touched what is built; `series` counts how often a row was measured afresh at that commit.
"""
import glob
import json
import os
import statistics

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RESULTS = os.path.join(ROOT, "results")
PEERS = ["llama.cpp", "ik_llama.cpp"]

# As a multiple of the better peer: row → (without AMX, with AMX).
TIMES_PEER = {
    "smollm2/decode@0": (1.25, 1.25), "smollm2/prefill@0": (1.5, 2), "smollm2/prefill@4096": (1.7, 3), "smollm2/prefill@8192": (2, 3),
    "smollm2/prefill@14000": (2, 3), "smollm2/decode@4096": (2.5, 2.5), "smollm2/decode@8192": (3, 3), "smollm2/decode@14000": (3.5, 3.5),
    "gemma3/prefill@0": (1.3, 1.3), "gemma3/decode@0": (0.97, 0.97),
}
SHARE = {"smollm2/decode@0": 0.8, "gemma3/decode@0": 0.9}  # of the bound measured beside it
TIMES_ONE = {"smollm2/sessions16": 4}                      # of one session's tokens/s, measured in the same turn
AT_MOST = {"smollm2/first-token": 0.5}                     # in the row's unit
MEMORY = "smollm2/peak-memory"                             # at most 1.15 × file + KV + 64 MB
WALL, WALL_WITHIN = "smollm2/wall-clock", 0.05             # of bench's own figure, from the same turns
MODEL_NAMES = {"smollm2": "SmolLM2-135M Q4_1", "gemma3": "Gemma 3 270M Q4_K_M"}
OWN_NAMES = {"sessions16": "16 sessions decoding together", "first-token": "process start to first token", "peak-memory": "peak memory",
             "wall-clock": "decode by the wall clock"}


def split(row):
    """("smollm2", "prefill", 4096); depth is None where there is none."""
    model, _, rest = row.partition("/")
    kind, at, depth = rest.partition("@")
    return model, kind, int(depth) if at else None


def title(row):
    model, kind, depth = split(row)
    if model in ("kernels", "machine"):
        return kind
    words = {"prefill": "prefill 512", "decode": "decode"}.get(kind, OWN_NAMES.get(kind, kind))
    return f"{MODEL_NAMES.get(model, model)}: {words}" + (f" at depth {depth:,}" if depth else "")


def kernel_goal(name, has_amx):
    """What share of which peak is asked of a product, or None: ("own" | "bf16", share). The smallest size asked is 512×1536×576."""
    types, _, size = name.rpartition(" ")
    act, _, dtype = types.partition(" x ")
    n, o, k = (int(x) for x in size.split("x"))
    if n < 512:
        return None  # single tokens: bounded by bytes, judged as decode
    if act == "q8a":
        return ("bf16", 0.35) if has_amx else ("own", 0.45)
    on_tiles = has_amx and act in ("bf16", "q8r")
    if on_tiles and (n < 2048 or o < 1536 or k < 1536):
        return None
    return ("own", 0.4 if on_tiles else 0.7) if dtype == {"q8r": "i8"}.get(act, act) else None


def load(folder=RESULTS):
    """Every result line, in order of files and lines; a line that is none names itself."""
    found = []
    for path in sorted(glob.glob(os.path.join(folder, "*.jsonl"))):
        with open(path, encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                try:
                    row = json.loads(line)
                    found.append({**row, "file": os.path.basename(path), "phase": row["phase"], "row": row["row"]})
                except (ValueError, KeyError, TypeError):
                    raise SystemExit(f"{os.path.basename(path)}:{number}: is no result line (want an object with phase and row)") from None
    return found


def spread(values):
    """(largest − smallest) / median"""
    median = statistics.median(values)
    return (max(values) - min(values)) / median if median else 0.0
