# SPDX-License-Identifier: MIT
# Writes blocks.bin, the fixture of tests/test_blocks.c: for each weight type two super-blocks of random bytes (scales
# finite, some subnormal, some zero) and the values that the `gguf` Python package decodes them to.
# Record: i32 GGUF type, i32 elements n, i32 bytes, the bytes, f32[n]. Run: python3 make_blocks.py  (needs gguf, numpy)
import os
import struct

import gguf
import numpy as np

rng = np.random.default_rng(20261125)
# byte offsets of the binary16 fields in a block
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "F16": [0], "BF16": [0]}
N = 512
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "blocks.bin"), "wb") as f:
    for name, halves in HALVES.items():
        t = gguf.GGMLQuantizationType[name]
        elements, size = gguf.GGML_QUANT_SIZES[t]
        blocks = rng.integers(0, 256, (N // elements, size), dtype=np.uint8)
        for at in halves:
            h = rng.normal(0, 0.05, len(blocks)).astype(np.float16)
            h[:: max(2, len(h) // 4)] = np.float16(3e-7)  # subnormal
            h[-1] = np.float16(0 if len(h) > 4 else -1.5)
            if name == "BF16":
                h = (rng.normal(0, 1, len(blocks)).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
            blocks[:, at:at + 2] = h.view(np.uint8).reshape(-1, 2)
        values = gguf.quants.dequantize(blocks, t).astype(np.float32).reshape(-1)
        assert values.size == N and np.isfinite(values).all()
        raw = blocks.tobytes()
        f.write(struct.pack("<iii", int(t), N, len(raw)) + raw + values.tobytes())
