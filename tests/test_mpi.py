#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# test-labels: noasan
"""Training over several processes (mpirun): the same bytes twice, a loss close to one process's, checkpoints that any number of
processes goes on from, a killed rank, a signal, errors told once. Sanitizers see the same code in one process."""
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "support"))
from command import BIN, TINY, Command  # noqa: E402

MODEL = TINY + "llama.gguf"
PLUGIN = os.path.join(os.path.dirname(BIN or ""), "fathom_mpi.so")


class Processes(Command):
    def setUp(self):
        super().setUp()
        # root, and more processes than cores, are a test's business
        self.env = dict(self.env, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_plm_rsh_agent="")
        self.text = self.path("text.txt")
        with open(self.text, "w") as f:
            for i in range(120):
                f.write(f"the {i % 7} thing is {i % 5} and then some {i % 3}\n")
        self.args = [self.text, "--length", "32", "--rows", "64", "--batch", "8", "--lr", "1e-2", "--dropout", "0", "--json"]

    def command(self, ranks, out, *args):
        start = ["mpirun", "--oversubscribe", "-n", str(ranks)] if ranks > 1 else []
        return [*start, BIN, "finetune", "-m", MODEL, *self.args, "-o", self.path(out), *args]

    def run_bin(self, ranks, out, *args, code=0):
        done = subprocess.run(self.command(ranks, out, *args), capture_output=True, text=True, env=self.env)
        self.assertEqual(done.returncode, code, done.stderr + done.stdout)
        return done

    def losses(self, ranks, out, *args):
        lines = [json.loads(line) for line in self.run_bin(ranks, out, *args).stdout.splitlines()]
        self.assertEqual(lines[-1]["end"], "done")
        return [line["loss"] for line in lines if "loss" in line] + [line["eval_loss"] for line in lines if "eval_loss" in line]

    def read(self, name):
        with open(self.path(name), "rb") as f:
            return f.read()

    def start(self, ranks, out, *args):
        child = subprocess.Popen(self.command(ranks, out, *args), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.env)
        folder = self.path(out + ".run")
        while child.poll() is None and not (os.path.isdir(folder) and any(n.endswith(".safetensors") for n in os.listdir(folder))):
            time.sleep(0.01)
        return child

    def close(self, a, b, bound):
        self.assertEqual(len(a), len(b))
        worst = max(abs(x - y) / abs(y) for x, y in zip(a, b))
        print(f"largest difference of a loss to one process's: {worst:.2g}")
        self.assertLess(worst, bound)

    def test_same_bytes_and_the_loss_of_one(self):
        # full training: every gradient is summed in another grouping, f32 rounding of 1e-7 grows by the steps' feedback
        args = ["--steps", "12", "--validation", "0.2", "--eval-every", "4"]
        one = self.losses(1, "one.gguf", *args)
        for ranks in (2, 4):
            with self.subTest(ranks=ranks):
                many = [self.losses(ranks, f"{ranks}{i}.gguf", *args) for i in "ab"]
                self.assertEqual(many[0], many[1])
                self.assertEqual(self.read(f"{ranks}a.gguf"), self.read(f"{ranks}b.gguf"))
                self.close(many[0], one, 1e-4)
        # checkpoints hold the moments of all ranks, and have one form
        sizes = {len(self.read(f"{name}.gguf.run/step-00000012.safetensors")) for name in ("one", "2a", "4a")}
        self.assertLess(max(sizes) - min(sizes), 64)

    def test_masks_of_ranks_differ(self):
        args = ["--steps", "4", "--lora", "4", "--lora-dropout", "0.5"]
        self.assertEqual(self.losses(2, "a", *args), self.losses(2, "b", *args))
        self.assertEqual(self.read("a/adapter_model.safetensors"), self.read("b/adapter_model.safetensors"))

    def test_any_number_goes_on(self):
        args = ["--steps", "9", "--schedule", "constant", "--save-every", "3", "--keep", "9"]
        whole = self.losses(1, "whole.gguf", *args)
        self.losses(4, "cut.gguf", *args)
        folder = self.path("cut.gguf.run")
        for ranks, step in ((2, 3), (1, 6)):  # 4 ranks to step 3, 2 to step 6, then one
            for name in os.listdir(folder):
                if name.startswith("step-") and name > f"step-{step:08d}.safetensors":
                    os.unlink(os.path.join(folder, name))
            rest = self.losses(ranks, "cut.gguf", *args, "--resume")
            self.assertEqual(len(rest), 9 - step)
            self.close(rest, whole[step:], 1e-4)
        # the same number of ranks: to the bit
        args += ["--lora", "4", "--lora-dropout", "0.1"]
        self.losses(2, "a", *args)
        shutil.copytree(self.path("a.run"), self.path("b.run"))
        os.unlink(self.path("b.run/step-00000009.safetensors"))
        os.unlink(self.path("b.run/step-00000006.safetensors"))
        self.losses(2, "b", *args, "--resume")
        self.assertEqual(self.read("a/adapter_model.safetensors"), self.read("b/adapter_model.safetensors"))

    def ranks_of(self, child):
        """Processes by rank."""
        found = {}
        for name in os.listdir("/proc"):
            try:
                with open(f"/proc/{name}/stat") as f:
                    parent = int(f.read().rsplit(")", 1)[1].split()[1])
                with open(f"/proc/{name}/environ", "rb") as f:
                    rank = re.search(rb"OMPI_COMM_WORLD_RANK=(\d+)", f.read())
            except (OSError, ValueError):
                continue
            if parent == child.pid and rank:
                found[int(rank[1])] = int(name)
        return found

    def test_a_killed_rank(self):
        long = ["--steps", "100000", "--lora", "4", "--save-every", "1"]
        for victim in (1, 0):
            with self.subTest(victim=victim):
                out = f"out{victim}"
                child = self.start(3, out, *long)
                os.kill(self.ranks_of(child)[victim], signal.SIGKILL)
                _, text = child.communicate()
                self.assertNotEqual(child.returncode, 0)
                self.assertRegex(text, f"rank {victim}\\b")  # mpirun's words; ours come where it leaves the time
                # what is there goes on; a signal that mpirun passes on ends that
                child = self.start(2, out, *long, "--resume")
                for line in child.stdout:
                    if '"step"' in line:
                        break
                child.send_signal(signal.SIGUSR1)
                told, text = child.communicate()
                self.assertIn('"end":"stopped"', told, text)
                self.assertIn("going on after step", text)

    def test_errors_are_told_once(self):
        done = self.run_bin(3, "o", "--lora", "4", "--lora-targets", "nothing", code=2)
        self.assertEqual((done.stderr + done.stdout).count("no product"), 1)
        done = self.run_bin(2, "o", "--lora", "4", "--steps", "2", "--checkpoints", self.text, code=4)
        self.assertEqual((done.stderr + done.stdout).count("rank 0: "), 1)

    def test_without_the_plugin(self):
        folder = self.path("alone")
        os.mkdir(folder)
        binary = shutil.copy(BIN, folder)
        env = dict(self.env, OMPI_COMM_WORLD_SIZE="4")
        done = subprocess.run([binary, "finetune", "-m", MODEL, self.text, "-o", self.path("o")], capture_output=True, text=True, env=env)
        self.assertEqual(done.returncode, 7, done.stderr)
        self.assertIn("fathom_mpi.so", done.stderr)

    def test_train(self):
        args = ["mpirun", "--oversubscribe", "-n", "2", BIN, "train", self.text, "--tokenizer", MODEL, "--layers", "1", "--d-model", "32",
                "--heads", "2", "--ctx", "32", "--batch", "8", "--steps", "6", "--optimizer", "muon", "--json"]
        for name in "ab":
            done = subprocess.run([*args, "-o", self.path(name)], capture_output=True, text=True, env=self.env)
            self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
        self.assertEqual(self.read("a"), self.read("b"))
        losses = [json.loads(line)["loss"] for line in done.stdout.splitlines() if '"loss"' in line]
        self.assertTrue(all(math.isfinite(x) for x in losses))


if __name__ == "__main__":
    if not BIN:
        print("skipped: FATHOM_BIN is not set")
        sys.exit(77)
    if not shutil.which("mpirun") or not os.path.exists(PLUGIN):
        print("skipped: no mpirun, or built without MPI (packages libopenmpi-dev, openmpi-bin)")
        sys.exit(77)
    unittest.main(verbosity=1)
