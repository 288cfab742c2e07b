#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes tests/data/gguf_*.gguf with the Python package `gguf` (pip install gguf==0.19.0): what another program's
writer makes, for tests/test_gguf.c to read. Byte i of tensor k is (7 i + 13 k) mod 256."""
import pathlib
import struct

import gguf
import numpy as np

HERE = pathlib.Path(__file__).parent
TYPES = ["F32", "F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL",
         "IQ4_XS", "I8", "I16", "I32", "I64", "F64", "BF16"]


def data(k, n):
    return ((np.arange(n, dtype=np.uint32) * 7 + 13 * k) % 256).astype(np.uint8)


def add_tensor(writer, k, name, dims, kind):
    """dims outermost first, in elements."""
    kind = gguf.GGMLQuantizationType[kind]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    assert dims[-1] % block == 0
    shape = list(dims[:-1]) + [dims[-1] // block * size]
    raw = data(k, int(np.prod(shape))).reshape(shape)
    writer.add_tensor(name, raw, raw_dtype=kind)


def save(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def types():
    w = gguf.GGUFWriter(HERE / "gguf_types.gguf", "test")
    w.add_custom_alignment(64)
    w.add_uint8("t.u8", 200)
    w.add_int8("t.i8", -100)
    w.add_uint16("t.u16", 60000)
    w.add_int16("t.i16", -30000)
    w.add_uint32("t.u32", 4000000000)
    w.add_int32("t.i32", -2000000000)
    w.add_uint64("t.u64", 2**63 + 5)
    w.add_int64("t.i64", -2**62)
    w.add_float32("t.f32", 1.5)
    w.add_float64("t.f64", 0.1)
    w.add_bool("t.yes", True)
    w.add_bool("t.no", False)
    w.add_string("t.text", "Grüße, 世界")
    w.add_array("t.ints", [1, -2, 3])
    w.add_array("t.reals", [0.5, -0.25])
    w.add_array("t.bools", [True, False, True])
    w.add_array("t.words", ["a", "", "long enough to be seen", "ü"])
    w.add_array("t.nested", [[1, 2], [3], [4, 5, 6]])
    w.add_array("t.nested_words", [["a", "bc"], ["def"]])
    for k, kind in enumerate(TYPES):
        dims = [(512,), (2, 256), (3, 1, 256), (2, 1, 2, 256)][k % 4]
        if k % 4 == 3 and k > 13:
            dims = (2, 3, 2, 5)
        add_tensor(w, k, "tensor." + kind.lower(), dims, kind)
    save(w)


def small():
    path = HERE / "gguf_small.gguf"
    w = gguf.GGUFWriter(path, "test")
    w.add_array("tokens", ["x", "yz"])
    w.add_array("nested", [["a"], ["b"]])
    w.add_bool("yes", True)
    add_tensor(w, 0, "a", (2, 3), "F32")
    add_tensor(w, 1, "b", (64,), "Q8_0")
    add_tensor(w, 2, "c", (32,), "F16")
    save(w)
    raw = bytearray(path.read_bytes())
    raw[4:8] = struct.pack("<I", 2)  # versions 2 and 3 differ in the number alone
    (HERE / "gguf_v2.gguf").write_bytes(raw)


def split():
    w = gguf.GGUFWriter(HERE / "gguf_split.gguf", "test", split_max_tensors=2)
    w.add_string("t.text", "in the first file")
    for k, name in enumerate("abcde"):
        add_tensor(w, k, name, (4, 8), "F32")
    save(w)


types()
small()
split()
