#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fathom finetune from outside, on a tiny model: what it leaves and says, resuming after kill -9 at random moments (also inside
a checkpoint's write) to the same bytes, stopping by a signal, bad input."""
import json
import os
import random
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "support"))
from command import BIN, TINY, Command  # noqa: E402


MODEL = TINY + "llama.gguf"


class Finetune(Command):
    def setUp(self):
        super().setUp()
        self.text = self.path("text.txt")
        with open(self.text, "w") as f:
            for i in range(120):
                f.write(f"the {i % 7} thing is {i % 5} and then some {i % 3}\n")

    def run_bin(self, *args, code=0):
        done = subprocess.run([BIN, "finetune", "-m", MODEL, "--length", "32", "--rows", "64", *args], capture_output=True, text=True,
                              env=self.env)
        self.assertEqual(done.returncode, code, done.stderr + done.stdout)
        return done

    def read(self, name):
        with open(self.path(name), "rb") as f:
            return f.read()

    def test_a_model_file(self):
        done = self.run_bin(self.text, "-o", self.path("out.gguf"), "--lr", "1e-3", "--epochs", "4", "--validation", "0.2", "--eval-every",
                            "5", "--json")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        losses = [line["loss"] for line in lines if "loss" in line]
        self.assertLess(losses[-1], 0.8 * losses[0])
        self.assertEqual(lines[-1]["end"], "done")
        self.assertLess(lines[-1]["best_loss"], losses[0])
        # the file is a model: it runs, and predicts the text better than the base does
        ppl = []
        for model in (MODEL, self.path("out.gguf")):
            got = subprocess.run([BIN, "perplexity", "-m", model, "-f", self.text, "--ctx", "32", "--json"], capture_output=True, text=True)
            self.assertEqual(got.returncode, 0, got.stderr)
            ppl.append(json.loads(got.stdout)["ppl"])
        self.assertLess(ppl[1], 0.7 * ppl[0])

    def test_an_adapter(self):
        self.run_bin(self.text, "-o", self.path("adapter"), "--lora", "4", "--epochs", "2", "--lr", "1e-2")
        self.assertEqual(sorted(os.listdir(self.path("adapter"))), ["adapter_config.json", "adapter_model.safetensors"])
        self.run_bin(self.text, "-o", self.path("a.gguf"), "--lora", "4", "--epochs", "2", "--lr", "1e-2")
        self.assertGreater(os.path.getsize(self.path("a.gguf")), 1000)

    def test_a_killed_run_goes_on_bit_for_bit(self):
        args = ["--lora", "4", "--epochs", "6", "--lora-dropout", "0.1", "--save-every", "1", "--seed", "5", "--batch", "4", "--validation", "0.1",
                "--eval-every", "3"]
        self.run_bin(self.text, "-o", self.path("whole"), *args)
        rng, kills = random.Random(1), 0
        while True:
            more = ["--resume"] if kills else []
            child = subprocess.Popen([BIN, "finetune", "-m", MODEL, "--length", "32", "--rows", "64", self.text, "-o", self.path("cut"), *args,
                                      "-t", str(1 + kills % 2), *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                     env=self.env)
            if kills < 12:
                time.sleep(rng.uniform(0.02, 0.3))
                child.kill()
            kills += 1
            _, text = child.communicate()
            if child.returncode == 0:
                break
            self.assertEqual(child.returncode, -signal.SIGKILL, text)
        self.assertEqual(self.read("whole/adapter_model.safetensors"), self.read("cut/adapter_model.safetensors"))
        left = [name for name in os.listdir(self.path("cut.run")) if name.endswith(".tmp")]
        self.assertEqual(left, [])

    def test_a_signal_saves(self):
        args = [self.text, "-o", self.path("out"), "--lora", "4", "--epochs", "200", "--batch", "2", "--save-every", "1000000"]
        child = subprocess.Popen([BIN, "finetune", "-m", MODEL, "--length", "32", "--rows", "64", *args], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True, env=self.env)
        log = self.path("out.run/log.jsonl")
        while child.poll() is None and not (os.path.exists(log) and os.path.getsize(log)):
            time.sleep(0.01)
        child.send_signal(signal.SIGTERM)
        out, text = child.communicate()
        self.assertEqual(child.returncode, 130, text)
        self.assertIn("--resume", out)
        self.assertEqual(len([n for n in os.listdir(self.path("out.run")) if n.startswith("step-")]), 1)
        self.assertFalse(os.path.exists(self.path("out")))

    def test_settings_of_another_run(self):
        self.run_bin(self.text, "-o", self.path("out"), "--lora", "4", "--steps", "3")
        done = self.run_bin(self.text, "-o", self.path("out"), "--lora", "8", "--steps", "3", "--resume", code=2)
        self.assertIn("other settings", done.stderr)

    def test_bad_input(self):
        empty = self.path("empty.txt")
        open(empty, "w").close()
        bad = self.path("bad.jsonl")
        with open(bad, "w") as f:
            f.write('{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}\n{"messages": 7}\n')
        for code, words, args in (
                (2, "-o", [self.text]),
                (6, "empty.txt", [empty, "-o", self.path("o")]),
                (5, "nothing.txt", [self.path("nothing.txt"), "-o", self.path("o")]),
                (2, "no product", [self.text, "-o", self.path("o"), "--lora", "4", "--lora-targets", "nothing"]),
                (2, "--rows 16", [self.text, "-o", self.path("o"), "--rows", "16"]),
                (6, "bad.jsonl:2", [bad, "--data", "chat", "-o", self.path("o")])):
            with self.subTest(words=words):
                done = self.run_bin(*args, code=code)
                self.assertIn(words, done.stderr)
                self.assertFalse(os.path.exists(self.path("o")))


if __name__ == "__main__":
    if not BIN:
        print("skipped: FATHOM_BIN is not set")
        sys.exit(77)
    unittest.main(verbosity=1)
