#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Adapters beside PEFT and llama.cpp: random LoRA with B != 0 on tiny models (and on --model), both ways.

    python3 scripts/check_adapters.py --tool build/release/adapter_tool [--model MODEL.gguf] [--make tests/data/adapters]

needs torch, transformers, peft, numpy, gguf and llama-cpp-python. For each architecture a Hugging Face model is made of the
GGUF's (dequantised) weights, PEFT puts LoRA on it (plain, rsLoRA, DoRA, ranks and alphas that differ, embeddings and head),
and the logits of PEFT's own forward are what counts:

    PEFT's folder -> fathom                      our reader
    PEFT's folder -> our GGUF -> llama.cpp       our writer, their reader
    PEFT's folder -> our GGUF -> fathom          our reader of GGUF
    PEFT's folder -> fathom -> PEFT's folder -> PEFT     our writer, their reader
    a classifier's head -> fathom                scores

Pass: max |difference| <= 1e-3 of the largest logit (1e-6 where PEFT reads what we wrote: the same numbers), and the adapter
changed logits by more than a tenth of the largest.
--make writes the fixtures of tests/test_adapter.c. One JSON line a comparison on stdout; exit status 1 if one fails."""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TINY = os.path.join(ROOT, "tests/data/tiny")
POSITIONS = [0, 1, 7, 31, 47]  # of the fixtures' goldens
N_TOKENS = 48


def load_gguf(path):
    """(field reader, {name: f32 array}) of a model file."""
    import gguf
    reader = gguf.GGUFReader(path)
    arch = reader.fields["general.architecture"].contents()

    def field(key, default=None):
        f = reader.fields.get(f"{arch}.{key}")
        return f.contents() if f else default
    tensors = {}
    for t in reader.tensors:
        x = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
        tensors[t.name] = x.reshape([int(n) for n in reversed(t.shape)])
    return arch, field, tensors


def unpermuted(x, heads):
    """llama.cpp's converter stores rows 2i, 2i+1 of a head for rows i, i + E/2: the inverse of its permute()."""
    return x.reshape(heads, x.shape[0] // heads // 2, 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def layer_names(arch):
    if arch == "gpt2":
        return {"attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj",
                "attn_norm": "ln_1", "ffn_norm": "ln_2"}
    names = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
             "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
             "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    if arch == "gemma3":
        names.update(ffn_norm="pre_feedforward_layernorm", post_attention_norm="post_attention_layernorm",
                     post_ffw_norm="post_feedforward_layernorm")
    return names


def hf_state(arch, field, tensors):
    import torch
    state = {}
    outer = {"token_embd": "transformer.wte", "position_embd": "transformer.wpe", "output_norm": "transformer.ln_f",
             "output": "lm_head"} if arch == "gpt2" else {"token_embd": "model.embed_tokens", "output_norm": "model.norm",
                                                         "output": "lm_head"}
    for name, x in tensors.items():
        stem, end = name.rsplit(".", 1)
        if name.startswith("blk."):
            _, layer, part = stem.split(".")
            if part not in layer_names(arch):
                continue
            prefix = "transformer.h" if arch == "gpt2" else "model.layers"
            to = f"{prefix}.{layer}.{layer_names(arch)[part]}.{end}"
            if arch == "llama" and part in ("attn_q", "attn_k"):
                x = unpermuted(x, field("attention.head_count") if part == "attn_q" else field("attention.head_count_kv"))
            if arch == "gpt2" and end == "weight" and x.ndim == 2:
                x = x.T
        elif stem in outer:
            to = f"{outer[stem]}.{end}"
        else:
            continue
        if arch == "gemma3" and "norm" in to:
            x = x - 1
        state[to] = torch.from_numpy(np.ascontiguousarray(x))
    return state


def hf_config(arch, field, tensors):
    import transformers
    vocab, d = tensors["token_embd.weight"].shape
    layers, heads = field("block_count"), field("attention.head_count")
    tied = "output.weight" not in tensors
    if arch == "gpt2":
        return transformers.GPT2Config(vocab_size=vocab, n_positions=field("context_length"), n_embd=d, n_layer=layers,
                                       n_head=heads, n_inner=field("feed_forward_length"), tie_word_embeddings=tied,
                                       layer_norm_epsilon=field("attention.layer_norm_epsilon"))
    kinds = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config, "qwen3": transformers.Qwen3Config,
             "gemma3": transformers.Gemma3TextConfig}
    common = dict(vocab_size=vocab, hidden_size=d, num_hidden_layers=layers, num_attention_heads=heads,
                  num_key_value_heads=field("attention.head_count_kv"), intermediate_size=field("feed_forward_length"),
                  rms_norm_eps=field("attention.layer_norm_rms_epsilon"), rope_theta=field("rope.freq_base", 10000.0),
                  max_position_embeddings=field("context_length"), tie_word_embeddings=tied,
                  head_dim=field("attention.key_length") or d // heads)
    if arch == "gemma3":
        common.update(sliding_window=field("attention.sliding_window"), query_pre_attn_scalar=common["head_dim"],
                      rope_local_base_freq=10000.0, hidden_activation="gelu_pytorch_tanh",
                      layer_types=["full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(layers)])
    return kinds[arch](**common)


def hf_model(path, classes=0):
    """The Hugging Face model of a GGUF's weights, in f32."""
    import torch
    import transformers
    arch, field, tensors = load_gguf(path)
    config = hf_config(arch, field, tensors)
    config._attn_implementation = "eager"
    state = hf_state(arch, field, tensors)
    if classes:
        config.num_labels, config.pad_token_id = classes, 0
        model = transformers.AutoModelForSequenceClassification.from_config(config)
    else:
        model = transformers.AutoModelForCausalLM.from_config(config)
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [m for m in missing if "inv_freq" not in m and m != "score.weight" and not (m == "lm_head.weight" and config.tie_word_embeddings)
               and not m.endswith((".attn.bias", ".attn.masked_bias"))]
    unexpected = [u for u in unexpected if not (classes and u == "lm_head.weight")]
    assert not missing and not unexpected, (missing, unexpected)
    model.tie_weights()
    return arch, model.to(torch.float32).eval()


def linear_names(arch):
    if arch == "gpt2":
        return ["c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"]
    return ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def put_lora(arch, model, seed, **settings):
    """A PEFT model whose A and B (and magnitudes) are random; B != 0."""
    import peft
    import torch
    torch.manual_seed(seed)
    config = peft.LoraConfig(fan_in_fan_out=arch == "gpt2", **{"target_modules": linear_names(arch), **settings})
    lora = peft.get_peft_model(model, config)
    strength = settings.get("r", 8) ** -0.5
    with torch.no_grad():
        for name, p in lora.named_parameters():
            if "lora_B" in name or "lora_embedding_B" in name:
                p.normal_(0, 0.4 * strength)
            elif "lora_A" in name or "lora_embedding_A" in name:
                p.normal_(0, p.shape[-1] ** -0.5 if "lora_A" in name else 0.7)
            elif "lora_magnitude_vector" in name:
                p.mul_(1 + 0.2 * torch.randn_like(p))
    return lora.eval()


def forward(model, tokens):
    import torch
    with torch.no_grad():
        return model(torch.from_numpy(tokens[None].astype(np.int64))).logits[0].float().numpy()


class Check:
    def __init__(self, args, work):
        self.args, self.work, self.failures = args, work, 0

    def path(self, *names):
        return os.path.join(self.work, *names)

    def tool(self, *words):
        done = subprocess.run([self.args.tool, *words], capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stderr)

    def ours(self, model, tokens, *adapters, what="logits"):
        tokens.astype(np.int32).tofile(self.path("tokens"))
        self.tool(what, model, self.path("tokens"), self.path("out"), *adapters)
        out = np.fromfile(self.path("out"), np.float32)
        return out.reshape(len(tokens), -1) if what == "logits" else out

    def llama_cpp(self, model, tokens, adapter=None, scale=1.0):
        import ctypes
        import llama_cpp as L
        L.llama_backend_init()
        silent = L.llama_log_callback(lambda level, text, data: None)
        L.llama_log_set(silent, ctypes.c_void_p(0))
        mp = L.llama_model_default_params()
        mp.use_extra_bufts = False
        m = L.llama_model_load_from_file(model.encode(), mp)
        cp = L.llama_context_default_params()
        cp.n_ctx = cp.n_batch = cp.n_ubatch = 512
        cp.type_k = cp.type_v = 0
        cp.flash_attn_type = 0
        cp.n_threads = cp.n_threads_batch = 1
        cp.swa_full = True
        ctx = L.llama_init_from_model(m, cp)
        if adapter:
            lora = L.llama_adapter_lora_init(m, adapter.encode())
            assert lora, "llama.cpp refuses " + adapter
            which, scales = (L.llama_adapter_lora_p_ctypes * 1)(lora), (ctypes.c_float * 1)(scale)
            assert L.llama_set_adapters_lora(ctx, which, 1, scales) == 0
        batch = L.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, t in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = int(t), i, 1, 0, 1
        assert L.llama_decode(ctx, batch) == 0
        n = L.llama_vocab_n_tokens(L.llama_model_get_vocab(m))
        out = np.stack([np.ctypeslib.as_array(L.llama_get_logits_ith(ctx, i), (n,)).copy() for i in range(len(tokens))])
        L.llama_free(ctx)
        L.llama_model_free(m)
        return out

    def hold(self, name, got, want, most=1e-3):
        worst = float(np.abs(got - want).max() / np.abs(want).max())
        ok = worst <= most
        self.failures += not ok
        print(json.dumps({"check": name, "max_difference": float(f"{worst:.3g}"), "most": most, "ok": ok}), flush=True)

    def pair(self, name, model, f32_model, tokens, settings, seed=1):
        """One LoRA on one model, all ways. f32_model: the file that llama.cpp runs (its activations are then f32 too)."""
        arch, hf = hf_model(model)
        base = forward(hf, tokens)
        self.hold(f"{name}: base, PyTorch = fathom", self.ours(model, tokens), base)
        lora = put_lora(arch, hf, seed, **settings)
        folder, file, again = self.path("peft"), self.path("adapter.gguf"), self.path("again")
        for old in (folder, again):
            shutil.rmtree(old, ignore_errors=True)
        lora.save_pretrained(folder, save_embedding_layers=False)
        want = forward(lora, tokens)
        assert np.abs(want - base).max() > 0.1 * np.abs(base).max(), "the adapter does nothing"
        self.hold(f"{name}: PEFT -> fathom", self.ours(model, tokens, folder + ":1"), want)
        if settings.get("use_dora"):
            done = subprocess.run([self.args.tool, "gguf", model, folder, file], capture_output=True, text=True)
            assert done.returncode == 1 and "DoRA" in done.stderr, done.stderr
        else:
            self.tool("gguf", model, folder, file)
            self.hold(f"{name}: PEFT -> our GGUF -> fathom", self.ours(model, tokens, file + ":1"), want)
            if f32_model:
                self.hold(f"{name}: PEFT -> our GGUF -> llama.cpp", self.llama_cpp(f32_model, tokens, file), want)
                half = self.llama_cpp(f32_model, tokens, file, 0.5)
                self.hold(f"{name}: half of it, llama.cpp = fathom", self.ours(model, tokens, file + ":0.5"), half)
        self.tool("peft", model, folder, again)
        import peft
        _, fresh = hf_model(model)
        self.hold(f"{name}: fathom -> PEFT", forward(peft.PeftModel.from_pretrained(fresh, again).eval(), tokens), want, 1e-6)
        return folder, file, want

    def head(self, model, tokens):
        arch, hf = hf_model(model, classes=3)
        lora = put_lora(arch, hf, 5, r=4, lora_alpha=8, task_type="SEQ_CLS")
        folder = self.path("head")
        shutil.rmtree(folder, ignore_errors=True)
        lora.save_pretrained(folder, save_embedding_layers=False)
        self.hold(f"{arch}: a classifier's head -> fathom", self.ours(model, tokens, folder + ":1", what="scores"), forward(lora, tokens))
        return folder, forward(lora, tokens)

    def tiny(self):
        tokens = np.fromfile(os.path.join(TINY, "tokens.i32"), np.int32)[:N_TOKENS]
        for name in ("llama", "llama-tied", "qwen2", "qwen3", "gemma3", "gpt2"):
            path = os.path.join(TINY, name + ".gguf")
            self.pair(name, path, path, tokens, dict(r=4, lora_alpha=6))
        llama = os.path.join(TINY, "llama.gguf")
        self.pair("llama, rsLoRA", llama, llama, tokens, dict(r=8, lora_alpha=6, use_rslora=True))
        self.pair("llama, DoRA", llama, llama, tokens, dict(r=4, lora_alpha=6, use_dora=True))
        self.pair("qwen2, DoRA (biases)", os.path.join(TINY, "qwen2.gguf"), None, tokens, dict(r=4, lora_alpha=6, use_dora=True))
        self.pair("gpt2, DoRA (Conv1D)", os.path.join(TINY, "gpt2.gguf"), None, tokens, dict(r=4, lora_alpha=6, use_dora=True))
        self.pair("llama, ranks and alphas differ", llama, llama, tokens,
                  dict(r=4, lora_alpha=6, rank_pattern={"q_proj": 7}, alpha_pattern={"q_proj": 3, "layers.1.mlp.up_proj": 11}))
        self.pair("llama, embeddings and logits", llama, llama, tokens,
                  dict(r=4, lora_alpha=6, target_modules=["embed_tokens", "lm_head", "v_proj"]))
        self.head(llama, tokens)
        self.head(os.path.join(TINY, "qwen2.gguf"), tokens)

    def large(self, model):
        sys.path.insert(0, os.path.join(ROOT, "scripts"))
        from check_kl import to_f32
        exact = self.path("f32.gguf")
        to_f32(model, exact)
        tokens = np.random.default_rng(3).integers(0, 20000, 64).astype(np.int32)
        self.pair(os.path.basename(model), model, exact, tokens, dict(r=16, lora_alpha=32))

    def make(self, to):
        """Fixtures: one adapter on tiny/llama.gguf as PEFT and llama.cpp's converter write it, and a DoRA with a head."""
        tokens = np.fromfile(os.path.join(TINY, "tokens.i32"), np.int32)[:N_TOKENS]
        model = os.path.join(TINY, "llama.gguf")
        folder, _, want = self.pair("llama", model, model, tokens, dict(r=3, lora_alpha=5, alpha_pattern={"k_proj": 2}))
        self.keep(folder, os.path.join(to, "lora"))
        want[POSITIONS].tofile(os.path.join(to, "lora.logits"))
        folder, _, want = self.pair("llama", model, model, tokens,
                                    dict(r=4, lora_alpha=6, target_modules=["embed_tokens", "lm_head", "q_proj", "up_proj"]))
        self.convert(folder, os.path.join(to, "converted.gguf"))
        want[POSITIONS].tofile(os.path.join(to, "converted.logits"))
        folder, _, want = self.pair("llama", model, model, tokens, dict(r=2, lora_alpha=3, use_dora=True, use_rslora=True), 7)
        self.keep(folder, os.path.join(to, "dora"))
        want[POSITIONS].tofile(os.path.join(to, "dora.logits"))
        folder, want = self.head(model, tokens)
        self.keep(folder, os.path.join(to, "head"))
        want.tofile(os.path.join(to, "head.scores"))

    def keep(self, folder, to):
        shutil.rmtree(to, ignore_errors=True)
        os.makedirs(to)
        with open(os.path.join(folder, "adapter_config.json")) as f:
            config = json.load(f)
        config["base_model_name_or_path"] = "tiny/llama"
        with open(os.path.join(to, "adapter_config.json"), "w") as f:
            json.dump(config, f, indent=1, sort_keys=True)
            f.write("\n")
        shutil.copy(os.path.join(folder, "adapter_model.safetensors"), to)

    def convert(self, folder, to):
        """By llama.cpp's own convert_lora_to_gguf.py (--converter)."""
        base = self.path("base")
        os.makedirs(base, exist_ok=True)
        _, hf = hf_model(os.path.join(TINY, "llama.gguf"))
        hf.config.architectures = ["LlamaForCausalLM"]
        hf.config.save_pretrained(base)
        done = subprocess.run([sys.executable, self.args.converter, "--outtype", "f32", "--base", base, "--outfile", to, folder],
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tool", default=os.path.join(ROOT, "build/release/adapter_tool"))
    parser.add_argument("--model", help="a quantised model to check besides the tiny ones")
    parser.add_argument("--make", metavar="DIR", help="write the fixtures instead")
    parser.add_argument("--converter", help="llama.cpp's convert_lora_to_gguf.py (for --make)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        check = Check(args, work)
        if args.make:
            check.make(args.make)
        else:
            check.tiny()
            if args.model:
                check.large(args.model)
    return check.failures > 0


if __name__ == "__main__":
    sys.exit(main())
