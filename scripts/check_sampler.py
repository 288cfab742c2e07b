# SPDX-License-Identifier: MIT
"""Our filters and penalties against llama.cpp's, one by one and chained, on random logits: the same candidates with the same
probabilities.

usage: check_sampler.py --model MODEL.gguf [--build build/release] [--n 60] [--seed 1]

Needs llama-cpp-python and numpy; the model gives llama.cpp the vocabulary its DRY sampler wants, no weights are run. A set of more
than 50 may differ by its least likely members, one and one in 500 (llama.cpp adds floats, we add doubles). Exit status 1 when anything else differs."""
import argparse
import ctypes
import os
import subprocess
import sys
import tempfile

import llama_cpp
import numpy as np


class Bias(ctypes.Structure):
    _fields_ = [("token", ctypes.c_int32), ("bias", ctypes.c_float)]


class Options(ctypes.Structure):
    _fields_ = [("seed", ctypes.c_uint64), ("temperature", ctypes.c_float), ("top_k", ctypes.c_int32),
                ("top_p", ctypes.c_float), ("min_p", ctypes.c_float), ("typical_p", ctypes.c_float),
                ("penalty_last_n", ctypes.c_int32), ("penalty_repeat", ctypes.c_float),
                ("penalty_frequency", ctypes.c_float), ("penalty_presence", ctypes.c_float),
                ("dry_multiplier", ctypes.c_float), ("dry_base", ctypes.c_float), ("dry_allowed_length", ctypes.c_int32),
                ("dry_last_n", ctypes.c_int32), ("dry_breakers", ctypes.POINTER(ctypes.c_int32)),
                ("n_dry_breakers", ctypes.c_size_t), ("mirostat", ctypes.c_int), ("mirostat_tau", ctypes.c_float),
                ("mirostat_eta", ctypes.c_float), ("bias", ctypes.POINTER(Bias)), ("n_bias", ctypes.c_size_t),
                ("max_history", ctypes.c_int32)]


class Prob(ctypes.Structure):
    _fields_ = [("token", ctypes.c_int32), ("logit", ctypes.c_float), ("p", ctypes.c_float)]


def load_ours(build):
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "libfathom-check.so")
    subprocess.check_call(["cc", "-shared", "-o", path, "-Wl,--whole-archive", os.path.join(build, "libfathom.a"),
                           "-Wl,--no-whole-archive", "-lpcre2-8", "-lutf8proc", "-ljansson", "-lcrypto", "-lm", "-pthread"])
    lib = ctypes.CDLL(path)
    lib.fm_sampler_candidates.restype = ctypes.POINTER(Prob)
    os.remove(path)
    os.rmdir(folder)
    return lib


def ours(lib, logits, history, options):
    sampler, err = ctypes.c_void_p(), ctypes.create_string_buffer(516)
    if lib.fm_sampler_new(ctypes.c_int32(len(logits)), ctypes.byref(options), ctypes.byref(sampler), err):
        sys.exit("fm_sampler_new: " + err.raw[52:].split(b"\0")[0].decode())
    for token in history:
        lib.fm_sampler_accept(sampler, ctypes.c_int32(token))
    token, n = ctypes.c_int32(), ctypes.c_size_t()
    status = lib.fm_sampler_sample(sampler, logits.ctypes.data_as(ctypes.c_void_p), ctypes.byref(token), err)
    assert status == 0, status
    c = lib.fm_sampler_candidates(sampler, ctypes.byref(n))
    out = {c[i].token: (c[i].p, c[i].logit) for i in range(n.value)}
    lib.fm_sampler_free(sampler)
    return out


def theirs(samplers, logits, history):
    data = (llama_cpp.llama_token_data * len(logits))()
    view = np.frombuffer(data, dtype=np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)]))
    view["id"], view["logit"] = np.arange(len(logits)), logits
    array = llama_cpp.llama_token_data_array(data=data, size=len(logits), selected=-1, sorted=False)
    for s in samplers:
        for token in history:
            llama_cpp.llama_sampler_accept(s, token)
        llama_cpp.llama_sampler_apply(s, ctypes.byref(array))
    for s in samplers:
        llama_cpp.llama_sampler_free(s)
    kept = view[:array.size].copy()
    kept = kept[np.isfinite(kept["logit"])]
    e = np.exp(kept["logit"].astype(np.float64) - kept["logit"].max())
    return {int(t): (p, float(x)) for t, p, x in zip(kept["id"], e / e.sum(), kept["logit"])}


def compare(name, a, b):
    """'' or what differs."""
    extra, common = set(a) ^ set(b), set(a) & set(b)
    larger = a if len(a) > len(b) else b
    edge = len(b) > 50 and len(extra) <= 1 + len(b) // 500 and extra <= set(sorted(larger, key=lambda t: larger[t][1])[:len(extra)])
    if extra and not edge:
        return f"{name}: {len(a)} candidates, llama.cpp {len(b)}, {len(extra)} not common"
    # logits: two roundings of float and pow's last digit. Probabilities: float sums of up to 50,000 terms; a set that differs at
    # its edge rescales all.
    logit = max((abs(a[t][1] - b[t][1]) / max(1, abs(b[t][1])) for t in common), default=0)
    p = max((abs(a[t][0] - b[t][0]) / max(b[t][0], 1e-9) for t in common), default=0)
    if logit > 2e-6:
        return f"{name}: logits differ by {logit:.2e}"
    return f"{name}: probabilities differ by {p:.2e}" if p > (1e-2 if extra else 3e-4) else ""


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--model", required=True)
    a.add_argument("--build", default=os.path.join(os.path.dirname(__file__), "..", "build", "release"))
    a.add_argument("--n", type=int, default=60)
    a.add_argument("--seed", type=int, default=1)
    o = a.parse_args()
    lib = load_ours(o.build)
    llama = llama_cpp.Llama(o.model, vocab_only=True, verbose=False)
    vocab = llama_cpp.llama_model_get_vocab(llama._model.model)
    n = llama_cpp.llama_vocab_n_tokens(vocab)
    room = ctypes.create_string_buffer(1024)  # Llama.detokenize leaves out pieces longer than 32 bytes
    breakers = []
    for t in range(n):
        length = llama_cpp.llama_token_to_piece(vocab, t, room, len(room), 0, True)
        if b"\n" in room.raw[:max(0, length)]:
            breakers.append(t)
    rng = np.random.default_rng(o.seed)
    bad, counts = [], {}

    def check(name, samplers, logits, history, **options):
        opts = Options(temperature=1, **options)
        if "dry_multiplier" in options:
            ids = (ctypes.c_int32 * len(breakers))(*breakers)
            opts.dry_breakers, opts.n_dry_breakers = ids, len(breakers)
        problem = compare(name, ours(lib, logits, history, opts), theirs(samplers, logits, history))
        counts[name] = counts.get(name, 0) + 1
        if problem:
            bad.append(problem)

    L = llama_cpp
    newline = (ctypes.c_char_p * 1)(b"\n")

    def dry(multiplier, base, allowed, last_n):
        return L.llama_sampler_init_dry(vocab, multiplier, base, allowed, last_n, newline, 1)

    for i in range(o.n):
        logits = (rng.normal(size=n) * rng.choice([1.5, 3, 5])).astype(np.float32)
        alphabet = rng.integers(0, n, 4).tolist() + ([breakers[0]] if i % 3 == 0 else [])
        history = rng.choice(alphabet, rng.integers(0, 200)).tolist()
        if i % 2:  # long repetitions, so that DRY's base shows
            pattern = rng.choice(alphabet, rng.integers(3, 30)).tolist()
            history = (history[:20] + pattern * 8)[:len(history) + 40]
        k, p, m, t = int(rng.integers(1, 400)), float(rng.uniform(.2, .98)), float(rng.uniform(.001, .4)), float(rng.uniform(.2, .95))
        last_n, repeat, freq, pres = int(rng.integers(1, 100)), float(rng.uniform(.8, 1.5)), float(rng.uniform(-.5, 1)), float(rng.uniform(-.5, 1))
        mult, base, allowed, dn = float(rng.uniform(.1, 2)), float(rng.uniform(1.1, 2)), int(rng.integers(1, 5)), int(rng.integers(5, 250))
        check("top_k", [L.llama_sampler_init_top_k(k)], logits, [], top_k=k)
        check("top_p", [L.llama_sampler_init_top_p(p, 1)], logits, [], top_p=p)
        check("min_p", [L.llama_sampler_init_min_p(m, 1)], logits, [], min_p=m)
        check("typical", [L.llama_sampler_init_top_k(2000), L.llama_sampler_init_typical(t, 1)], logits, [], top_k=2000, typical_p=t)
        check("penalties", [L.llama_sampler_init_penalties(n, last_n, repeat, freq, pres)], logits, history,
              penalty_last_n=last_n, penalty_repeat=repeat, penalty_frequency=freq, penalty_presence=pres)
        check("dry", [dry(mult, base, allowed, dn)], logits, history, dry_multiplier=mult, dry_base=base, dry_allowed_length=allowed, dry_last_n=dn)
        check("mirostat", [L.llama_sampler_init_mirostat_v2(1, 5, .1)], logits, [], mirostat=2)
        check("chain", [L.llama_sampler_init_penalties(n, last_n, repeat, freq, pres), dry(mult, base, allowed, dn), L.llama_sampler_init_top_k(k),
                        L.llama_sampler_init_typical(t, 1), L.llama_sampler_init_top_p(p, 1), L.llama_sampler_init_min_p(m, 1)],
              logits, history, penalty_last_n=last_n, penalty_repeat=repeat, penalty_frequency=freq, penalty_presence=pres, dry_multiplier=mult,
              dry_base=base, dry_allowed_length=allowed, dry_last_n=dn, top_k=k, typical_p=t, top_p=p, min_p=m)
    for problem in bad[:20]:
        print(problem)
    print(" ".join(f"{k}={v}" for k, v in counts.items()), f"vocabulary={n} different={len(bad)}")
    return len(bad) > 0


if __name__ == "__main__":
    sys.exit(main())
