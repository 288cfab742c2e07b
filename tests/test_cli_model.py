# SPDX-License-Identifier: MIT
"""Drives the commands that run a model (chat, generate, tokenize, perplexity, embed, inspect, bench) on tiny random
models: what comes out must not depend on how it was computed; files, JSON, signals, terminals, mistakes."""
import fcntl
import json
import math
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import unittest
import xml.etree.ElementTree

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "support"))
import command  # noqa: E402
from command import BIN, NO_END, TINY  # noqa: E402

LLAMA, Q4, GPT2 = TINY + "llama.gguf", TINY + "llama-q4_1.gguf", TINY + "gpt2.gguf"


class Command(command.Command):
    def setUp(self):
        super().setUp()
        self.env["TERM"] = "xterm"
        for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "FATHOM_CPU"):
            self.env.pop(name, None)

    def run_bin(self, *args, code=0, text="", **more):
        done = subprocess.run([BIN, *args], env=self.env, input=text.encode(), capture_output=True, timeout=300, **more)
        self.assertEqual(done.returncode, code, (args, done.stdout[-500:], done.stderr[-500:]))
        return done

    def out(self, *args, **more):
        return self.run_bin(*args, **more).stdout.decode()

    def json(self, *args, **more):
        return json.loads(self.out(*args, "--json", **more))

    def lines(self, *args, **more):
        return [json.loads(line) for line in self.out(*args, **more).splitlines()]


class Tokenize(Command):
    def test_ids_and_pieces(self):
        got = self.json("tokenize", "-m", LLAMA, "the <|im_end|>\n")
        self.assertEqual(got["n"], len(got["ids"]))
        self.assertEqual("".join(got["pieces"]), "the <|im_end|>\n")
        self.assertIn(287, got["ids"])
        plain = self.json("tokenize", "-m", LLAMA, "--no-parse-special", "the <|im_end|>\n")
        self.assertNotIn(287, plain["ids"])
        self.assertEqual("".join(plain["pieces"]), "the <|im_end|>\n")
        ids = [int(x) for x in self.out("tokenize", "-m", LLAMA, "--ids", "-f", self.path("t", "the <|im_end|>\n")).split()]
        self.assertEqual(ids, got["ids"])
        self.assertEqual(int(self.out("tokenize", "-m", LLAMA, "--count", text="the <|im_end|>\n")), got["n"])

    def test_any_bytes(self):
        done = subprocess.run([BIN, "tokenize", "-m", LLAMA, "--json"], input=bytes(range(256)), capture_output=True)
        self.assertEqual(done.returncode, 0)
        self.assertGreater(json.loads(done.stdout)["n"], 0)


class Generate(Command):
    def test_same_whatever_it_runs_with(self):
        args = ("generate", "-m", Q4, "the thing in the", "-n", "40", *NO_END)
        want = self.json(*args)
        self.assertEqual((len(want["ids"]), want["finish"], want["generated_tokens"]), (40, "length", 40))
        for more in (["-t", "1"], ["-t", "3"], ["-b", "1"], ["-ub", "2"], ["-c", "200"], ["--mlock"], ["--no-mmap"]):
            self.assertEqual(self.json(*args, *more)["ids"], want["ids"], more)

    def test_kv_formats(self):
        for kv in ("f16", "int8", "q8_0", "bf16", "f32"):
            self.assertEqual(len(self.json("generate", "-m", Q4, "the", "-n", "3", "-ctk", kv, *NO_END)["ids"]), 3)
        self.assertIn("one format", self.run_bin("generate", "-m", Q4, "x", "-ctk", "f16", "-ctv", "f32", code=7).stderr.decode())

    def test_devices_agree(self):
        args = ("generate", "-m", LLAMA, "the thing", "-n", "8", "-ctk", "f32", *NO_END)
        self.assertEqual(self.json(*args, "--device", "sim")["ids"], self.json(*args)["ids"])

    def test_seeds(self):
        args = ("generate", "-m", LLAMA, "the", "-n", "16", "--temp", "1.5", "--top-k", "0", "--top-p", "1", "--min-p", "0", *NO_END)
        one = self.json(*args, "-s", "1")["ids"]
        self.assertEqual(one, self.json(*args, "-s", "1", "-t", "1")["ids"])
        self.assertNotEqual(one, self.json(*args, "-s", "2")["ids"])
        self.assertNotEqual(self.json(*args, "-s", "-1")["ids"], self.json(*args, "-s", "-1")["ids"])

    def test_options_of_sampling_are_taken(self):
        args = ("generate", "-m", LLAMA, "the", "-n", "6", *NO_END)
        self.assertEqual(self.json(*args, "-l", "71+1000")["ids"], [71] * 6)
        self.assertNotEqual(self.json(*args, "-l", "71+1000", "--presence-penalty", "90", "--logit-bias", "72+999")["ids"], [71] * 6)
        for more in (["--typical", "0.5"], ["--mirostat", "2", "--mirostat-ent", "3"], ["--dry-multiplier", "1"],
                     ["--repeat-penalty", "1.3", "--frequency-penalty", "1"], ["--dry-multiplier", "1", "--dry-sequence-breaker", "none"]):
            self.assertEqual(len(self.json(*args, "--temp", "1", *more)["ids"]), 6)
        for wrong in ("71", "71+x", "9999+1", "-1+1", "x"):
            self.assertIn("--logit-bias", self.run_bin(*args, "-l", wrong, code=2).stderr.decode())

    def test_logprobs(self):
        got = self.json("generate", "-m", LLAMA, "the", "-n", "4", "--logprobs", "3", *NO_END)["logprobs"]
        self.assertEqual(len(got), 4)
        for entry in got:
            tops = [t["logprob"] for t in entry["top"]]
            self.assertEqual(tops, sorted(tops, reverse=True))
            self.assertLessEqual(sum(map(math.exp, tops)), 1 + 1e-6)
            self.assertIn(entry["id"], [t["id"] for t in entry["top"]])

    def test_stop_strings(self):
        # single tokens are forced: 71 is "h", and a stop string may lie over several of them
        args = ("generate", "-m", LLAMA, "the", "-n", "9", "-l", "71+1000")
        self.assertEqual(self.json(*args)["text"], "hhhhhhhhh")
        got = self.json(*args, "-r", "xyz", "-r", "hhhh")
        self.assertEqual((got["text"], got["finish"], got["generated_tokens"]), ("", "stop", 4))
        got = self.json(*args, "-r", "hhhz")  # held back, but it never came
        self.assertEqual((got["text"], got["finish"]), ("hhhhhhhhh", "length"))
        self.assertIn("empty stop string", self.run_bin(*args, "-r", "", code=2).stderr.decode())

    def test_end_of_text(self):
        ends = ("generate", "-m", LLAMA, "the", "-n", "5", "-l", "287+1000")
        got = self.json(*ends)
        self.assertEqual((got["text"], got["finish"], got["ids"]), ("", "end", [287]))
        got = self.json(*ends, "--ignore-eos")
        self.assertEqual((got["finish"], len(got["ids"])), ("length", 5))
        self.assertNotIn(287, got["ids"])

    def test_context(self):
        long = "the " * 600
        done = self.run_bin("generate", "-m", LLAMA, long, code=9)
        self.assertRegex(done.stderr.decode(), r"the prompt has \d+ tokens, the context holds 512")
        self.assertEqual(self.json("generate", "-m", LLAMA, long, code=9)["error"]["code"], "limit exceeded")
        full = self.json("generate", "-m", LLAMA, "the", "-c", "20", *NO_END)
        self.assertEqual(full["finish"], "context")
        self.assertEqual(full["prompt_tokens"] + full["generated_tokens"], 21)  # the last one needs no room
        done = self.run_bin("generate", "-m", LLAMA, "the", "-c", "20", "-n", "60", "--keep", "2", "--json", *NO_END)
        got = json.loads(done.stdout)
        self.assertEqual(len(got["ids"]), 60)
        self.assertGreater(got["shifts"], 2)
        self.assertIn("the context of 20 tokens is full: tokens 2 to", done.stderr.decode())
        self.assertEqual(self.json("generate", "-m", GPT2, "the", "-c", "20", "-n", "60", *NO_END)["finish"], "context")

    def test_jsonl(self):
        prompts = ["the", "in the", "and on", "thing", "a"]
        alone = [self.json("generate", "-m", Q4, p, "-n", "12", *NO_END)["text"] for p in prompts]
        rows = [json.dumps({"prompt": p, "id": "row %d" % i}) for i, p in enumerate(prompts)]
        file = self.path("p.jsonl", "\n".join(rows[:2]) + "\n\n" + "\n".join(rows[2:]))
        for together in (1, 2, 3, 7):
            got = self.lines("generate", "-m", Q4, "-f", file, "-n", "12", "-np", str(together), *NO_END)
            self.assertEqual([g["text"] for g in got], alone)
            self.assertEqual([(g["index"], g["id"]) for g in got], [(i, "row %d" % i) for i in range(5)])

    def test_jsonl_seeds_are_the_rows(self):
        args = ("generate", "-m", Q4, "--temp", "1.5", "--top-k", "0", "-n", "12", "--jsonl", *NO_END)
        rows = '"the"\n"the"\n{"prompt": "the", "seed": 0}\n{"prompt": "the", "n": 2}'
        one = [g["ids"] for g in self.lines(*args, text=rows)]
        self.assertEqual(one, [g["ids"] for g in self.lines(*args, "-np", "4", text=rows)])
        self.assertNotEqual(one[0], one[1])
        self.assertEqual(one[0], one[2])
        self.assertEqual(len(one[3]), 2)

    def test_jsonl_mistakes(self):
        rows = '"the"\n{"prompt": 1}\n{nonsense\n{"prompt": "a", "n": 2, "stop": [""]}\n{"prompt": "a", "n": "x"}\n["a"]\n' \
               + json.dumps("the " * 600) + '\n{"prompt": "the", "n": 1}\n'
        done = self.run_bin("generate", "-m", Q4, "--jsonl", "-np", "3", "-n", "2", text=rows, code=2)
        got = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(["error" in g for g in got], [False, True, True, True, True, True, True, False])
        self.assertEqual([g["index"] for g in got], list(range(8)))
        self.assertIn("line 3", got[2]["error"]["text"])

    def test_stats_and_trace(self):
        file = self.path("trace.json")
        got = self.json("generate", "-m", Q4, "the thing", "-n", "5", "--stats", "--trace", file, *NO_END)
        stats = got["stats"]
        self.assertEqual(stats["generated_tokens"], 4)
        self.assertGreater(stats["operations"], 1e5)
        self.assertGreater(stats["peak_bytes"], 1 << 20)
        self.assertGreater(stats["first_token_s"], 0)
        self.assertTrue(stats["joules"] == "not available" or stats["joules"] >= 0)
        with open(file) as f:
            events = json.load(f)["traceEvents"]
        names = [e["name"] for e in events]
        self.assertEqual(sum(n.startswith("step of") for n in names), 5)
        self.assertIn("load", names)
        self.assertEqual(sum(n.startswith("linear ") for n in names), 5 * 15)  # 7 a layer and the head
        self.assertTrue(all(e["ph"] == "X" and e["dur"] >= 0 for e in events))
        self.run_bin("generate", "-m", Q4, "the", "-n", "1", "--trace", "/nonexistent/x", code=5)
        said = self.run_bin("generate", "-m", Q4, "the", "-n", "1", "--stats").stderr.decode()
        self.assertRegex(said, r"key/values +\S+ kB used of \S+ kB reserved")

    def test_stats_count(self):
        """A row's products with every matrix of two layers, logits only where they are wanted; pages of 64 tokens."""
        layer = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 96
        for rows, heads, args in ((7, 6, ("generate", "-m", LLAMA, "the", "-n", "6", *NO_END)),
                                  (2, 1, ("embed", "-m", LLAMA, "the"))):
            stats = self.lines(*args, "--json", "--stats")[-1]["stats"]
            self.assertEqual(stats["prompt_tokens"], 2)
            attended = rows * (rows + 1) / 2 * 2 * 4 * (16 + 16) * 2
            self.assertEqual(stats["operations"], 2 * (rows * 2 * layer + heads * 288 * 64) + attended, args)
            self.assertEqual(stats["kv_used_bytes"], 64 * 2 * 2 * (16 + 16 + 8))  # tokens, layers, heads, k, v, scales
            self.assertEqual(stats["kv_reserved_bytes"], 8 * stats["kv_used_bytes"])

    def test_trace_of_other_commands(self):
        file = self.path("trace.json")
        counts = {}
        for name, args in (("last", ("embed", "-m", Q4, "the thing")), ("mean", ("embed", "-m", Q4, "the thing", "--pooling", "mean")),
                           ("ppl", ("perplexity", "-m", Q4, "-f", TINY + "text.txt", "--ctx", "32", "--chunks", "2", "-b", "32"))):
            plain = self.out(*args)
            self.assertEqual(self.out(*args, "--trace", file)[:40], plain[:40])
            with open(file) as f:
                names = [e["name"] for e in json.load(f)["traceEvents"]]
            counts[name] = (sum(n.startswith("step of") for n in names), sum(n.startswith("linear ") for n in names),
                            sum(n.startswith("rmsnorm ") for n in names))
        self.assertEqual(counts, {"last": (1, 15, 5), "mean": (1, 15, 6), "ppl": (2, 30, 10)})

    def test_flags_of_llama_cpp(self):
        """Each is taken by chat and generate, with a value at either end of "=" and with either dash inside."""
        prompt, template = self.path("p.txt", "the"), self.path("t", "{{ messages[0].content }}")
        both = (["-f", prompt], ["--file=" + prompt], ["-n", "3"], ["--n-predict", "3"], ["--n_predict=3"], ["-c", "128"],
                ["--ctx-size=128"], ["-t", "1"], ["-s", "7"], ["-b", "16"], ["--batch_size", "16"], ["-ub", "8"], ["-ctk", "q8_0"],
                ["-ctv", "q8_0"], ["-r", "zz"], ["--keep", "-1"], ["--ignore-eos"], ["--mlock"], ["--no-mmap"], ["-ngl", "0"],
                ["-fa", "on"], ["-tb", "2"], ["--override-kv", "llama.context_length=int:200"], ["--temp", "0.8"], ["--top-k", "5"],
                ["--rope-scaling", "yarn", "--rope-scale", "2"], ["--rope-freq-base", "20000"], ["--no-warmup"])
        chat = (["-sys", "a"], ["--chat-template-file", template], ["-cnv"], ["--jinja"], ["-st"])
        generate = (["-np", "2"], ["-no-cnv"], ["--no-display-prompt"], ["--n-probs", "2"])
        for command, own in (("chat", chat), ("generate", generate)):
            for flags in (*both, *own):
                text = [] if flags[0] in ("-f", "--file=" + prompt) else ["-p", "the"]
                got = self.json(command, "-m", Q4, *text, *([] if "redict" in flags[0] else ["-n", "2"]), *flags, *NO_END)
                self.assertEqual(got["finish"], "length", flags)
                self.assertEqual(len(got["ids"]), 3 if flags[0] == "-n" or "redict" in flags[0] else 2, flags)
        ends = ("chat", "-m", LLAMA, "the", "-n", "5", "-l", "287+1000")
        self.assertEqual([self.json(*ends)["finish"], self.json(*ends, "--ignore-eos")["finish"]], ["end", "length"])

    def test_a_mistake_is_one_line(self):
        for flags, said in ((["--tepm", "1"], "did you mean --temp?"), (["-c", "-5"], "-c: \"-5\" is not in the range 0 …"),
                            (["-c", "99999999999"], "is not a number of 32 bits"), (["-n", "abc"], "is not a whole number"),
                            (["--top-p", "7"], "is not in the range 0 … 1"), (["-ctk", "q5"], "is not one of f16|int8"),
                            (["-r"], "-r needs a value"), (["-x"], "unknown option -x (fathom generate --help"),
                            (["-m", "nomodel"], "no such file, nor a model of the cache"), (["-m", "/"], "is a folder"),
                            (["-f", "/nofile"], "more than one text"), (["--override-kv", "x"], "want KEY=TYPE:VALUE"),
                            (["--rope-scale", "0"], "is not in the range 1 … 1024")):
            done = subprocess.run([BIN, "generate", "-m", LLAMA, "the", *flags], env=self.env, capture_output=True, timeout=60)
            self.assertNotEqual(done.returncode, 0, flags)
            self.assertIn(said, done.stderr.decode())
            self.assertEqual((done.stderr.count(b"\n"), done.stdout), (1, b""), flags)
        done = self.run_bin("generate", "-m", LLAMA, "-f", "/nofile", code=5)
        self.assertIn("/nofile: cannot open: No such file", done.stderr.decode())

    def test_mistakes(self):
        self.run_bin("generate", "-m", "/nonexistent.gguf", "x", code=5)
        self.run_bin("generate", "-m", self.path("bad.gguf", "nonsense" * 9), "x", code=6)
        self.run_bin("generate", "-m", LLAMA, "x", "-p", "y", code=2)
        self.run_bin("generate", "-m", LLAMA, "", code=2)
        self.run_bin("generate", "-m", LLAMA, "x", "--device", "gpu", code=5)
        self.run_bin("generate", "-m", LLAMA, "x", "--override-kv", "llama.context_length=int:x", code=2)
        self.assertEqual(self.json("generate", "-m", LLAMA, "x", "-f", "/nonexistent", code=2)["error"]["command"], "generate")

    def test_overrides_and_rope(self):
        args = ("generate", "-m", LLAMA, "the thing in the", "-n", "12", *NO_END)
        short = self.json(*args, "--override-kv", "llama.context_length=int:10")
        self.assertEqual(short["shifts"] > 0, True)
        longer = self.json(*args, "--rope-scaling", "linear", "--rope-scale", "8")
        self.assertNotEqual(longer["ids"], self.json(*args)["ids"])
        self.assertNotEqual(longer["settings"], self.json(*args)["settings"])

    def test_interrupt(self):
        child = subprocess.Popen([BIN, "generate", "-m", LLAMA, "the", "-n", "-1", *NO_END], env=self.env,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        child.stdout.read(20)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
        self.assertEqual(child.returncode, 130, err)

    def test_broken_pipe(self):
        child = subprocess.Popen([BIN, "generate", "-m", LLAMA, "the", "-n", "-1", "-c", "512", *NO_END], env=self.env,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        child.stdout.read(20)
        child.stdout.close()
        self.assertEqual(child.wait(timeout=60), -signal.SIGPIPE)
        self.assertNotIn(b"rror", child.stderr.read())
        child.stderr.close()


class Perplexity(Command):
    text = TINY + "text.txt"

    @staticmethod
    def read_file(path):
        """ctx, V, tokens, and for each chunk its rows as (scale, lowest, codes)."""
        with open(path, "rb") as f:
            data = f.read()
        assert data[:8] == b"_logits_"
        ctx, v, chunks = struct.unpack_from("<3i", data, 8)
        tokens = struct.unpack_from("<%di" % (ctx * chunks), data, 20)
        nv, scored = 2 * ((v + 1) // 2) + 4, ctx - 1 - ctx // 2
        rows, at = [], 20 + 4 * ctx * chunks
        for _ in range(chunks * scored):
            rows.append((*struct.unpack_from("<2f", data, at), struct.unpack_from("<%dH" % v, data, at + 8)))
            at += 2 * nv
        assert at == len(data), (at, len(data))
        return ctx, v, chunks, tokens, rows

    def ppl_of(self, path):
        ctx, _, chunks, tokens, rows = self.read_file(path)
        scored, nll = ctx - 1 - ctx // 2, []
        for k, (scale, lowest, codes) in enumerate(rows):
            token = tokens[k // scored * ctx + ctx // 2 + k % scored + 1]
            nll.append(-(lowest + scale * codes[token]))
        return math.exp(sum(nll) / len(nll))

    def test_file_is_the_peer_s(self):
        """llama.kl was written by llama.cpp's tool for the same model, text and windows, f32 cache, -fa off."""
        ours = self.path("ours.kl")
        got = self.json("perplexity", "-m", LLAMA, "-f", self.text, "--ctx", "32", "--chunks", "4", "-ctk", "f32",
                        "--kl-divergence-base", ours)
        self.assertEqual((got["chunks"], got["scored"], got["ctx"]), (4, 60, 32))
        self.assertAlmostEqual(got["ppl"], self.ppl_of(ours), delta=2e-3 * got["ppl"])
        self.assertAlmostEqual(got["ppl"], self.ppl_of(TINY + "llama.kl"), delta=2e-3 * got["ppl"])
        a, b = self.read_file(ours), self.read_file(TINY + "llama.kl")
        self.assertEqual(a[:4], b[:4])
        for (s1, l1, c1), (s2, l2, c2) in zip(a[4], b[4]):
            self.assertAlmostEqual(l1, l2, delta=1e-3)
            # log-probabilities, within 1e-3 as the logits of the two programs are
            self.assertLess(max(abs(l1 + s1 * x - l2 - s2 * y) for x, y in zip(c1, c2)), 2e-3)

    def test_divergence_from_the_peer(self):
        got = self.json("perplexity", "-m", LLAMA, "--kl-divergence-base", TINY + "llama.kl", "--kl-divergence", "-ctk", "f32")
        self.assertLess(abs(got["kl"]["value"]), 1e-5)
        self.assertEqual(got["same_top"]["value"], 1)
        self.assertAlmostEqual(got["ppl"], got["ppl_base"]["value"], delta=1e-3 * got["ppl"])
        coarse = self.json("perplexity", "-m", LLAMA, "--kl-divergence-base", TINY + "llama.kl", "--kl-divergence", "-ctk", "int8")
        self.assertGreater(coarse["kl"]["value"], got["kl"]["value"])
        other = self.json("perplexity", "-m", Q4, "--kl-divergence-base", TINY + "llama.kl", "--kl-divergence")
        self.assertGreater(other["kl"]["value"], 0.5)
        self.assertLess(other["kl_percentiles"]["0"], other["kl_percentiles"]["50"])
        depths = other["kl_by_depth"]
        self.assertEqual((depths[0]["from"], depths[-1]["to"], len(depths)), (16, 30, 8))
        self.assertEqual([d["to"] + 1 for d in depths[:-1]], [d["from"] for d in depths[1:]])
        mean = sum(d["kl"] * (d["to"] - d["from"] + 1) for d in depths) / 15
        self.assertAlmostEqual(mean, other["kl"]["value"], delta=1e-6)

    def test_exact_activations(self):
        """f32 activations give one result, 8-bit ones another; the settings tell them apart."""
        base = self.path("exact.kl")
        self.json("perplexity", "-m", Q4, "-f", self.text, "--ctx", "32", "--activations", "f32", "--kl-divergence-base", base)
        args = ("perplexity", "-m", Q4, "--kl-divergence-base", base, "--kl-divergence")
        same, rounded = self.json(*args, "--activations", "f32"), self.json(*args)
        self.assertLess(abs(same["kl"]["value"]), 1e-6)  # the file keeps 16 bits
        self.assertGreater(rounded["kl"]["value"], 1e-5)
        self.assertNotEqual(same["settings"], rounded["settings"])

    def test_same_however_it_is_cut(self):
        args = ("perplexity", "-m", Q4, "-f", self.text, "--ctx", "32")
        want = self.json(*args)
        for more in (["-b", "128"], ["-b", "7"], ["-t", "1"]):
            self.assertEqual(self.json(*args, *more)["ppl"], want["ppl"], more)
        self.assertEqual(self.json(*args, "--chunks", "1000")["ppl"], want["ppl"])
        self.assertNotEqual(self.json(*args, "--chunks", "2")["ppl"], want["ppl"])

    def test_bos_replaces_the_first_token(self):
        with_bos = ("--override-kv", "tokenizer.ggml.add_bos_token=bool:true")
        plain, bos = self.path("plain.kl"), self.path("bos.kl")
        args = ("perplexity", "-m", LLAMA, "-f", self.text, "--ctx", "8", "--chunks", "2", "--kl-divergence-base")
        self.run_bin(*args, plain)
        self.run_bin(*args, bos, *with_bos)
        self.assertNotEqual(self.read_file(plain)[4], self.read_file(bos)[4])
        self.assertEqual(self.read_file(bos)[3][0], 286)  # the text begins with it; later windows keep their tokens here
        self.assertNotEqual(self.read_file(bos)[3][8], 286)

    def test_mistakes(self):
        self.assertIn("want at least a window", self.run_bin("perplexity", "-m", LLAMA, "a b c", code=2).stderr.decode())
        self.run_bin("perplexity", "-m", LLAMA, "-f", self.text, "--ctx", "3", code=2)
        self.run_bin("perplexity", "-m", LLAMA, "--kl-divergence", code=2)
        base = TINY + "llama.kl"
        self.run_bin("perplexity", "-m", LLAMA, "--kl-divergence", "--kl-divergence-base", "/nonexistent", code=5)
        self.run_bin("perplexity", "-m", LLAMA, "--kl-divergence", "--kl-divergence-base", self.text, code=6)
        with open(base, "rb") as f:
            cut = f.read()[:-1]
        with open(self.path("cut.kl"), "wb") as f:
            f.write(cut)
        self.run_bin("perplexity", "-m", LLAMA, "--kl-divergence", "--kl-divergence-base", self.path("cut.kl"), code=6)


class Embed(Command):
    def test_vectors(self):
        last = self.json("embed", "-m", LLAMA, "the thing")
        self.assertEqual((len(last["embedding"]), last["pooling"]), (64, "last"))
        self.assertAlmostEqual(sum(x * x for x in last["embedding"]), 1, delta=1e-5)
        raw = self.json("embed", "-m", LLAMA, "the thing", "--no-normalise")["embedding"]
        length = math.sqrt(sum(x * x for x in raw))
        self.assertGreater(length, 1.5)
        for x, y in zip(raw, last["embedding"]):
            self.assertAlmostEqual(x / length, y, delta=1e-5)
        mean = self.json("embed", "-m", LLAMA, "the thing", "--pooling", "mean")["embedding"]
        self.assertNotAlmostEqual(mean[0], last["embedding"][0], delta=1e-6)
        one = [self.json("embed", "-m", LLAMA, "a", "--pooling", kind)["embedding"] for kind in ("last", "mean")]
        self.assertEqual(*one)

    def test_lines(self):
        rows = self.lines("embed", "-m", LLAMA, "--lines", "--json", text="the thing\n\nin")
        self.assertEqual([r["index"] for r in rows], [0, 1])
        self.assertEqual(rows[0]["embedding"], self.json("embed", "-m", LLAMA, "the thing")["embedding"])
        self.assertEqual(len(self.out("embed", "-m", LLAMA, "x").split()), 64)
        self.run_bin("embed", "-m", LLAMA, "the " * 600, code=9)

    def test_vectors_are_the_peer_s(self):
        """embed.json is llama.cpp's; the models with GELU differ by its half-precision table (see test_session.c)."""
        with open(TINY + "embed.json") as f:
            golden = json.load(f)
        self.assertEqual(len(golden["vectors"]), 4)
        for name, kinds in golden["vectors"].items():
            for kind, want in kinds.items():
                args = ("embed", "-m", TINY + name + ".gguf", golden["text"], "--pooling", kind, "-ctk", "f32")
                got = self.json(*args)["embedding"]
                self.assertEqual(len(got), len(want))
                worst = max(abs(x - y) for x, y in zip(got, want))
                self.assertLess(worst, 1e-6 if name in ("llama", "qwen3") else 4.9e-4, (name, kind))
                self.assertEqual(self.json(*args, "-b", "1")["embedding"], got, (name, kind))


class Inspect(Command):
    def test_file(self):
        got = self.json("inspect", LLAMA)
        self.assertEqual(got["metadata"]["general.architecture"], "llama")
        self.assertEqual(len(got["metadata"]["tokenizer.ggml.tokens"]), 288)
        self.assertIs(got["metadata"]["tokenizer.ggml.add_bos_token"], False)
        self.assertIn({"name": "token_embd.weight", "type": "f32", "dims": [288, 64]},
                      [{k: t[k] for k in ("name", "type", "dims")} for t in got["tensors"]])
        self.assertIn("blk.1.ffn_down.weight", self.out("inspect", "-m", LLAMA, "--tensors"))
        self.assertIn("add_generation_prompt", self.out("inspect", LLAMA, "--template"))
        self.run_bin("inspect", LLAMA, "-m", LLAMA, code=2)

    def test_plan(self):
        rows = self.lines("inspect", Q4, "--plan", "--rows", "8", "--depth", "20", "--json")
        linear = [r for r in rows if r["op"] == "linear" and r["value"] == "q4_1[96,64]"]
        self.assertEqual(len(linear), 4)  # gate and up, two layers
        self.assertEqual({r["operations"] for r in linear}, {2 * 8 * 96 * 64})
        attention = [r for r in rows if r["op"] == "attention"]
        self.assertEqual(attention[0]["operations"], sum(20 + r + 1 for r in range(8)) * 4 * 2 * 32)
        self.assertAlmostEqual(sum(r["share_of_step"] for r in rows), 1, delta=1e-6)
        self.assertTrue(all(r["seconds"] > 0 for r in rows))
        self.assertIn("plan rows=8", self.out("inspect", Q4, "--dump", "--rows", "8"))
        self.assertNotIn("took", self.out("inspect", Q4, "--plan", "--reps", "0"))


class Bench(Command):
    def test_lines(self):
        svg = self.path("speed.svg")
        args = ("bench", "-m", Q4, "--pp", "32", "--tg", "4", "--depth", "0,70", "--reps", "3", "--svg", svg)
        rows = self.lines(*args, "--json")
        self.assertEqual([r["name"] for r in rows], ["pp32", "tg4", "pp32 @ d70", "tg4 @ d70"])
        for r in rows:
            self.assertEqual(len(r["samples"]), 3)
            self.assertEqual(sorted(r["samples"])[1], r["value"])
            self.assertAlmostEqual(r["share"], r["value"] / r["bound"], delta=1e-6)
            self.assertGreater(r["spread"], 0)
        self.assertGreater(rows[3]["bytes"], rows[1]["bytes"])
        self.assertEqual(rows[3]["bytes"] - rows[1]["bytes"], 70 * 2 * 2 * (16 + 16 + 8))  # tokens, layers, heads, k, v, scales
        self.assertGreater(rows[2]["operations"], rows[0]["operations"])
        tree = xml.etree.ElementTree.parse(svg)
        self.assertEqual(len(tree.findall(".//{http://www.w3.org/2000/svg}circle")), 4)
        ppl = self.json("perplexity", "-m", Q4, "-f", TINY + "text.txt", "--ctx", "32", "--chunks", "1")
        self.assertEqual({r["settings"] for r in rows}, {ppl["settings"]})
        self.assertNotEqual(self.json("perplexity", "-m", Q4, "-f", TINY + "text.txt", "--ctx", "32", "--chunks", "1",
                                      "-ctk", "f16")["settings"], ppl["settings"])

    def test_formats(self):
        args = ("bench", "-m", Q4, "-p", "16", "-n", "2", "-r", "2", "-np", "3")
        self.assertIn("| tg2 x3 |", self.out(*args, "-o", "md"))
        rows = self.out(*args, "-o", "csv").splitlines()
        self.assertEqual(len(rows), 3)
        self.assertEqual({row.count(",") for row in rows}, {12})
        self.assertIn("tg2 x3", self.out(*args))
        self.assertNotIn("pp", self.out("bench", "-m", Q4, "-p", "0", "-n", "2", "-r", "1", "-o", "csv"))

    def test_together(self):
        rows = self.lines("bench", "-m", Q4, "-p", "0", "-n", "4", "-r", "2", "-np", "1,3", "--depth", "0,16",
                          "--kv", "f16", "--json", "--stats")
        self.assertEqual([r.get("name") for r in rows], ["tg4", "tg4 x3", "tg4 @ d16", "tg4 x3 @ d16", None])
        self.assertEqual([r["sessions"] for r in rows[:4]], [1, 3, 1, 3])
        # weights are read once for all three, keys and values of each: 16 tokens, layers, k and v, heads, dim, f16
        self.assertEqual(rows[3]["bytes"] - rows[1]["bytes"], 3 * 16 * 2 * 2 * 2 * 16 * 2)
        self.assertEqual(rows[2]["bytes"] - rows[0]["bytes"], 16 * 2 * 2 * 2 * 16 * 2)
        self.assertEqual(rows[1]["operations"], 3 * rows[0]["operations"])
        self.assertEqual(rows[4]["stats"]["generated_tokens"], 2 * 4 * (1 + 3) * 2)
        self.assertGreater(rows[4]["stats"]["operations"], 0)
        self.assertIn("peak memory", self.run_bin("bench", "-m", Q4, "-p", "8", "-n", "0", "-r", "1", "--stats").stderr.decode())

    def test_beyond_the_context(self):
        deep = ("bench", "-m", Q4, "-p", "8", "-n", "2", "-r", "1", "--depth", "600", "--json")
        rows = self.lines(*deep, "--rope-scaling", "linear", "--rope-scale", "4")
        self.assertEqual([r["depth"] for r in rows], [600, 600])
        plain = self.lines("bench", "-m", Q4, "-p", "8", "-n", "2", "-r", "1", "--json")
        self.assertNotEqual(rows[0]["settings"], plain[0]["settings"])

    def test_kernels(self):
        self.env = dict(self.env, FATHOM_CPU="ref")
        rows = self.lines("bench", "--kernels", "--json", "-r", "1", "-t", "1")
        self.assertIn("q8a x q4_1 512x1536x576", [r["name"] for r in rows])
        self.assertEqual({(r["kernel"], r["value"]) for r in rows}, {("reference", None)})  # said, not measured
        self.assertNotIn("q8a x q4_k 512x1536x576", [r["name"] for r in rows])  # 576 is no whole number of its blocks

    def test_start(self):
        start, memory = self.lines("bench", "--start", "-m", Q4, "-r", "1", "--json", "-t", "1")
        self.assertEqual((start["unit"], memory["unit"]), ("s", "MB"))
        self.assertEqual(start["value"], start["samples"][0])
        self.assertGreater(start["value"], 0)
        self.assertGreater(memory["bound"], 64)
        self.assertAlmostEqual(memory["share"], memory["value"] / memory["bound"], delta=1e-6)
        self.assertEqual(memory["settings"], self.lines("bench", "-m", Q4, "-p", "8", "-n", "0", "-r", "1", "--json")[0]["settings"])
        self.assertIn("want one", self.run_bin("bench", "--start", "--kernels", code=2).stderr.decode())

    def test_machine(self):
        rows = self.lines("bench", "--machine", "--json", "-t", "1")
        self.assertGreater(len(rows), 3)
        self.assertTrue(all(r["value"] > 0 for r in rows))


class Chat(Command):
    def test_one_answer(self):
        got = self.json("chat", "-m", LLAMA, "the thing", "-n", "6", *NO_END)
        self.assertEqual((got["finish"], len(got["ids"])), ("length", 6))
        # the template's text, tokenised
        prompt = "<|im_start|>user\nthe thing<|im_end|>\n<|im_start|>assistant\n"
        self.assertEqual(self.json("generate", "-m", LLAMA, prompt, "-n", "6", *NO_END)["ids"], got["ids"])
        system = self.json("chat", "-m", LLAMA, "the thing", "-sys", "short", "-n", "6", *NO_END)
        prompt = "<|im_start|>system\nshort<|im_end|>\n" + prompt
        self.assertEqual(self.json("generate", "-m", LLAMA, prompt, "-n", "6", *NO_END)["ids"], system["ids"])
        self.assertEqual(self.out("chat", "-m", LLAMA, "the thing", "-n", "6", *NO_END), got["text"] + "\n")

    def test_template_file(self):
        file = self.path("t.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}!")
        got = self.json("chat", "-m", LLAMA, "the", "-n", "6", "--chat-template-file", file, *NO_END)
        self.assertEqual(got["ids"], self.json("generate", "-m", LLAMA, "the!", "-n", "6", *NO_END)["ids"])
        done = self.run_bin("chat", "-m", LLAMA, "the", "--chat-template-file", self.path("b", "{% for %}"), code=6)
        self.assertIn("line 1", done.stderr.decode())
        self.run_bin("chat", "-m", LLAMA, "the", "--chat-template-file", "/nonexistent", code=5)

    def test_conversation_on_a_pipe(self):
        args = ("chat", "-m", LLAMA, "-n", "5", *NO_END)
        rows = self.lines(*args, "--json", text='the\n\nin\\\nthe\n"""\na\n\nb\n"""\n')
        self.assertEqual(len(rows), 3)
        sizes = [r["prompt_tokens"] for r in rows]
        self.assertEqual(sizes, sorted(sizes))
        # a new conversation begins as the first did
        again = self.lines(*args, "--json", text="the\n/reset\nthe\n/quit\nthe\n")
        self.assertEqual([r["ids"] for r in again], [rows[0]["ids"]] * 2)
        got = self.lines(*args, "--json", text="/system short\nthe\n/system\n/reset\nthe\n/nonsense\n/help\n/stats\n/save\n")
        self.assertEqual(got[1]["ids"], rows[0]["ids"])
        self.assertNotEqual(got[0]["ids"], rows[0]["ids"])

    def test_save_and_load(self):
        args, file = ("chat", "-m", LLAMA, "-n", "5", "--json", *NO_END), self.path("talk.json")
        whole = self.lines(*args, text="the\nin\nand\n")
        self.lines(*args, text="the\nin\n/save %s\n" % file)
        with open(file) as f:
            self.assertEqual([m["role"] for m in json.load(f)["messages"]], ["user", "assistant"] * 2)
        self.assertEqual(self.lines(*args, text="/load %s\nand\n" % file)[0]["ids"], whole[2]["ids"])
        with open(file + ".kv", "r+b") as f:  # without a usable cache it is only slower
            f.seek(100)
            f.write(b"nonsense")
        done = self.run_bin(*args, text="/load %s\nand\n" % file)
        self.assertEqual(json.loads(done.stdout)["ids"], whole[2]["ids"])
        self.assertIn("evaluated again", done.stderr.decode())
        got = self.lines(*args, text="/load /nonexistent\n/load %s\nthe\n" % TINY + "text.txt")
        self.assertEqual(["error" in g for g in got][:1], [True])

    def test_context_outgrown(self):
        args = ("chat", "-m", LLAMA, "-n", "20", "-c", "100", *NO_END)
        done = self.run_bin(*args, "--json", text="the thing\n" * 8)
        self.assertEqual(len(done.stdout.splitlines()), 8)
        self.assertIn("messages are forgotten", done.stderr.decode())
        long = self.run_bin(*args, "--json", text="the " * 200 + "\nthe\n")  # and the conversation goes on
        rows = [json.loads(line) for line in long.stdout.splitlines()]
        self.assertEqual(["error" in r for r in rows], [True, False])
        one = self.run_bin("chat", "-m", LLAMA, "-c", "60", "-n", "100", "the", *NO_END)
        self.assertIn("tokens 4 to", one.stderr.decode())

    def test_paris(self):
        folder = os.environ.get("FATHOM_MODELS") or os.path.join(
            os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "fathom/models")
        model = os.path.join(folder, "SmolLM2-135M-Instruct.Q4_1.gguf")
        if not os.path.exists(model):
            print("skipped: the default model is not in the cache (fathom pull smollm2)")
            self.skipTest("no default model")
        args = ("chat", "-m", model, "What is the capital of France? Answer with one word.", "--stats")
        got = self.json(*args)
        self.assertIn("Paris", got["text"])
        stats = got["stats"]  # weights, what is reserved for keys and values, 64 MB for all the rest
        self.assertLess(stats["peak_bytes"], 1.15 * os.path.getsize(model) + stats["kv_reserved_bytes"] + 64e6)


class Terminal(Command):
    """A conversation at a pseudo-terminal."""

    def start(self, *args):
        pid, self.fd = pty.fork()
        if pid == 0:
            os.execvpe(BIN, [BIN, *args], self.env)
        self.pid, self.seen = pid, b""
        self.addCleanup(os.close, self.fd)

    def wait_for(self, text, seconds=60):
        end = time.monotonic() + seconds
        while text not in self.seen:
            self.assertLess(time.monotonic(), end, (text, self.seen[-600:]))
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.fd, 65536)
                except OSError:
                    break
        self.assertIn(text, self.seen)
        before, self.seen = self.seen.split(text, 1)
        return before

    def type(self, text):
        os.write(self.fd, text.encode())

    def end(self):
        while True:  # what is left to read
            try:
                if not os.read(self.fd, 65536):
                    break
            except OSError:
                break
        return os.waitpid(self.pid, 0)[1]

    def test_conversation(self):
        self.start("chat", "-m", LLAMA, "-n", "8", *NO_END)
        self.wait_for(b"/help explains")
        self.wait_for(b"> ")
        self.type("in the\r")
        self.wait_for(b"> ")
        self.type("draft\x03")  # Ctrl-C: the line is dropped
        self.wait_for(b"^C")
        self.wait_for(b"> ")
        self.type("one\\\rtwo\r")
        self.wait_for("… ".encode())
        self.wait_for(b"> ")
        self.type("\x1b[A\r")  # up: the last text again
        self.wait_for(b"> ")
        self.type("/stats\r")
        self.wait_for(b"peak memory")
        self.wait_for(b"> ")
        self.type("\x04")
        self.assertEqual(self.end(), 0)
        history = os.path.join(self.tmp, ".local/state/fathom/history")
        with open(history) as f:
            text = f.read()
        self.assertIn("in\\040the", text)
        self.assertNotIn("draft", text)
        self.assertEqual(os.stat(history).st_mode & 0o077, 0)

    def test_interrupt_stops_the_answer_only(self):
        self.start("chat", "-m", LLAMA, *NO_END)  # an answer without an end
        self.wait_for(b"> ")
        self.type("the\r")
        self.wait_for(b"tokens is full")
        for _ in range(5):  # however often: it never ends the program
            self.type("\x03")
        self.wait_for(b"> ")
        self.type("\x03")
        self.wait_for(b"> ")
        self.type("/help\r")
        self.wait_for(b"/reset")
        self.wait_for(b"> ")
        self.type("/quit\r")
        self.assertEqual(self.end(), 0)

    def test_typed_while_an_answer_comes(self):
        self.start("chat", "-m", LLAMA, "-n", "2000", *NO_END)
        self.wait_for(b"> ")
        self.type("the\r")
        self.wait_for(b"tokens is full")
        self.type("/unknown\r/quit\r")  # they wait for their turn
        self.wait_for(b"unknown command")
        self.assertEqual(self.end(), 0)

    def test_characters_not_bytes(self):
        self.start("chat", "-m", LLAMA, "-n", "2", *NO_END)
        self.wait_for(b"> ")
        self.type("/né日本\x7f\x7f\x1b[D\x7fx\r")  # two characters erased, one step left, one more erased
        self.wait_for("unknown command /xé (".encode())
        self.wait_for(b"> ")
        self.type("/stast\r")
        self.wait_for(b"did you mean /stats?")
        self.type("/quit\r")
        self.assertEqual(self.end(), 0)

    def test_window_and_sigterm(self):
        self.start("chat", "-m", LLAMA, "-n", "2", *NO_END)
        self.wait_for(b"> ")
        for columns in (20, 7, 90):
            self.type("/unknown" + "0123456789" * 4)
            self.wait_for(b"6789" if columns == 90 else b"0123456789" * 4 if columns == 20 else b"789")
            fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
            self.wait_for(b"> ")  # drawn again
            self.type("!\r")
            self.wait_for(b"unknown command /unknown")
            self.wait_for(b"> ")
        self.assertEqual(termios.tcgetattr(self.fd)[3] & termios.ICANON, 0)
        os.kill(self.pid, signal.SIGTERM)
        status = self.end()
        self.assertTrue(os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM, status)
        with open(os.path.join(self.tmp, ".local/state/fathom/history")) as f:  # it ended in order
            self.assertIn("/unknown0123456789", f.read())

    def test_terminal_is_left_as_it_was(self):
        shell = "before=$(stty -g); \"$0\" chat -m %s -n 4; [ \"$before\" = \"$(stty -g)\" ] && echo same terminal" % LLAMA
        for how in ("/quit\r", "\x04", "the\r\x04"):
            pid, self.fd = pty.fork()
            if pid == 0:
                os.execvpe("sh", ["sh", "-c", shell, BIN], self.env)
            self.pid, self.seen = pid, b""
            self.wait_for(b"> ")
            self.type(how)
            self.wait_for(b"same terminal")
            self.end()
            os.close(self.fd)


if __name__ == "__main__":
    unittest.main()
