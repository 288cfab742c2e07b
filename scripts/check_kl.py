#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How far our logits and llama.cpp's are from the truth, and why: the divergence D(truth || program) on a text.

    python3 scripts/check_kl.py --model MODEL.gguf --text wiki.txt --llama-bin DIR [--fathom build/release/fathom] [--chunks 10]

needs numpy, gguf and llama.cpp's llama-perplexity. The truth is llama.cpp on the same weights written out as F32, with an f32
cache: nothing is rounded but f32 sums. Against it are held: ours with f32 activations (what is left is every other difference
between the programs), ours and llama.cpp's as they run (activations rounded to 8 bits). Then the two against each other.
Exit status 1 if ours with f32 activations is further than --exact from the truth, or ours as it runs is more than a tenth
further than llama.cpp. One JSON line a comparison on stdout."""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile


def to_f32(source, target):
    """The same model with every quantised tensor written out as F32."""
    import gguf
    import numpy as np
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        more = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, more)
    for t in reader.tensors:
        x = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
        writer.add_tensor(t.name, x.reshape([int(n) for n in reversed(t.shape)]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Programs:
    def __init__(self, args, work):
        self.args, self.work = args, work

    def path(self, name):
        return os.path.join(self.work, name)

    def llama(self, model, kv, *more):
        """(ppl, kl, same top) of llama.cpp; kl and top are None when it writes a base."""
        cmd = [os.path.join(self.args.llama_bin, "llama-perplexity"), "-m", model, "-f", self.args.text, "-c", str(self.args.ctx),
               "-b", "512", "--chunks", str(self.args.chunks), "-t", str(self.args.threads), "-ctk", kv, "-ctv", kv, *more]
        cmd += ["-fa", "off"] if kv == "f32" else []
        done = subprocess.run(cmd, check=True, capture_output=True, text=True, errors="replace")
        text = done.stdout + done.stderr
        ppl = re.search(r"(?:Final estimate: PPL =|Mean PPL\(Q\) +:) +([\d.]+)", text)
        kl = re.search(r"Mean +KLD: +([-\d.]+) ± +([\d.]+)", text)
        top = re.search(r"Same top p: +([\d.]+)", text)
        return float(ppl[1]), (float(kl[1]), float(kl[2])) if kl else None, float(top[1]) / 100 if top else None

    def ours(self, kv, activations, base, *more):
        cmd = [self.args.fathom, "perplexity", "-m", self.args.model, "--kv", kv, "--activations", activations, "--chunks",
               str(self.args.chunks), "-t", str(self.args.threads), "--kl-divergence-base", base, "--json", *more]
        return json.loads(subprocess.run(cmd, check=True, capture_output=True, text=True).stdout)

    def against(self, base, name, kv, activations="q8"):
        """One program against a base; name is "ours" or "llama.cpp"."""
        if name == "ours":
            r = self.ours(kv, activations, base, "--kl-divergence")
            line = {"ppl": r["ppl"], "kl": r["kl"]["value"], "error": r["kl"]["error"], "same_top": r["same_top"]["value"]}
        else:
            ppl, kl, top = self.llama(self.args.model, kv, "--kl-divergence-base", base, "--kl-divergence")
            line = {"ppl": ppl, "kl": kl[0], "error": kl[1], "same_top": top}
        print(json.dumps({"program": name, "kv": kv, "activations": activations, "base": os.path.basename(base), **line}), flush=True)
        return line


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", required=True)
    ap.add_argument("--text", required=True)
    ap.add_argument("--llama-bin", required=True)
    ap.add_argument("--fathom", default="build/release/fathom")
    ap.add_argument("--chunks", type=int, default=10)
    ap.add_argument("--ctx", type=int, default=512)
    ap.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    ap.add_argument("--exact", type=float, default=1e-5, help="largest divergence with f32 activations [1e-5]")
    ap.add_argument("--work", help="folder for the F32 model and the bases; kept [a temporary one]")
    args = ap.parse_args()
    with tempfile.TemporaryDirectory(dir=args.work and os.path.dirname(os.path.abspath(args.work))) as temporary:
        work = args.work or temporary
        os.makedirs(work, exist_ok=True)
        p = Programs(args, work)
        f32, truth, peer = p.path("model-f32.gguf"), p.path("truth.kl"), p.path("llama.kl")
        if not os.path.exists(f32):
            to_f32(args.model, f32)
        ppl, _, _ = p.llama(f32, "f32", "--kl-divergence-base", truth)
        print(json.dumps({"program": "llama.cpp", "kv": "f32", "weights": "f32", "ppl": ppl}), flush=True)
        exact = p.against(truth, "ours", "f32", "f32")
        ours = p.against(truth, "ours", "f16")
        theirs = p.against(truth, "llama.cpp", "f16")
        p.llama(args.model, "f16", "--kl-divergence-base", peer)
        p.against(peer, "ours", "f16")
    return exact["kl"] > args.exact or ours["kl"] > 1.1 * theirs["kl"]


if __name__ == "__main__":
    sys.exit(main())
