#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Layers: a folder includes only what lies below it (docs: the design's layer table). Exit 1 with a line per breach.

--self-test breaks the rules in a temporary tree and checks that each breach is seen."""
import os
import re
import sys
import tempfile

# Folder → the folders that it may include besides itself. Spelt out, because "below" is not a line: siblings of one layer
# do not know each other, and format and text stand on the tensors only.
BASE = {"base"}
TENSOR = BASE | {"tensor"}
GRAPH = TENSOR | {"graph", "ops"}
DEVICE = GRAPH | {"device"}
FORMAT = TENSOR | {"format"}
MODEL = DEVICE | FORMAT
INFER = MODEL | {"model", "text", "vision"}
ABOVE_INFER = INFER | {"infer", "train"}
SERVE = ABOVE_INFER | {"learn", "compress", "eval"}
ALLOWED = {
    "base": set(),
    "tensor": BASE,
    "graph": TENSOR | {"ops"},
    "ops": TENSOR | {"graph"},
    "device": GRAPH,
    "format": TENSOR,
    "text": TENSOR | {"format"},
    "vision": TENSOR | {"format"},
    "model": MODEL,
    "infer": INFER,
    "train": INFER,
    "learn": ABOVE_INFER,
    "compress": ABOVE_INFER,
    "eval": ABOVE_INFER,
    "serve": SERVE,
    "solutions": SERVE | {"serve"},
}
# Public headers belong to the folder that implements them.
PUBLIC = {
    "status": "base", "pool": "base", "dtype": "tensor", "tensor": "tensor", "graph": "graph", "op": "ops", "ops": "ops",
    "adapter": "model", "device": "device", "plan": "device", "gguf": "format", "safetensors": "format", "tokenizer": "text",
    "template": "text", "model": "model", "session": "infer", "sampler": "infer", "batch": "infer", "train": "train",
}
INCLUDE = re.compile(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]')


def folder_of(include):
    """The src folder that an included path belongs to; None for system headers and files of the same folder."""
    parts = include.split("/")
    if parts[0] == "fathom" and len(parts) == 2:
        return PUBLIC.get(parts[1].rsplit(".", 1)[0])
    return parts[0] if len(parts) > 1 and parts[0] in ALLOWED else None


def check_file(path, rel, allowed, own, found):
    with open(path, encoding="utf-8", errors="replace") as f:
        for number, line in enumerate(f, 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            target = folder_of(match.group(1))
            if target and target != own and target not in allowed:
                found.append(f"{rel}:{number}: {own or 'a public header'} must not include {match.group(1)} (folder {target})")
            if match.group(1).startswith(("apps/", "tests/", "..")) or (own and "cmd_" in match.group(1)):
                found.append(f"{rel}:{number}: include of {match.group(1)}: upwards or by a relative path")


def check(root):
    found = []
    for base, _, names in os.walk(os.path.join(root, "src")):
        for name in sorted(names):
            if not name.endswith((".c", ".h", ".def", ".inc")):
                continue
            path = os.path.join(base, name)
            rel = os.path.relpath(path, root)
            own = rel.split(os.sep)[1]
            if own not in ALLOWED:
                found.append(f"{rel}: folder src/{own} is not in the table of scripts/check_layers.py")
                continue
            check_file(path, rel, ALLOWED[own], own, found)
    public = os.path.join(root, "include", "fathom")
    for name in sorted(os.listdir(public)) if os.path.isdir(public) else []:
        with open(os.path.join(public, name), encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                match = INCLUDE.match(line)
                if match and "/" in match.group(1) and not match.group(1).startswith(("fathom/", "sys/")):
                    found.append(f"include/fathom/{name}:{number}: a public header includes the private {match.group(1)}")
    return found


def self_test():
    breaches = {
        "src/base/a.c": '#include "tensor/x.h"\n', "src/infer/b.c": '#include "train/x.h"\n',
        "src/learn/c.c": '#include "eval/x.h"\n', "src/format/d.c": '#include "device/x.h"\n',
        "src/base/e.c": '#include <fathom/gguf.h>\n', "include/fathom/f.h": '#include "base/x.h"\n',
        "src/nowhere/g.c": "\n", "src/text/h.c": '#include "../graph/x.h"\n',
    }
    fine = {"src/learn/ok.c": '#include "infer/x.h"\n#include "base/y.h"\n#include <stdio.h>\n', "src/graph/ok.c": '#include "ops/x.h"\n'}
    with tempfile.TemporaryDirectory() as root:
        for name, text in {**breaches, **fine}.items():
            os.makedirs(os.path.join(root, os.path.dirname(name)), exist_ok=True)
            with open(os.path.join(root, name), "w", encoding="utf-8") as f:
                f.write(text)
        seen = {line.split(":")[0] for line in check(root)}
    assert seen == set(breaches), f"missed {set(breaches) - seen}, wrongly accused {seen - set(breaches)}"


if __name__ == "__main__":
    if "--self-test" in sys.argv:
        self_test()
        sys.exit(0)
    problems = check(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    print("\n".join(problems) if problems else "layers: clean")
    sys.exit(1 if problems else 0)
