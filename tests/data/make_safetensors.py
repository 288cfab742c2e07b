#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes tests/data/st_* with the Python package `safetensors` (pip install safetensors==0.8.0 numpy) for
tests/test_safetensors.c, and with --check FILE reads a file that the test wrote: exit 0 if it holds what st_types holds.
Byte i of tensor k is (7 i + 13 k) mod 256."""
import ctypes
import json
import pathlib
import sys

import numpy as np
from safetensors import TensorSpec, safe_open, serialize_file

HERE = pathlib.Path(__file__).parent
SIZES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1,
         "uint8": 1}
SHAPES = [(), (5,), (2, 3), (2, 1, 3), (2, 3, 1, 2), (0, 4)]


def data(k, n):
    return ((np.arange(n, dtype=np.uint32) * 7 + 13 * k) % 256).astype(np.uint8).tobytes()


def tensors():
    for k, kind in enumerate(SIZES):
        shape = SHAPES[k % len(SHAPES)]
        yield "tensor." + kind, {"dtype": kind, "shape": list(shape), "data": data(k, int(np.prod(shape)) * SIZES[kind])}


def save(contents, path, metadata):
    held = {n: ctypes.create_string_buffer(t["data"], len(t["data"])) for n, t in contents.items()}
    specs = {n: TensorSpec(dtype=t["dtype"], shape=t["shape"], data_ptr=ctypes.addressof(held[n]),
                           data_len=len(t["data"])) for n, t in contents.items()}
    serialize_file(specs, path, metadata)


def make():
    save(dict(tensors()), HERE / "st_types.safetensors", {"format": "pt"})
    weight_map = {}
    for i, names in enumerate(["ab", "c"]):
        file = f"st_model-{i + 1:05d}-of-00002.safetensors"
        one = {n: {"dtype": "float32", "shape": [2, 4], "data": data("abc".index(n), 32)} for n in names}
        save(one, HERE / file, {"part": str(i)})
        weight_map.update({n: file for n in names})
    index = {"metadata": {"total_size": 96}, "weight_map": weight_map}
    (HERE / "st_model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def check(path):
    want = dict(tensors())
    with safe_open(path, "np") as f:  # checks offsets and cover
        assert f.metadata() == {"format": "pt"}, f.metadata()
        assert sorted(f.keys()) == sorted(want), f.keys()
        for name, t in want.items():
            assert f.get_slice(name).get_shape() == t["shape"], name
    raw = pathlib.Path(path).read_bytes()
    n = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:8 + n])
    for name, t in want.items():
        begin, end = header[name]["data_offsets"]
        assert raw[8 + n + begin:8 + n + end] == t["data"], name


if len(sys.argv) == 3 and sys.argv[1] == "--check":
    check(sys.argv[2])
else:
    make()
