# SPDX-License-Identifier: MIT
"""Writes tests/data/ops_golden.bin: outputs and gradients of convolutions, pools, norms over channels and losses as
PyTorch computes them in float64. Usage: make_ops_golden.py OUT (needs torch). tests/test_ops_golden.c reads it.

A file is a row of cases: name[24], i32 number of tensors, then of each: i32 rank, i32 dims[2], f32 values. Tensors stand
in the order inputs, outputs, r, gradients of the inputs that have one; the loss differentiated is sum(output 0 * r).
"""
import struct
import sys

import torch
import torch.nn.functional as F

torch.manual_seed(11)
torch.set_default_dtype(torch.float64)
N = 5


def f32(x):  # what the C side reads is what is differentiated
    return x.to(torch.float32).to(torch.float64)


def rand(*dims):
    return f32(2 * torch.rand(*dims) - 1)


def apart(*dims):  # values far enough from each other that the largest is the same in f32
    n = torch.Size(dims).numel()
    return f32(0.05 * torch.randperm(n).to(torch.float64).reshape(dims) - 0.02 * n)


def write(out, name, inputs, trained, function):
    leaves = [x.clone().requires_grad_(i < trained) for i, x in enumerate(inputs)]
    y = function(*leaves)
    outputs = list(y) if isinstance(y, tuple) else [y]
    r = rand(*outputs[0].shape)
    grads = torch.autograd.grad((outputs[0] * r).sum(), leaves[:trained]) if trained else []
    tensors = inputs + [o.detach() for o in outputs] + [r] + list(grads)
    out.write(struct.pack("<24si", name.encode(), len(tensors)))
    for t in tensors:
        t = t.reshape(t.shape[0], -1) if t.dim() > 1 else t
        out.write(struct.pack("<3i", t.dim(), t.shape[0], t.shape[1] if t.dim() > 1 else 0))
        out.write(t.to(torch.float32).contiguous().numpy().tobytes())


def convolutions(out):
    for name, (c, h, w, o, kh, kw, s, p) in {
        "conv 3x3": (2, 6, 5, 4, 3, 3, 1, 1),
        "conv 2x3 stride 2": (3, 7, 6, 2, 2, 3, 2, 1),
        "conv 1x1": (4, 3, 3, 5, 1, 1, 1, 0),
    }.items():
        inputs = [rand(N, c * h * w), rand(o, c * kh * kw), rand(o)]
        write(out, name, inputs, 3, lambda x, k, b: F.conv2d(
            x.reshape(N, c, h, w), k.reshape(o, c, kh, kw), b, stride=s, padding=p).reshape(N, -1))


def pools(out):
    for name, pool in {"pool max": F.max_pool2d, "pool mean": F.avg_pool2d}.items():
        for k, s, p in ((2, 2, 0), (3, 2, 1)):
            write(out, f"{name} {k}", [apart(N, 2 * 6 * 7)], 1,
                  lambda x: pool(x.reshape(N, 2, 6, 7), k, stride=s, padding=p).reshape(N, -1))


def norms(out):
    x, w, b, mean, var = rand(N, 4 * 6), rand(4), rand(4), rand(4), rand(4).abs()

    def batchnorm(x, w, b, mean, var):
        mean, var = mean.clone(), var.clone()
        y = F.batch_norm(x.reshape(N, 4, 6), mean, var, w, b, training=True, momentum=0.1, eps=1e-5)
        return y.reshape(N, -1), mean, var

    write(out, "batchnorm", [x, w, b, mean, var], 3, batchnorm)
    write(out, "batchnorm fixed", [x, w, b, mean, var], 0,
          lambda x, w, b, mean, var: F.batch_norm(x.reshape(N, 4, 6), mean, var, w, b, eps=1e-5).reshape(N, -1))
    for groups in (1, 2, 4):
        write(out, f"groupnorm {groups}", [x, w, b], 3,
              lambda x, w, b: F.group_norm(x.reshape(N, 4, 6), groups, w, b, eps=1e-5).reshape(N, -1))


def losses(out):
    x, y, weights = 4 * rand(N, 9), 4 * rand(N, 9), rand(N).abs()
    write(out, "mse", [x, y, weights], 1, lambda x, y, w: w * F.mse_loss(x, y, reduction="none").mean(1))
    write(out, "bce", [x, f32(torch.sigmoid(y)), weights], 1,
          lambda x, y, w: w * F.binary_cross_entropy_with_logits(x, y, reduction="none").mean(1))
    for t in (1.0, 2.5):
        write(out, f"kl {t}", [x, y, weights], 1, lambda x, y, w: w * t * t * F.kl_div(
            F.log_softmax(x / t, 1), F.softmax(y / t, 1), reduction="none").sum(1))

    targets = torch.tensor([3, 0, 8, 8, 1])  # as tests/test_ops_golden.c
    for smoothing in (0.0, 0.1):
        write(out, f"cross entropy {smoothing}", [x, weights], 1, lambda x, w: w * F.cross_entropy(
            x, targets, reduction="none", label_smoothing=smoothing))

    def contrastive(a, b, w):
        s, own = a @ b.T / 0.7, torch.arange(N)
        return w * 0.5 * (F.cross_entropy(s, own, reduction="none") + F.cross_entropy(s.T, own, reduction="none"))

    write(out, "contrastive", [rand(N, 6), rand(N, 6), weights], 2, contrastive)


def main():
    with open(sys.argv[1], "wb") as out:
        convolutions(out)
        pools(out)
        norms(out)
        losses(out)


main()
