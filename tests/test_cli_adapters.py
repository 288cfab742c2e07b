# SPDX-License-Identifier: MIT
"""Adapters on the command line: what they change, by option and by a line's own choice; merging, and its refusals."""
import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "support"))
from command import BIN, TINY  # noqa: E402

ADAPTERS = os.path.join(os.path.dirname(os.path.dirname(TINY)), "adapters")
LORA, CONVERTED, DORA, HEAD = (os.path.join(ADAPTERS, n) for n in ("lora", "converted.gguf", "dora", "head"))
MODEL, Q4 = TINY + "llama.gguf", TINY + "llama-q4_1.gguf"


def fathom(*words):
    return subprocess.run([BIN, *words], capture_output=True, text=True, timeout=300)


class Adapters(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.tmp = folder.name

    def path(self, name):
        return os.path.join(self.tmp, name)

    def ids(self, *words):
        done = fathom("generate", "-m", MODEL, "the thing", "-n", "12", "--json", *words)
        self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
        return json.loads(done.stdout)["ids"]

    def test_options(self):
        plain, lora, dora = self.ids(), self.ids("--adapter", LORA), self.ids("--adapter", DORA)
        self.assertEqual(len({tuple(plain), tuple(lora), tuple(dora)}), 3)
        self.assertEqual(self.ids("--lora", os.path.join(LORA, "adapter_config.json")), lora)
        self.assertEqual(self.ids("--lora-scaled", LORA + ":0"), plain)
        self.assertEqual(self.ids("--adapter-scaled", f"{LORA}:1,{CONVERTED}:0"), lora)
        both = self.ids("--adapter", LORA, "--adapter", CONVERTED)
        self.assertEqual(self.ids("--lora", f"{LORA},{CONVERTED}"), both)
        self.assertNotEqual(both, lora)

    def test_lines_choose(self):
        prompts = [{"prompt": "the thing", "n": 12, **more} for more in ({}, {"adapter": None}, {"adapter": "lora"},
                                                                         {"adapter": "converted"}, {"adapter": "x"}, {"adapter": 1})]
        with open(self.path("p.jsonl"), "w") as f:
            f.writelines(json.dumps(p) + "\n" for p in prompts)
        done = fathom("generate", "-m", MODEL, "-f", self.path("p.jsonl"), "-np", "4", "--adapter", LORA, "--adapter", CONVERTED)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(done.returncode, 5)  # the first failed line's
        self.assertEqual(lines[0]["ids"], self.ids("--adapter", LORA, "--adapter", CONVERTED))
        self.assertEqual(lines[1]["ids"], self.ids())
        self.assertEqual(lines[2]["ids"], self.ids("--adapter", LORA))
        self.assertEqual(lines[3]["ids"], self.ids("--adapter", CONVERTED))
        self.assertIn("lora, converted", lines[4]["error"]["text"])
        self.assertIn("line 6", lines[5]["error"]["text"])

    def test_settings_know_adapters(self):
        def settings(*words):
            done = fathom("generate", "-m", MODEL, "the", "-n", "1", "--json", *words)
            return json.loads(done.stdout)["settings"]
        kinds = [settings(), settings("--adapter", LORA), settings("--adapter-scaled", LORA + ":0.5")]
        self.assertEqual(len(set(kinds)), 3)

    def test_classify(self):
        done = fathom("embed", "-m", MODEL, "--adapter", HEAD, "--classify", "the thing", "--json")
        answer = json.loads(done.stdout)
        self.assertEqual([c["label"] for c in answer["classes"]], ["0", "1", "2"])
        self.assertAlmostEqual(sum(c["p"] for c in answer["classes"]), 1, 6)
        self.assertEqual(answer["best"], max(range(3), key=lambda i: answer["classes"][i]["score"]))
        self.assertEqual(fathom("embed", "-m", MODEL, "--adapter", LORA, "--classify", "x").returncode, 2)

    def test_merge(self):
        out = self.path("merged.gguf")
        done = fathom("merge", "-m", MODEL, "--adapter", LORA, "--type", "f32", "-o", out, "--json")
        self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
        self.assertEqual(json.loads(done.stdout)["bytes"], os.path.getsize(out))
        merged = fathom("generate", "-m", out, "the thing", "-n", "12", "--json")
        self.assertEqual(json.loads(merged.stdout)["ids"], self.ids("--adapter", LORA))
        done = fathom("merge", "-m", MODEL, "--adapter", LORA, "--type", "f16", "-o", out, "the thing " * 60, "--ctx", "32", "--json")
        answer = json.loads(done.stdout)
        self.assertLess(answer["kl"], 1e-4)
        self.assertAlmostEqual(answer["ppl_before"] / answer["ppl_after"], 1, 2)

    def test_merge_refused(self):
        out = self.path("merged.gguf")
        done = fathom("merge", "-m", MODEL, "--adapter", LORA, "--type", "q4_0", "-o", out)
        self.assertEqual(done.returncode, 12, done.stdout)
        self.assertIn("KL", done.stderr)
        self.assertEqual(os.listdir(self.tmp), [])
        done = fathom("merge", "-m", MODEL, "--adapter", LORA, "--type", "q4_0", "-o", out, "--force", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreater(json.loads(done.stdout)["kl"], 0.02)
        self.assertEqual(os.listdir(self.tmp), ["merged.gguf"])
        before = os.path.getsize(out)
        for words, code in ((["-o", out], 2), (["--adapter", LORA], 2), (["--adapter", HEAD, "-o", out], 7),
                            (["--adapter", LORA, "--type", "q9", "-o", out], 2), (["--adapter", "/nowhere", "-o", out], 5),
                            (["--adapter-scaled", LORA, "-o", out], 2)):
            self.assertEqual(fathom("merge", "-m", MODEL, *words).returncode, code, words)
        self.assertEqual(os.path.getsize(out), before)

    def test_another_model(self):
        done = fathom("generate", "-m", TINY + "gpt2.gguf", "x", "-n", "1", "--adapter", LORA)
        self.assertEqual(done.returncode, 5)
        self.assertEqual(len(done.stderr.splitlines()), 1)
        self.assertIn("gpt2", done.stderr)


if __name__ == "__main__":
    unittest.main()
