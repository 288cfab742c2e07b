# SPDX-License-Identifier: MIT
"""Holds what every command prints with --json to the schema in docs/cli.md: the block is parsed here, a command run, its
lines checked member by member; with and without --stats, and when it fails."""
import json
import os
import re
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "support"))
from command import BIN, TINY, Command  # noqa: E402

ROOT = os.environ.get("FATHOM_SOURCE_DIR", ".")
LLAMA, Q4 = TINY + "llama.gguf", TINY + "llama-q4_1.gguf"
TOKEN = re.compile(r'\s*("[^"]*"|[A-Za-z_][A-Za-z_0-9]*|[{}\[\],|?*])')


class Schema:
    """Types are tuples: (name,), ("either", …), ("list", T), ("map", T), ("object", {member: (T, optional)})."""

    def __init__(self, path):
        with open(path) as f:
            block = f.read().split("```schema\n")[1].split("```")[0]
        self.types, self.many = {}, set()
        # a line that does not begin with a space begins an entry: its name ends where the type begins
        for entry in re.split(r"\n+(?=\S)", block.strip()):
            name, rest = re.match(r'([a-z]+(?: --[a-z-]+)?(?: \*)?|[A-Z]+)\s+(.*)', entry, re.S).groups()
            if name.endswith(" *"):
                name = name[:-2]
                self.many.add(name)
            self.words, self.at = TOKEN.findall(rest), 0
            self.types[name] = self.either()
            assert self.at == len(self.words), (name, self.words[self.at:])

    def take(self, want=None):
        word = self.words[self.at] if self.at < len(self.words) else None
        if want is not None and word != want:
            return None
        self.at += 1
        return word

    def either(self):
        options = [self.one()]
        while self.take("|"):
            options.append(self.one())
        return options[0] if len(options) == 1 else ("either", *options)

    def one(self):
        if self.take("["):
            inner = ("list", self.either())
            assert self.take("]")
            return inner
        if not self.take("{"):
            return (self.take(),)
        if self.take("*"):
            inner = ("map", self.either())
            assert self.take("}")
            return inner
        members = {}
        while True:
            name = self.take()
            optional = self.take("?") is not None
            members[name] = (self.either(), optional)
            if not self.take(","):
                break
        assert self.take("}"), self.words[self.at:]
        return ("object", members)

    def wrong(self, kind, value, where=""):
        """What is wrong with the value; None: nothing."""
        name = kind[0]
        if name == "either":
            answers = [self.wrong(k, value, where) for k in kind[1:]]
            return None if None in answers else "; or ".join(answers)
        if name == "list":
            if not isinstance(value, list):
                return where + ": no list"
            return next((w for w in (self.wrong(kind[1], v, where + "[]") for v in value) if w), None)
        if name == "map":
            if not isinstance(value, dict):
                return where + ": no object"
            return next((w for w in (self.wrong(kind[1], v, where + "{}") for v in value.values()) if w), None)
        if name == "object":
            return self.wrong_object(kind[1], value, where)
        if name[0] == '"':
            return None if value == name[1:-1] else "%s: %r is not %s" % (where, value, name)
        plain = {"str": str, "bool": bool, "null": type(None)}
        if name in plain:
            return None if isinstance(value, plain[name]) else "%s: %r is no %s" % (where, value, name)
        if name in ("int", "num"):
            good = isinstance(value, int if name == "int" else (int, float)) and not isinstance(value, bool)
            return None if good else "%s: %r is no %s" % (where, value, name)
        return None if name == "any" else self.wrong(self.types[name], value, where)

    def wrong_object(self, members, value, where):
        if not isinstance(value, dict):
            return where + ": no object"
        for member, (kind, optional) in members.items():
            if member not in value:
                if optional:
                    continue
                return "%s.%s is missing" % (where, member)
            found = self.wrong(kind, value[member], where + "." + member)
            if found:
                return found
        more = set(value) - set(members)
        return "%s: not in the schema: %s" % (where, ", ".join(sorted(more))) if more else None


SCHEMA = Schema(os.path.join(ROOT, "docs/cli.md"))


class Lines(Command):
    def setUp(self):
        super().setUp()
        self.env.pop("XDG_CACHE_HOME", None)

    def run_json(self, *args, text=""):
        done = subprocess.run([BIN, *args, "--json"], env=self.env, input=text.encode(), capture_output=True, timeout=300)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    def check(self, name, *args, text="", lines=1):
        kind = SCHEMA.types[name]
        for stats in (False, True):
            code, values = self.run_json(*args, *(["--stats"] if stats else []), text=text)
            self.assertEqual(code, 0, args)
            if stats and name in SCHEMA.many and name != "chat":
                self.assertEqual(set(values[-1]), {"stats"})
                self.assertIsNone(SCHEMA.wrong(SCHEMA.types["STATS"], values.pop()["stats"]))
            self.assertGreaterEqual(len(values), lines)
            if name not in SCHEMA.many:
                self.assertEqual(len(values), 1)
            for value in values:
                self.assertIsNone(SCHEMA.wrong(kind, value, name))
                if name not in SCHEMA.many or name == "chat":
                    self.assertEqual("stats" in value, stats)
        return values

    def test_the_schema_says_no(self):
        good = {"n": 1, "ids": [1], "pieces": ["a"]}
        self.assertIsNone(SCHEMA.wrong(SCHEMA.types["tokenize"], good))
        for more in ({"x": 1}, {"n": True}, {"n": 1.5}, {"ids": ["a"]}, {"pieces": None}, {"stats": {}}):
            self.assertIsNotNone(SCHEMA.wrong(SCHEMA.types["tokenize"], {**good, **more}), more)
        self.assertIn("n is missing", SCHEMA.wrong(SCHEMA.types["tokenize"], {"ids": [], "pieces": []}))
        self.assertIsNotNone(SCHEMA.wrong(SCHEMA.types["FINISH"], "ended"))

    def test_every_command_is_in_it(self):
        words = subprocess.run([BIN, "--help=words"], capture_output=True, check=True).stdout.decode().split()
        self.assertEqual({name.split()[0] for name in SCHEMA.types if not name.isupper()}, set(words))

    def test_files(self):
        self.check("version", "version")
        self.check("models", "models", lines=2)
        pulled = self.check("pull", "pull", LLAMA, "--force")[0]
        self.check("models", "models", "--verify", lines=3)
        self.assertEqual(pulled["bytes"], os.path.getsize(LLAMA))
        self.check("tokenize", "tokenize", "-m", LLAMA, "the thing")
        self.check("inspect", "inspect", LLAMA)

    def test_texts(self):
        self.check("embed", "embed", "-m", LLAMA, "--lines", text="a\nb\n", lines=2)
        self.check("embed", "embed", "-m", LLAMA, "the", "--pooling", "mean")
        self.check("chat", "chat", "-m", LLAMA, "-n", "3", text="the\nin\n", lines=2)
        self.check("chat", "chat", "-m", LLAMA, "-n", "3", "the")
        self.check("generate", "generate", "-m", Q4, "the", "-n", "3", "--logprobs", "2")
        self.check("generate", "generate", "-m", Q4, "the", "-n", "3")
        self.check("generate --jsonl", "generate", "-m", Q4, "--jsonl", "-np", "2", "-n", "2", "--logprobs", "1",
                   text='"the"\n{"prompt": "in", "id": [1]}\n', lines=2)
        code, values = self.run_json("generate", "-m", Q4, "--jsonl", "-n", "2", text='{"id": 3}\n')
        self.assertEqual(code, 2)
        self.assertIsNone(SCHEMA.wrong(SCHEMA.types["generate --jsonl"], values[0]))

    def test_measures(self):
        text = ("-f", TINY + "text.txt", "--ctx", "32", "--chunks", "2")
        self.check("perplexity", "perplexity", "-m", LLAMA, *text)
        self.check("perplexity --kl-divergence", "perplexity", "-m", LLAMA, "--kl-divergence", "--kl-divergence-base",
                   TINY + "llama.kl")
        self.check("inspect --plan", "inspect", Q4, "--plan", "--reps", "1", lines=10)
        self.check("inspect --plan", "inspect", Q4, "--plan", "--reps", "0", lines=10)
        self.check("bench", "bench", "-m", Q4, "--pp", "4", "--tg", "2", "-r", "1", lines=2)
        self.check("bench --machine", "bench", "--machine", "-t", "1", lines=3)
        self.check("bench --start", "bench", "--start", "-m", Q4, "-r", "1", lines=2)

    def test_sets(self):
        labelled = self.path("labelled.jsonl", '{"text": "the", "label": "in"}\n{"text": "a", "label": "the"}\n')
        choice = self.path("choice.jsonl", '{"context": "the", "choices": ["in", "a"], "answer": 1}\n')
        self.check("eval", "eval", "-m", LLAMA, "--task", "classify", labelled)
        self.check("eval", "eval", "-m", LLAMA, "--task", "choice", choice)
        self.check("eval", "eval", "-m", LLAMA, "--task", "perplexity", TINY + "text.txt", "-c", "32")
        out = self.path("made.gguf")
        for kind in ("bpe", "char", "byte"):
            self.check("tokenizer", "tokenizer", "train", TINY + "text.txt", "-o", out, "--kind", kind, "--vocab-size", "280")

    def test_training(self):
        texts = self.path("texts.jsonl", '{"text": "the thing in the end"}\n' * 4)
        model, more = self.path("made.gguf"), ("--steps", "2", "--length", "16", "--rows", "32")
        self.check("finetune", "finetune", "-m", LLAMA, texts, "-o", self.path("adapter"), "--lora", "2", *more, lines=3)
        self.check("train", "train", texts, "--tokenizer", LLAMA, "--layers", "1", "--d-model", "32", "--heads", "2", "--ctx", "32",
                   "--validation", "0.5", "--eval-every", "1", "-o", model, *more, lines=3)

    def test_failures(self):
        missing = "/nonexistent/model.gguf"
        for args in (["pull", missing], ["tokenize", "-m", missing, "x"], ["inspect", missing], ["embed", "-m", missing, "x"],
                     ["chat", "-m", missing, "x"], ["generate", "-m", missing, "x"], ["bench", "-m", missing],
                     ["perplexity", "-m", missing, "x"], ["inspect", "--plan", missing],
                     ["eval", "--task", "choice", "-m", missing, "x"], ["tokenizer", "train", missing, "-o", self.path("x")],
                     ["finetune", "-m", missing, "x", "-o", self.path("x")]):
            code, values = self.run_json(*args, "--stats")
            self.assertEqual((code, len(values)), (5, 1), args)
            self.assertIsNone(SCHEMA.wrong(SCHEMA.types["ERROR"], values[0]))
            self.assertEqual(values[0]["error"]["command"], args[0])


if __name__ == "__main__":
    unittest.main()
