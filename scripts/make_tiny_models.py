#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes the tiny random models of tests/data/tiny and llama.cpp's logits for them.

    python3 scripts/make_tiny_models.py tests/data/tiny          # needs numpy, gguf, llama-cpp-python

Weights are random (fixed seeds): no model's weights are in them. The vocabulary is a byte-level BPE: 256 bytes, a few
merges, two special tokens. NAME.logits holds llama.cpp's logits (f32 weights, f32 KV, one thread) for 300 tokens
(NAME.tokens, i32) at the positions of POSITIONS, as f32 [len(POSITIONS), vocab].
"""
import os
import sys

import numpy as np
from gguf import GGMLQuantizationType as Q
from gguf import GGUFWriter, quants

POSITIONS = [0, 1, 6, 7, 63, 64, 127, 128, 191, 255, 299]
MERGES = ["t h", "h e", "Ġ t", "Ġt h", "Ġth e", "i n", "a n", "e r", "o n", "Ġ a", "r e", "an d", "Ġ o", "o u", "e s",
          "Ġ s", "Ġ w", "Ġ in", "in g", "Ġ c", "o r", "a t", "i s", "l l", "Ġ b", "Ġ p", "Ġ f", "Ġ m", "e n", "i t"]


def byte_alphabet():
    """GPT-2's map from bytes to printable characters."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    extra = [b for b in range(256) if b not in keep]
    return {**{b: chr(b) for b in keep}, **{b: chr(256 + i) for i, b in enumerate(extra)}}


def vocabulary():
    tokens = list(byte_alphabet().values()) + [m.replace(" ", "") for m in MERGES] + ["<|im_start|>", "<|im_end|>"]
    types = [1] * (len(tokens) - 2) + [3, 3]
    return tokens, types


TEMPLATE = ("{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


class Maker:
    def __init__(self, path, arch, seed, c, quant=None):
        self.w, self.rng, self.c, self.quant = GGUFWriter(path, arch), np.random.default_rng(seed), c, quant
        tokens, types = vocabulary()
        self.n_vocab = len(tokens)
        w = self.w
        w.add_name(os.path.basename(path)[:-5])
        w.add_license("MIT")
        w.add_block_count(c["layers"]); w.add_embedding_length(c["d"]); w.add_context_length(512)
        w.add_head_count(c["heads"]); w.add_feed_forward_length(c["ff"])
        w.add_tokenizer_model("gpt2"); w.add_tokenizer_pre("gpt-2")
        w.add_token_list(tokens); w.add_token_types(types); w.add_token_merges(MERGES)
        w.add_bos_token_id(self.n_vocab - 2); w.add_eos_token_id(self.n_vocab - 1)
        w.add_add_bos_token(False); w.add_chat_template(TEMPLATE)

    def t(self, name, *shape, scale=None, around=0.0):
        scale = scale if scale is not None else 1.0 / np.sqrt(shape[-1])
        x = (self.rng.standard_normal(shape) * scale + around).astype(np.float32)
        if self.quant and len(shape) == 2 and shape[-1] % 32 == 0:
            self.w.add_tensor(name, quants.quantize(x, self.quant), raw_dtype=self.quant)
        else:
            self.w.add_tensor(name, x)

    def norm(self, name, n):
        self.t(name, n, scale=0.1, around=1.0)

    def finish(self):
        self.w.write_header_to_file(); self.w.write_kv_data_to_file(); self.w.write_tensors_to_file(); self.w.close()


def gated(path, arch, seed, c, quant=None):
    """llama, qwen2, qwen3, gemma3."""
    m = Maker(path, arch, seed, c, quant)
    d, h, k, e, ff = c["d"], c["heads"], c["kv"], c["e"], c["ff"]
    m.w.add_head_count_kv(k); m.w.add_layer_norm_rms_eps(1e-5); m.w.add_rope_freq_base(c.get("base", 10000.0))
    m.w.add_key_length(e); m.w.add_value_length(e)
    if arch == "llama":
        m.w.add_rope_dimension_count(e); m.w.add_vocab_size(m.n_vocab)
    if "window" in c:
        m.w.add_sliding_window(c["window"])
    m.t("token_embd.weight", m.n_vocab, d, scale=1.0)
    m.norm("output_norm.weight", d)
    if not c.get("tied"):
        m.t("output.weight", m.n_vocab, d)
    for i in range(c["layers"]):
        p = f"blk.{i}."
        m.norm(p + "attn_norm.weight", d); m.norm(p + "ffn_norm.weight", d)
        m.t(p + "attn_q.weight", h * e, d, scale=2 / np.sqrt(d)); m.t(p + "attn_k.weight", k * e, d, scale=2 / np.sqrt(d))
        m.t(p + "attn_v.weight", k * e, d); m.t(p + "attn_output.weight", d, h * e)
        if arch == "qwen2":
            m.t(p + "attn_q.bias", h * e, scale=0.5); m.t(p + "attn_k.bias", k * e, scale=0.5); m.t(p + "attn_v.bias", k * e, scale=0.5)
        if arch in ("qwen3", "gemma3"):
            m.norm(p + "attn_q_norm.weight", e); m.norm(p + "attn_k_norm.weight", e)
        if arch == "gemma3":
            m.norm(p + "post_attention_norm.weight", d); m.norm(p + "post_ffw_norm.weight", d)
        m.t(p + "ffn_gate.weight", ff, d); m.t(p + "ffn_up.weight", ff, d); m.t(p + "ffn_down.weight", d, ff)
    m.finish()


def gpt2(path, seed, c):
    m = Maker(path, "gpt2", seed, c)
    d, ff = c["d"], c["ff"]
    m.w.add_layer_norm_eps(1e-5)
    m.t("token_embd.weight", m.n_vocab, d, scale=1.0); m.t("position_embd.weight", 512, d, scale=0.5)
    m.norm("output_norm.weight", d); m.t("output_norm.bias", d, scale=0.1); m.t("output.weight", m.n_vocab, d)
    for i in range(c["layers"]):
        p = f"blk.{i}."
        for n in ("attn_norm", "ffn_norm"):
            m.norm(p + n + ".weight", d); m.t(p + n + ".bias", d, scale=0.1)
        m.t(p + "attn_qkv.weight", 3 * d, d, scale=2 / np.sqrt(d)); m.t(p + "attn_qkv.bias", 3 * d, scale=0.1)
        m.t(p + "attn_output.weight", d, d); m.t(p + "attn_output.bias", d, scale=0.1)
        m.t(p + "ffn_up.weight", ff, d); m.t(p + "ffn_up.bias", ff, scale=0.1)
        m.t(p + "ffn_down.weight", d, ff); m.t(p + "ffn_down.bias", d, scale=0.1)
    m.finish()


def peer_logits(path, tokens, scaling=0, scale=1.0):
    import llama_cpp as L
    L.llama_backend_init()
    mp = L.llama_model_default_params()
    mp.use_extra_bufts = False
    model = L.llama_model_load_from_file(path.encode(), mp)
    assert model, path
    cp = L.llama_context_default_params()
    cp.n_ctx = cp.n_batch = cp.n_ubatch = 512
    cp.type_k = cp.type_v = 0
    cp.flash_attn_type = 0
    cp.n_threads = cp.n_threads_batch = 1
    cp.swa_full = True
    if scaling:  # 1 linear, 2 YaRN
        cp.rope_scaling_type, cp.rope_freq_scale = scaling, 1.0 / scale
    ctx = L.llama_init_from_model(model, cp)
    batch = L.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, t in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = int(t), i, 1, 0
        batch.logits[i] = i in POSITIONS
    assert L.llama_decode(ctx, batch) == 0
    n = L.llama_vocab_n_tokens(L.llama_model_get_vocab(model))
    out = np.stack([np.ctypeslib.as_array(L.llama_get_logits_ith(ctx, i), (n,)).copy() for i in POSITIONS])
    L.llama_free(ctx)
    L.llama_model_free(model)
    return out.astype(np.float32)


def main():
    to = sys.argv[1]
    small = dict(d=32, heads=4, kv=2, e=8, ff=64, layers=2)
    jobs = {
        "llama": lambda p: gated(p, "llama", 1, dict(d=64, heads=4, kv=2, e=16, ff=96, layers=2)),
        "llama-tied": lambda p: gated(p, "llama", 2, dict(small, e=16, tied=True)),  # head dim is not D / H
        "llama-q4_1": lambda p: gated(p, "llama", 3, dict(d=64, heads=4, kv=2, e=16, ff=96, layers=2), Q.Q4_1),
        "qwen2": lambda p: gated(p, "qwen2", 4, dict(small, base=1e6)),
        "qwen3": lambda p: gated(p, "qwen3", 5, dict(small, e=16, base=1e6)),
        "gemma3": lambda p: gated(p, "gemma3", 6, dict(small, kv=1, e=16, layers=7, base=1e6, tied=True, window=48)),
        "gpt2": lambda p: gpt2(p, 7, dict(small)),
    }
    tokens = np.random.default_rng(0).integers(0, len(vocabulary()[0]), 300).astype(np.int32)
    tokens.tofile(os.path.join(to, "tokens.i32"))
    for name, make in jobs.items():
        path = os.path.join(to, f"{name}.gguf")
        make(path)
        peer_logits(path, tokens).tofile(os.path.join(to, f"{name}.logits"))
        print(name, os.path.getsize(path), "bytes")
    for name, scaling in (("linear", 1), ("yarn", 2)):  # the llama model, positions scaled by 4
        peer_logits(os.path.join(to, "llama.gguf"), tokens, scaling, 4.0).tofile(os.path.join(to, f"llama-{name}.logits"))


if __name__ == "__main__":
    main()
