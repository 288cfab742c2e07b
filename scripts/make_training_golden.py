# SPDX-License-Identifier: MIT
"""Writes tests/data/train_step.bin: a random 2-layer llama, its loss, weight gradients, and one AdamW step, in float64.

The gradients come from the Python package `autograd` (reverse mode over numpy); the step is torch.optim.AdamW's documented
rule. Usage: make_training_golden.py OUT. The C side is tests/test_train_step.c; sizes stand in both.
"""
import struct
import sys

import autograd.numpy as np
import numpy
from autograd import grad

V, D, H, K, E, F, LAYERS, DOCUMENTS = 20, 16, 4, 2, 4, 24, 2, (7, 5)
LR, BETA1, BETA2, EPS, DECAY, STEP = 1e-2, 0.9, 0.999, 1e-8, 0.1, 3
rng = numpy.random.default_rng(5)


def f32(x):  # what the C side reads is what is differentiated
    return numpy.asarray(x, dtype=numpy.float32).astype(numpy.float64)


def shapes():
    yield "embedding", (V, D)
    for i in range(LAYERS):
        yield f"attn_norm.{i}", (D,)
        yield f"q.{i}", (H * E, D)
        yield f"k.{i}", (K * E, D)
        yield f"v.{i}", (K * E, D)
        yield f"o.{i}", (D, H * E)
        yield f"ffn_norm.{i}", (D,)
        yield f"gate.{i}", (F, D)
        yield f"up.{i}", (F, D)
        yield f"down.{i}", (D, F)
    yield "output_norm", (D,)


def norm(x, w):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-5) * w


def rope(x, positions, heads):
    x = x.reshape(len(positions), heads, E // 2, 2)
    angle = positions[:, None] * 10000.0 ** (-2.0 * numpy.arange(E // 2) / E)[None, :]
    c, s = numpy.cos(angle)[:, None, :], numpy.sin(angle)[:, None, :]
    a, b = x[..., 0], x[..., 1]
    return np.stack([a * c - b * s, a * s + b * c], axis=-1)


def loss_of(w, tokens, targets, weights, slots, positions):
    n = len(tokens)
    seen = (slots[:, None] == slots[None, :]) & (numpy.arange(n)[:, None] >= numpy.arange(n)[None, :])
    x = w["embedding"][tokens]
    for i in range(LAYERS):
        a = norm(x, w[f"attn_norm.{i}"])
        q = rope(a @ w[f"q.{i}"].T, positions, H).reshape(n, H, E)
        k = rope(a @ w[f"k.{i}"].T, positions, K).reshape(n, K, E)
        v = (a @ w[f"v.{i}"].T).reshape(n, K, E)
        rows = []
        for h in range(H):
            s = q[:, h] @ k[:, h // (H // K)].T / numpy.sqrt(E) + numpy.where(seen, 0.0, -1e30)
            p = np.exp(s - np.max(s, axis=1, keepdims=True))
            rows.append(p / np.sum(p, axis=1, keepdims=True) @ v[:, h // (H // K)])
        x = x + np.concatenate(rows, axis=1) @ w[f"o.{i}"].T
        a = norm(x, w[f"ffn_norm.{i}"])
        gate = a @ w[f"gate.{i}"].T
        x = x + (gate / (1 + np.exp(-gate)) * (a @ w[f"up.{i}"].T)) @ w[f"down.{i}"].T
    logits = norm(x, w["output_norm"]) @ w["embedding"].T
    top = np.max(logits, axis=1)
    lse = np.log(np.sum(np.exp(logits - top[:, None]), axis=1)) + top
    return np.sum(weights * (lse - logits[numpy.arange(n), numpy.maximum(targets, 0)]))


def main():
    n = sum(DOCUMENTS)
    slots = numpy.concatenate([numpy.full(d, i) for i, d in enumerate(DOCUMENTS)])
    positions = numpy.concatenate([numpy.arange(d) for d in DOCUMENTS])
    tokens = rng.integers(0, V, n)
    targets = numpy.where((numpy.arange(n) + 1) % n, numpy.roll(tokens, -1), -1)
    targets[DOCUMENTS[0] - 1] = -1
    counted = (targets >= 0).sum()
    weights = f32(numpy.where(targets >= 0, 1.0 / counted, 0.0))
    w = {}
    for name, shape in shapes():
        scale = 1.0 if len(shape) == 1 else 1.5 / numpy.sqrt(shape[1])
        w[name] = f32((1.0 if len(shape) == 1 else 0.0) + scale * rng.uniform(-1, 1, shape) * (0.3 if len(shape) == 1 else 1))
    args = (tokens, targets, weights, slots, positions)
    loss = loss_of(w, *args)
    d = grad(loss_of)(w, *args)
    with open(sys.argv[1], "wb") as out:
        for ints in (tokens, targets, slots, positions):
            out.write(numpy.asarray(ints, dtype="<i4").tobytes())
        out.write(weights.astype("<f4").tobytes())
        out.write(struct.pack("<d", loss))
        for name, shape in shapes():
            g = d[name]
            m, v = f32(0.01 * rng.uniform(-1, 1, shape)), f32((0.02 * rng.uniform(-1, 1, shape)) ** 2 + 1e-5)
            m_next = BETA1 * m + (1 - BETA1) * g
            v_next = BETA2 * v + (1 - BETA2) * g * g
            p = w[name] * (1 - LR * DECAY)
            p = p - LR / (1 - BETA1**STEP) * m_next / (numpy.sqrt(v_next) / numpy.sqrt(1 - BETA2**STEP) + EPS)
            for x in (w[name], m, v, g, p, m_next, v_next):
                out.write(numpy.asarray(x, dtype="<f4").tobytes())


main()
