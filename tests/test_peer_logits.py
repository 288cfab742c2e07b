# SPDX-License-Identifier: MIT
# test-labels: long noasan
"""Every position's distribution beside llama.cpp's own, made now by its llama-perplexity: tiny models of every
architecture in f32, then the default models. The tool is looked for in $LLAMA_BIN and where ./run peers builds it; without
it the test is skipped aloud (test_session holds stored logits of the same program)."""
import glob
import json
import os
import subprocess
import sys
import tempfile
import unittest

BIN = os.environ.get("FATHOM_BIN", "")
SOURCE = os.environ.get("FATHOM_SOURCE_DIR", ".")
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "fathom")
MODELS = os.environ.get("FATHOM_MODELS") or os.path.join(CACHE, "models")


def tool():
    folders = [os.environ.get("LLAMA_BIN", ""), *sorted(glob.glob(os.path.join(CACHE, "peers/llama-*/build/bin")))]
    return next((p for p in (os.path.join(f, "llama-perplexity") for f in folders) if os.path.exists(p)), None)


class Peer(unittest.TestCase):
    def setUp(self):
        if not tool():
            print("skipped: no llama-perplexity in $LLAMA_BIN or the cache (./run peers builds llama.cpp)", file=sys.stderr)
            self.skipTest("no llama-perplexity")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.tmp = folder.name
        self.text = os.path.join(self.tmp, "text")
        with open(self.text, "wb") as f:  # prose, code and tables that change with the project
            for name in ("docs/tour.md", "docs/adding-an-op.md", "README.md", "src/ops/attention_ref.c"):
                with open(os.path.join(SOURCE, name), "rb") as part:
                    f.write(part.read())

    def compare(self, model, ctx, chunks, kv):
        base = os.path.join(self.tmp, "base")
        done = subprocess.run([tool(), "-m", model, "-f", self.text, "-c", str(ctx), "-b", str(ctx), "--chunks", str(chunks), "-ctk", kv,
                               "-ctv", kv, "-fa", "off", "-t", "2", "--kl-divergence-base", base], capture_output=True, timeout=3000)
        self.assertEqual(done.returncode, 0, done.stderr[-1000:])
        done = subprocess.run([BIN, "perplexity", "-m", model, "-ctk", kv, "--kl-divergence-base", base, "--kl-divergence", "--json"],
                              capture_output=True, timeout=3000)
        self.assertEqual(done.returncode, 0, done.stderr)
        got = json.loads(done.stdout)
        print(f"{os.path.basename(model)}: {got['scored']} positions, KL {got['kl']['value']:.2g}, same top {got['same_top']['value']:.4f}, "
              f"perplexity {got['ppl']:.4f}, there {got['ppl_base']['value']:.4f}", file=sys.stderr)
        self.assertEqual(got["scored"], chunks * (ctx - 1 - ctx // 2))
        return got

    def test_every_architecture(self):
        """f32 weights and cache. The file keeps log-probabilities in steps of 16/65535 nats: KL below 1e-5 is its noise.
        gemma3 and gpt2: the peer's GELU is a table of halves, spacing 4.9e-4 (see test_session)."""
        for name in ("llama", "llama-tied", "qwen2", "qwen3", "gemma3", "gpt2"):
            got = self.compare(os.path.join(SOURCE, "tests/data/tiny", name + ".gguf"), 128, 4, "f32")
            self.assertLess(abs(got["kl"]["value"]), 1e-5, name)
            self.assertGreaterEqual(got["same_top"]["value"], 0.99, name)

    def whole(self, file):
        path = os.path.join(MODELS, file)
        if not os.path.exists(path):
            print(f"skipped: {file} is not in the cache (fathom pull)", file=sys.stderr)
            self.skipTest("no model")
        got = self.compare(path, 512, 4, "f16")
        # both programs round activations to 8 bits, each in its own blocks: 0.004 nats between them (docs/claims.md)
        self.assertLess(got["kl"]["value"], 0.008)
        self.assertGreaterEqual(got["same_top"]["value"], 0.93)
        self.assertLess(abs(got["ppl"] / got["ppl_base"]["value"] - 1), 0.01)

    def test_smollm2(self):
        self.whole("SmolLM2-135M-Instruct.Q4_1.gguf")

    def test_gemma3(self):
        self.whole("gemma-3-270m-Q4_K_M.gguf")


if __name__ == "__main__":
    unittest.main()
