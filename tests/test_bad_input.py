# SPDX-License-Identifier: MIT
"""Bad input, seen from outside: whatever is wrong with a file, a prompt, a disk or a moment, the binary says one line,
ends with an exit code of status.def, and leaves nothing half-written. (Readers alone: test_gguf, test_safetensors, …)"""
import json
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "support"))
import gguf_edit  # noqa: E402
from command import BIN, NO_END, TINY, Command  # noqa: E402
from gguf_edit import F32, I32, STRING, U32, U64  # noqa: E402

LLAMA = TINY + "llama.gguf"
ARG, MISSING, FORMAT, UNSUPPORTED, SHAPE, LIMIT = 2, 5, 6, 7, 8, 9
BAD_MODEL = {MISSING, FORMAT, UNSUPPORTED, SHAPE, LIMIT}


class Bad(Command):
    def run_bin(self, *args, text=b"", **more):
        done = subprocess.run([BIN, *args], env=self.env, input=text, capture_output=True, timeout=300, **more)
        self.assertGreaterEqual(done.returncode, 0, ("killed by a signal", args, done.stderr[-2000:]))
        return done

    def one_error(self, done, codes, says=""):
        """One line on stderr that names what is wrong, an expected exit code, nothing on stdout."""
        text = done.stderr.decode()  # whatever was in the file, what is said about it is UTF-8
        self.assertFalse(any(c < " " and c != "\n" for c in text), text)
        self.assertIn(done.returncode, codes, text)
        self.assertEqual(text.count("\n"), 1, text)
        self.assertTrue(text.startswith("fathom "), text)
        self.assertLess(len(text), 1000)
        self.assertIn(says, text)
        self.assertEqual(done.stdout, b"")
        return text

    def refused(self, content, codes=BAD_MODEL, says="", command="generate"):
        path = self.path("bad.gguf", content)
        done = self.run_bin(command, "-m", path, *{"generate": ("the", "-n", "1"), "inspect": ()}.get(command, ("the",)))
        self.assertIn(path, self.one_error(done, codes, says))

    def taken_or_refused(self, content):
        """What may make sense in a file: an answer, or one error."""
        done = self.run_bin("generate", "-m", self.path("odd.gguf", content), "the", "-n", "1")
        if done.returncode:
            none_finite = b"no logit is finite" in done.stderr  # what was read was well-formed, what comes out is no number
            self.one_error(done, {ARG} if none_finite else BAD_MODEL | {3})
        return done.returncode


class Files(Bad):
    """Model files, spoiled one way at a time."""

    def setUp(self):
        super().setUp()
        self.g = gguf_edit.Gguf(LLAMA)
        with open(LLAMA, "rb") as f:
            self.whole = f.read()

    def test_the_editor_writes_what_it_read(self):
        self.assertEqual(self.g.bytes(), self.whole)

    def test_truncated(self):
        places = {0, 1, 4, 8, 16, 23, 24, self.g.header_end - 1, self.g.header_end, len(self.whole) - 1}
        places |= set(random.Random(1).sample(range(len(self.whole)), 40)) | set(range(25, self.g.header_end, 211))
        for n in sorted(places):
            self.refused(self.whole[:n], {FORMAT})
        for command in ("chat", "embed", "tokenize", "inspect"):
            self.refused(self.whole[:3000], {FORMAT}, command=command)

    def test_magic_and_version(self):
        for magic in (b"GGML", b"FUGG", b"\0\0\0\0", b"PK\3\4"):
            self.g.magic = magic
            self.refused(self.g.bytes(), {FORMAT}, "magic")
        self.g.magic = b"GGUF"
        for version in (0, 1, 4, 3 << 24, 2**32 - 1):
            self.g.version = version
            self.refused(self.g.bytes(), {FORMAT, UNSUPPORTED}, "(at byte 4)")

    def test_counts(self):
        for n in (2**63, 2**64 - 1, 2**32, 22):
            self.g.n_tensors = n
            self.refused(self.g.bytes(), {FORMAT, LIMIT})
        self.g.n_tensors = None
        for n in (2**63, 2**64 - 1, 2**32, 25):
            self.g.n_meta = n
            self.refused(self.g.bytes(), {FORMAT, LIMIT})

    def test_lengths(self):
        at = self.whole.index(b"general.architecture") - 8
        tokens = self.whole.index(b"tokenizer.ggml.tokens") + len(b"tokenizer.ggml.tokens") + 8  # the array's length
        for place in (at, tokens, tokens + 8):
            for n in (2**63, 2**64 - 1, 2**40):
                self.refused(self.whole[:place] + struct.pack("<Q", n) + self.whole[place + 8:], {FORMAT, LIMIT})

    def test_offsets(self):
        t = self.g.tensor(b"blk.0.attn_q.weight")
        right = t[3]
        for offset in (2**63, 2**64 - 32, len(self.g.data), right + 32, right - 32, right + 1, 0):
            t[3] = offset
            self.refused(self.g.bytes(), {FORMAT}, "blk.0.attn_q.weight" if offset else "")

    def test_shapes_and_types(self):
        for name, dims in ((b"token_embd.weight", [288, 64]), (b"blk.1.attn_k.weight", [64]), (b"output_norm.weight", [32]),
                           (b"blk.0.ffn_up.weight", [64, 95]), (b"blk.0.ffn_up.weight", [64, 96, 1]), (b"blk.1.attn_q.weight", [0, 64]),
                           (b"blk.1.attn_q.weight", [2**63, 64]), (b"blk.1.attn_q.weight", [2**32, 2**32]),
                           (b"blk.1.attn_q.weight", [64, 64, 1, 1, 1])):
            g = gguf_edit.Gguf(LLAMA)
            g.tensor(name)[1] = dims
            self.refused(g.bytes(), {FORMAT, SHAPE}, name.decode())
        for name, kind in ((b"output_norm.weight", 24), (b"token_embd.weight", 26), (b"blk.0.attn_q.weight", 26), (b"blk.0.attn_q.weight", 27),
                           (b"blk.0.attn_q.weight", 200), (b"blk.0.attn_q.weight", 2**32 - 1), (b"output_norm.weight", 8)):
            g = gguf_edit.Gguf(LLAMA)
            g.tensor(name)[2] = kind
            self.refused(g.bytes(), {FORMAT, UNSUPPORTED, SHAPE}, name.decode())

    def test_missing_tensors(self):
        for name in [t[0] for t in self.g.tensors if t[0] != b"output.weight"]:  # without this one it is a tied model
            g = gguf_edit.Gguf(LLAMA)
            g.tensors.remove(g.tensor(name))
            self.refused(g.bytes(), {MISSING}, name.decode())

    def test_missing_metadata(self):
        needed = 0
        for key in [m[0] for m in self.g.meta]:
            g = gguf_edit.Gguf(LLAMA)
            g.meta.remove(g.entry(key))
            if self.taken_or_refused(g.bytes()):
                needed += 1
                # key and value heads have defaults that do not fit here: then a tensor's shape is named
                names = "blk.0.attn_k" if key == b"llama.attention.head_count_kv" else key.decode().split(".", 1)[1]
                self.refused(g.bytes(), {MISSING, FORMAT, UNSUPPORTED, SHAPE}, names)
        self.assertGreaterEqual(needed, 8)  # architecture, five sizes, tokenizer's model and tokens

    def test_metadata_of_any_value(self):
        """Sizes of 0, -1, 2^31 and 2^63, numbers that are none, strings in place of numbers."""
        refused = 0
        for i, (key, kind, _) in enumerate(self.g.meta):
            if not key.startswith((b"llama.", b"tokenizer.ggml.bos", b"tokenizer.ggml.eos")):
                continue
            values = [(U32, 0), (U32, 1), (U32, 2**31), (U32, 2**32 - 1), (I32, -1), (U64, 2**63), (F32, float("nan")),
                      (F32, float("inf")), (STRING, b"64"), (gguf_edit.ARRAY, (U32, [1, 2]))]
            for wrong, v in values:
                g = gguf_edit.Gguf(LLAMA)
                g.meta[i] = [key, wrong, v]
                refused += self.taken_or_refused(g.bytes()) != 0
        self.assertGreater(refused, 60)

    def test_unknown_architecture_and_tokenizer(self):
        for key, wrong in ((b"general.architecture", b"perceptron"), (b"tokenizer.ggml.model", b"words"), (b"tokenizer.ggml.pre", b"split")):
            g = gguf_edit.Gguf(LLAMA)
            g.entry(key)[2] = wrong
            self.refused(g.bytes(), {UNSUPPORTED}, wrong.decode())

    def test_duplicates(self):
        g = gguf_edit.Gguf(LLAMA)
        g.meta.append(list(g.entry(b"llama.block_count")))
        self.refused(g.bytes(), {FORMAT}, "llama.block_count")
        g = gguf_edit.Gguf(LLAMA)
        g.tensor(b"blk.1.attn_k.weight")[0] = b"blk.1.attn_v.weight"
        self.refused(g.bytes(), {FORMAT}, "blk.1.attn_v.weight")

    def test_not_utf8(self):
        for spoil in (lambda g: g.entry(b"general.architecture").__setitem__(2, b"ll\xffma"),
                      lambda g: g.entry(b"tokenizer.ggml.tokens")[2][1].__setitem__(5, b"\xc3\x28"),
                      lambda g: g.entry(b"tokenizer.ggml.merges")[2][1].__setitem__(5, b"\xff \xfe"),
                      lambda g: g.tensor(b"output_norm.weight").__setitem__(0, b"output_norm.w\xffight"),
                      lambda g: g.entry(b"general.name").__setitem__(0, b"general.n\xffme")):
            g = gguf_edit.Gguf(LLAMA)
            spoil(g)
            self.taken_or_refused(g.bytes())
        g.entry(b"tokenizer.chat_template")[2] = b"{{ '\xff' }}"
        done = self.run_bin("chat", "-m", self.path("t.gguf", g.bytes()), "the", "-n", "1")
        self.one_error(done, {FORMAT}, "UTF-8")

    def test_any_byte_of_the_header(self):
        """200 random bytes changed: an answer, or one error."""
        draw = random.Random(2)
        for _ in range(200):
            at = draw.randrange(self.g.header_end)
            self.taken_or_refused(self.whole[:at] + bytes([draw.randrange(256)]) + self.whole[at + 1:])

    def test_numbers_that_are_none(self):
        """Weights of NaN: an answer or an error, and it ends."""
        self.taken_or_refused(self.whole[:-30000] + struct.pack("<f", float("nan")) * 7500)

    def test_shrinks_while_it_is_read(self):
        """Cut at a random moment of loading: no signal, at most one error."""
        draw = random.Random(3)
        for _ in range(30):
            path = self.path("shrinks.gguf", self.whole)
            child = subprocess.Popen([BIN, "generate", "-m", path, "the", "-n", "1"], env=self.env, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE)
            time.sleep(draw.random() * 0.02)
            os.truncate(path, draw.choice([0, 5000, 100_000]))
            _, err = child.communicate(timeout=60)
            self.assertIn(child.returncode, {0, 4, FORMAT}, err)
            self.assertLessEqual(err.count(b"\n"), 1, err)


class Prompts(Bad):
    def test_longer_than_the_context(self):
        long = "the " * 600
        self.one_error(self.run_bin("generate", "-m", LLAMA, long, "-n", "1"), {LIMIT}, "context")
        self.one_error(self.run_bin("generate", "-m", LLAMA, "-c", "16", "the " * 40, "-n", "1"), {LIMIT}, "context")
        self.one_error(self.run_bin("embed", "-m", LLAMA, long), {LIMIT}, "context")
        self.one_error(self.run_bin("chat", "-m", LLAMA, long), {LIMIT}, "context")

    def test_not_utf8(self):
        for text in (b"\xff\xfe", b"\xc3", b"\xed\xa0\x80 surrogate", b"\xf4\x90\x80\x80", b"the \x80\x80 end"):
            done = self.run_bin("generate", "-m", LLAMA, "-n", "1", "--json", "-f", self.path("text", text), *NO_END)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertGreater(json.loads(done.stdout)["prompt_tokens"], 0)
            done = self.run_bin(b"chat", b"-m", LLAMA.encode(), text, b"-n", b"1")
            if done.returncode:
                self.one_error(done, {ARG, FORMAT}, "UTF-8")
        file = self.path("jobs.jsonl", b'{"prompt": "\xff\xfe"}\n{"prompt": "the"}\n')
        done = self.run_bin("generate", "-m", LLAMA, "-n", "1", "-f", file, *NO_END)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([("error" in r) for r in rows], [True, False], done.stderr)
        self.assertNotEqual(done.returncode, 0)

    def test_templates(self):
        for text, codes, says in ((b"{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", {LIMIT}, "line 1"),
                                  (b"{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}", {LIMIT}, ""),
                                  (b"{% for a in range(99999) %}{{ 'x' * 9999 }}{% endfor %}", {LIMIT}, ""),
                                  (b"{{ '\xff' }}", {FORMAT}, "UTF-8"), (b"{% if %}", {FORMAT}, "line 1"), (b"{{", {FORMAT}, "line 1"),
                                  (b"{{ raise_exception('no') }}", {ARG}, "no")):
            done = self.run_bin("chat", "-m", LLAMA, "the", "--chat-template-file", self.path("t.jinja", text))
            self.one_error(done, codes, says)


def small_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


class Disks(Bad):
    """A file may not grow beyond 1 KiB, as on a full disk. The old file stays, no other appears."""

    def refuses_to_write(self, name, *args, text=b"", fails=True):
        os.mkdir(self.path("out"))
        target = self.path("out/" + name, b"the old content")
        done = self.run_bin(*[a if a != "OUT" else target for a in args], text=text, preexec_fn=small_files)
        if fails:
            self.assertEqual(done.returncode, 4, done.stderr)
        self.assertRegex((done.stderr + done.stdout).decode(errors="replace"), "File too large|No space")
        self.assertEqual(os.listdir(self.path("out")), [name])
        with open(target, "rb") as f:
            self.assertEqual(f.read(), b"the old content")

    def test_log_probabilities(self):
        self.refuses_to_write("base.kl", "perplexity", "-m", LLAMA, "-f", TINY + "text.txt", "--ctx", "32", "--kl-divergence-base", "OUT")

    def test_trace(self):
        self.refuses_to_write("trace.json", "generate", "-m", LLAMA, "the", "-n", "40", "--trace", "OUT", *NO_END)

    def test_conversation(self):
        text = b"the\n/save " + self.path("out/talk.json").encode() + b"\n"
        self.refuses_to_write("talk.json", "chat", "-m", LLAMA, "-n", "2", "-sys", "the " * 900, "-c", "4000", "--rope-scaling", "linear",
                              "--rope-scale", "8", text=text, fails=False)


def hears_interrupts():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a background job of a shell is born deaf


class Interrupts(Bad):
    """Ctrl-C 0 to 60 ms after the start: the command ends, as interrupted or done, and leaves no part of a file."""

    def interrupted(self, *args, text=None):
        for i in range(10):
            child = subprocess.Popen([BIN, *args], env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, preexec_fn=hears_interrupts)
            kill = threading.Timer(i * 0.006, child.send_signal, [signal.SIGINT])
            kill.start()
            try:
                _, err = child.communicate(text, timeout=60)
            except subprocess.TimeoutExpired:
                child.kill()
                self.fail(("does not end", args, i))
            kill.join()
            self.assertIn(child.returncode, {130, -signal.SIGINT, 0}, (args, i, err[-2000:]))
            yield child.returncode

    def test_generate(self):
        codes = list(self.interrupted("generate", "-m", LLAMA, "the", "-n", "-1", *NO_END))
        self.assertNotIn(0, codes)  # it would never end

    def test_perplexity(self):
        target = self.path("base.kl")
        self.run_bin("perplexity", "-m", LLAMA, "-f", TINY + "text.txt", "--ctx", "32", "--kl-divergence-base", target)
        whole = os.path.getsize(target)
        os.unlink(target)
        for code in self.interrupted("perplexity", "-m", LLAMA, "-f", TINY + "text.txt", "--ctx", "32", "--kl-divergence-base", target):
            if code == 0 or os.listdir(self.tmp):  # a whole file or none; it may be there when the signal comes
                self.assertEqual(os.listdir(self.tmp), ["base.kl"])
                self.assertEqual(os.path.getsize(target), whole)
                os.unlink(target)

    def test_the_rest(self):
        for args in (("bench", "-m", LLAMA, "-p", "64", "-n", "16", "-r", "50"), ("embed", "-m", LLAMA, "the thing"),
                     ("inspect", LLAMA, "--plan", "--reps", "50"), ("chat", "-m", LLAMA, "the", "-n", "200", *NO_END)):
            list(self.interrupted(*args))
            self.assertEqual([f for f in os.listdir(self.tmp) if f.endswith((".part", ".tmp"))], [])


if __name__ == "__main__":
    unittest.main()
