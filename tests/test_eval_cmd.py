# SPDX-License-Identifier: MIT
"""fathom eval on tiny models: every task, its predictions scored again by scripts/score_predictions.py, reports, the same bytes
however many examples run together, and bad sets of examples."""
import hashlib
import html.parser
import json
import os
import struct
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "support"))
from command import BIN, TINY, Command  # noqa: E402

ROOT = os.environ.get("FATHOM_SOURCE_DIR", ".")
LLAMA, TIED = TINY + "llama.gguf", TINY + "llama-tied.gguf"
WORDS = "the thing about other is that one in boat was not there when rain began and on way sea it had seen".split()


def sentence(i, n):
    return " ".join(WORDS[(i * 7 + k * k + 3 * k) % len(WORDS)] for k in range(n))


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


CHOICE = [{"context": sentence(i, 8 + i % 5), "choices": [sentence(i + k, 1 + (i + k) % 3) + str(k) for k in range(2 + i % 3)],
           "answer": i % 2} for i in range(30)]
CLASSIFY = [{"text": sentence(i, 4 + i % 9), "label": ["good", "bad", "so so"][(i + i // 5) % 3]} for i in range(40)]
LAMBADA = [{"text": sentence(i, 12)} for i in range(25)]
PASSAGES = [{"text": sentence(i, 30 + 10 * i)} for i in range(6)]
QUESTIONS = [{"prompt": sentence(i, 5), "answer": sentence(i, 1)} for i in range(10)]
NUMBERS = [{"text": sentence(i, 5 + i % 7), "label": (i * 13 % 17) / 4} for i in range(40)]


def skip_value(data, at, kind):
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
    if kind == 8:
        return at + 8 + struct.unpack_from("<Q", data, at)[0]
    if kind != 9:
        return at + sizes[kind]
    inner, n = struct.unpack_from("<IQ", data, at)
    at += 12
    for _ in range(n):
        at = skip_value(data, at, inner)
    return at


def with_head(path, classes, labels, width=64):
    """The GGUF file's bytes with a classifier's head: weights that tell the first dimensions of the hidden state apart."""
    with open(path, "rb") as f:
        data = f.read()
    n_tensors, n_kv = struct.unpack_from("<QQ", data, 8)
    at = 24
    for _ in range(n_kv):
        at += 8 + struct.unpack_from("<Q", data, at)[0]
        at = skip_value(data, at + 4, struct.unpack_from("<I", data, at)[0])
    metadata, infos = data[24:at], at
    for _ in range(n_tensors):
        at += 8 + struct.unpack_from("<Q", data, at)[0]
        rank = struct.unpack_from("<I", data, at)[0]
        at += 4 + 8 * rank + 4 + 8
    tensors = data[-(-at // 32) * 32:]
    tensors += bytes(-len(tensors) % 32)

    def string(s):
        return struct.pack("<Q", len(s)) + s.encode()

    info = string("cls.output.weight") + struct.pack("<IQQIQ", 2, width, classes, 0, len(tensors))
    if labels:
        metadata += string("fathom.classifier.labels") + struct.pack("<IIQ", 9, 8, len(labels)) + b"".join(map(string, labels))
    head = b"GGUF" + struct.pack("<IQQ", 3, n_tensors + 1, n_kv + bool(labels)) + metadata + data[infos:at] + info
    head += bytes(-len(head) % 32)
    weight = [1.0 if i % width == i // width else 0.0 for i in range(classes * width)]
    return head + tensors + struct.pack("<%df" % len(weight), *weight)


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            assert name not in ("src", "href", "onload"), (tag, name, value)

    def handle_data(self, data):
        self.text.append(data)


class Eval(Command):
    def run_eval(self, task, rows, *args, model=LLAMA, name="set.jsonl"):
        path = self.path(name, rows if isinstance(rows, str) else jsonl(rows))
        done = subprocess.run([BIN, "eval", "--task", task, path, "-m", model, "--json", *args], env=self.env, capture_output=True,
                              timeout=300)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(len(lines), 1, done.stderr)
        return done.returncode, lines[0]

    def scored(self, task, rows, *args, score=(), model=LLAMA):
        """Runs a task and has its predictions scored again: they must agree."""
        out = self.path("predictions.jsonl")
        code, result = self.run_eval(task, rows, "--predictions", out, "--resamples", "100", *args, model=model)
        self.assertEqual(code, 0, result)
        against = self.path("eval.json", json.dumps(result))
        done = subprocess.run([sys.executable, os.path.join(ROOT, "scripts/score_predictions.py"), out, "--against", against,
                               "--resamples", "100", *score], capture_output=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stdout.decode() + done.stderr.decode())
        with open(out, encoding="utf-8") as f:
            return result, [json.loads(line) for line in f]

    def test_choice(self):
        result, rows = self.scored("choice", CHOICE)
        self.assertEqual(set(result["metrics"]), {"accuracy", "accuracy_norm"})
        self.assertEqual([r["gold"] for r in rows], [c["answer"] for c in CHOICE])
        self.assertEqual([len(r["scores"]) for r in rows], [len(c["choices"]) for c in CHOICE])
        self.assertEqual([r["lengths"] for r in rows], [[len(x) for x in c["choices"]] for c in CHOICE])
        self.scored("choice", CHOICE, "--interval", "exact", "--confidence", "0.9", score=["--interval", "exact", "--confidence", "0.9"])
        # an answer given as the choice's text is the same
        named = [dict(c, answer=c["choices"][c["answer"]]) for c in CHOICE]
        self.assertEqual(self.run_eval("choice", named)[1]["metrics"], self.run_eval("choice", CHOICE)[1]["metrics"])

    def test_classify_zero_shot(self):
        result, rows = self.scored("classify", CLASSIFY, "--prompt", "the {text} is", "--seed", "5", score=["--seed", "5"])
        self.assertEqual(result["labels"], ["bad", "good", "so so"])
        self.assertFalse(result["head"])
        self.assertEqual(sum(map(sum, result["confusion"])), len(CLASSIFY))
        for row, example in zip(rows, CLASSIFY):
            self.assertEqual(row["gold"], example["label"])
            self.assertEqual(row["predicted"], max(row["scores"], key=row["scores"].get))
        bare = self.scored("classify", CLASSIFY)[1]
        self.assertNotEqual([r["scores"] for r in bare], [r["scores"] for r in rows])
        # of the template's \n a newline is made
        escaped = self.scored("classify", CLASSIFY, "--prompt", "{text}\\nin")[1]
        typed = self.scored("classify", CLASSIFY, "--prompt", "{text}\nin")[1]
        self.assertEqual(escaped, typed)

    def test_classify_by_head(self):
        model = self.path("head.gguf", with_head(LLAMA, 3, ["so so", "good", "bad"]))
        result, rows = self.scored("classify", CLASSIFY, model=model)
        ended = [r["scores"] for r in rows]
        self.assertTrue(result["head"])
        self.assertEqual(result["labels"], ["so so", "good", "bad"])
        # the head's weights read the hidden state's first three dimensions out, behind the token that ends a text or without it
        result, rows = self.scored("classify", CLASSIFY, "--end", "none", model=model)
        self.assertNotEqual([r["scores"] for r in rows], ended)
        texts = "".join(c["text"] + "\n" for c in CLASSIFY)
        done = subprocess.run([BIN, "embed", "-m", model, "--lines", "--no-normalise", "--json"], input=texts.encode(), env=self.env,
                              capture_output=True, check=True)
        for line, row in zip(done.stdout.splitlines(), rows):
            for value, label in zip(json.loads(line)["embedding"], result["labels"]):
                self.assertAlmostEqual(value, row["scores"][label], places=6)
        self.assertFalse(self.scored("classify", CLASSIFY, "--zero-shot", model=model)[0]["head"])
        code, result = self.run_eval("classify", CLASSIFY + [{"text": "a", "label": "new"}], model=model)
        self.assertEqual(code, 6)
        self.assertIn("unknown label \"new\"", result["error"]["text"])
        self.assertIn(":41", result["error"]["text"])
        # labels without names take the head's places in order
        self.path("bare.gguf", with_head(LLAMA, 4, None))
        result = self.scored("classify", CLASSIFY, model=self.path("bare.gguf"))[0]
        self.assertEqual(result["labels"], ["bad", "good", "so so", "class 3"])
        self.path("small.gguf", with_head(LLAMA, 2, None))
        self.assertEqual(self.run_eval("classify", CLASSIFY, model=self.path("small.gguf"))[0], 8)

    def test_classify_by_adapter(self):
        # the head lies in the adapter, which changes the model too: what embed --classify says, text by text
        adapter = os.path.join(ROOT, "tests/data/adapters/head")
        texts = "".join(c["text"] + "\n" for c in CLASSIFY)
        done = subprocess.run([BIN, "embed", "-m", LLAMA, "--adapter", adapter, "--classify", "--lines", "--json"], input=texts.encode(),
                              env=self.env, capture_output=True, check=True)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        labels = [c["label"] for c in lines[0]["classes"]]
        rows = [{"text": c["text"], "label": labels[i % len(labels)]} for i, c in enumerate(CLASSIFY)]
        result, rows = self.scored("classify", rows, "--adapter", adapter, "--end", "none")
        self.assertTrue(result["head"])
        self.assertEqual(result["labels"], labels)
        for line, row in zip(lines, rows):
            self.assertEqual(row["predicted"], labels[line["best"]])
            for c in line["classes"]:
                self.assertAlmostEqual(c["score"], row["scores"][c["label"]], places=4)

    def test_what_finetune_made(self):
        # a head that was trained, in an adapter and in a model file: eval finds what the training's own validation found
        def rows(n):
            return jsonl([{"text": sentence(i, 6 + i % 5) + (" boat" if i % 3 else " rain"), "label": "wet" if i % 3 == 0 else "dry"} for i in n])
        train, valid = self.path("train.jsonl", rows(range(160))), rows(range(200, 260))
        self.path("valid.jsonl", valid)
        for out, how in (("adapter", ["--lora", "4", "--lr", "1e-2"]), ("full.gguf", ["--lr", "2e-3"])):
            done = subprocess.run([BIN, "finetune", "-m", TIED, "--data", "classify", train, "--validation-data", self.path("valid.jsonl"),
                                   "-o", self.path(out), "--epochs", "2", "--rows", "128", "--length", "64", "--eval-every", "1", "--dropout",
                                   "0", "--log", self.path("log.jsonl"), *how], env=self.env, capture_output=True, text=True, timeout=600)
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(self.path("log.jsonl"), encoding="utf-8") as f:
                told = [line for line in map(json.loads, f) if "eval_accuracy" in line]
            kept = max((t for t in told if t.get("best")), key=lambda t: t["step"], default=told[-1])
            model = {"model": self.path(out) if out.endswith("gguf") else TIED}
            args = [] if out.endswith("gguf") else ["--adapter", self.path(out)]
            report = self.path("trained.html")
            result = self.scored("classify", valid, *args, "--report", report, "--training-log", self.path("log.jsonl"), **model)[0]
            self.assertTrue(result["head"])
            self.assertEqual(sorted(result["labels"]), ["dry", "wet"])
            self.assertIn(round(result["metrics"]["accuracy"]["value"], 6),
                          {round(kept["eval_accuracy"], 6), round(told[-1]["eval_accuracy"], 6)}, out)

    def test_label_words(self):
        plain = self.scored("classify", CLASSIFY)[1]
        numbers = [dict(c, label=str(["bad", "good", "so so"].index(c["label"]))) for c in CLASSIFY]
        named = self.scored("classify", numbers, "--label-words", "bad,good,so so")[1]
        self.assertEqual([list(r["scores"].values()) for r in named], [list(r["scores"].values()) for r in plain])
        self.assertEqual({r["gold"] for r in named}, {"0", "1", "2"})
        self.assertEqual(self.run_eval("classify", CLASSIFY, "--label-words", "a,b")[0], 2)
        self.assertEqual(self.run_eval("classify", CLASSIFY, "--label-words", "a,b,c,d")[0], 2)

    def test_tables(self):
        # the same rows as JSON lines, TSV with a header, CSV with other columns: the same predictions but for the line
        want = self.scored("classify", CLASSIFY)[1]
        tsv = "sentence\tlabel\n" + "".join("%s\t%s\n" % (c["text"], c["label"]) for c in CLASSIFY)
        csv = "".join('%d,"%s",%s\n' % (i, c["text"], c["label"]) for i, c in enumerate(CLASSIFY))
        for name, text, args in (("set.tsv", tsv, ()), ("set.csv", csv, ("--text-column", "2", "--label-column", "3", "--header", "no"))):
            out = self.path("table.jsonl")
            code, result = self.run_eval("classify", text, "--predictions", out, *args, name=name)
            self.assertEqual(code, 0, result)
            with open(out, encoding="utf-8") as f:
                got = [json.loads(line) for line in f]
            self.assertEqual([r["line"] for r in got], [i + 1 + (name == "set.tsv") for i in range(len(CLASSIFY))])
            self.assertEqual([dict(r, line=0) for r in got], [dict(r, line=0) for r in want])
            self.assertEqual([r["hash"] for r in got], [hashlib.sha256(c["text"].encode()).hexdigest()[:16] for c in CLASSIFY])

    def test_regress(self):
        model = self.path("head.gguf", with_head(LLAMA, 1, None))
        result, rows = self.scored("regress", NUMBERS, model=model)
        self.assertEqual(set(result["metrics"]), {"spearman", "pearson", "rmse"})
        self.assertEqual([r["gold"] for r in rows], [n["label"] for n in NUMBERS])
        code, result = self.run_eval("regress", NUMBERS)
        self.assertEqual(code, 2)
        self.assertIn("no head", result["error"]["text"])

    def test_lambada(self):
        result, rows = self.scored("lambada", LAMBADA)
        for row, example in zip(rows, LAMBADA):
            self.assertEqual(row["gold"], " " + example["text"].split(" ")[-1])
            self.assertEqual(row["correct"], row["predicted"] == row["gold"])
        plain = self.run_eval("lambada", "".join(e["text"] + "\n" for e in LAMBADA), name="set.txt")[1]
        self.assertEqual(plain["metrics"], self.run_eval("lambada", LAMBADA)[1]["metrics"])
        self.assertEqual(result["n"], len(LAMBADA))

    def test_perplexity(self):
        rows = self.scored("perplexity", PASSAGES, "-c", "64")[1]
        self.assertGreater(len(rows), len(PASSAGES))
        self.assertEqual({r["line"] for r in rows}, set(range(1, len(PASSAGES) + 1)))
        # bytes of what is scored: all but those of each text's first token
        first = []
        for p in PASSAGES:
            done = subprocess.run([BIN, "tokenize", "-m", LLAMA, "--json", p["text"]], env=self.env, capture_output=True, check=True)
            first.append(len(json.loads(done.stdout)["pieces"][0]))
        self.assertEqual(sum(r["bytes"] for r in rows), sum(len(p["text"]) for p in PASSAGES) - sum(first))
        text = "\n".join(p["text"] for p in PASSAGES)
        self.assertEqual(self.run_eval("perplexity", text, "-c", "64", name="set.txt")[0], 0)

    def test_generate(self):
        rows = self.scored("generate", QUESTIONS, "-n", "6")[1]
        answers = [dict(q, answer=r["predicted"][:5]) for q, r in zip(QUESTIONS, rows)]
        for how, share in (("exact", None), ("prefix", 1), ("contains", 1)):
            result = self.scored("generate", answers, "-n", "6", "--match", how, score=["--match", how])[0]
            if share is not None:
                self.assertEqual(result["metrics"]["exact_match"]["value"], share)
        self.scored("generate", [dict(q, answer="in 7") for q in QUESTIONS], "-n", "6", "--match", "number", score=["--match", "number"])

    def test_chat(self):
        rows = self.scored("generate", QUESTIONS, "-n", "6", "--chat")[1]
        for row, question in zip(rows, QUESTIONS):
            done = subprocess.run([BIN, "chat", "-m", LLAMA, "-n", "6", question["prompt"], "--json"], env=self.env, capture_output=True,
                                  check=True)
            self.assertEqual(json.loads(done.stdout)["text"], row["predicted"])
        self.assertEqual(self.run_eval("choice", CHOICE, "--chat")[0], 2)

    def test_together_or_alone(self):
        for task, rows in (("choice", CHOICE), ("generate", QUESTIONS), ("classify", CLASSIFY)):
            found = set()
            for n in ("1", "3", "17"):
                out = self.path("p" + n)
                code, result = self.run_eval(task, rows, "-np", n, "-t", n if n != "17" else "2", "--predictions", out, "-n", "5")
                self.assertEqual(code, 0, result)
                with open(out, "rb") as f:
                    found.add(f.read())
            self.assertEqual(len(found), 1, task)

    def test_limit_and_truncation(self):
        code, result = self.run_eval("choice", CHOICE, "--limit", "7")
        self.assertEqual((code, result["n"]), (0, 7))
        code, result = self.run_eval("choice", CHOICE, "-c", "48")
        self.assertEqual(code, 0)
        self.assertGreater(result["truncated"], 0)

    def test_report(self):
        log = self.path("log.jsonl", jsonl([{"step": i, "loss": 4 / (1 + i), "lr": 1} for i in range(2000)] +
                                           [{"step": 10 * i, "valid_loss": 5 / (1 + i)} for i in range(9)]) + '{"step": 20')
        rows = [dict(c, text="<script>alert('&')</script> " + c["text"]) for c in CLASSIFY]
        for task, data in (("classify", rows), ("choice", CHOICE), ("lambada", LAMBADA), ("perplexity", PASSAGES),
                           ("generate", QUESTIONS)):
            out = self.path(task + ".html")
            code, result = self.run_eval(task, data, "-n", "4", "--report", out, "--training-log", log)
            self.assertEqual(code, 0, result)
            with open(out, encoding="utf-8") as f:
                text = f.read()
            page = Page(text)
            self.assertNotIn("script", page.tags)
            self.assertIn("polyline", page.tags)
            seen = " ".join(page.text)
            for name, measure in result["metrics"].items():
                self.assertIn(name, seen)
                if measure["value"] < 1000:  # JSON has nine digits
                    self.assertIn("%.5f" % measure["value"], seen)
            if task == "classify":
                self.assertIn("<script>alert('&')</script>", seen)
                self.assertIn("Confusion matrix", seen)
        self.assertEqual(self.run_eval("choice", CHOICE, "--report", self.path("x.html"), "--training-log", self.path("none"))[0], 5)
        self.assertFalse(os.path.exists(self.path("x.html")))
        empty = self.path("empty.jsonl", '{"a": 1}\n')
        self.assertEqual(self.run_eval("choice", CHOICE, "--report", self.path("x.html"), "--training-log", empty)[0], 6)

    def test_many_classes(self):
        rows = [{"text": sentence(i, 5), "label": "label%d" % (i % 50)} for i in range(100)]
        out = self.path("many.html")
        result = self.scored("classify", rows, "--report", out)[0]
        self.assertEqual(len(result["labels"]), 50)
        with open(out, encoding="utf-8") as f:
            self.assertIn("most frequent confusions", f.read())

    def test_bad_sets(self):
        good = CHOICE[0]
        for rows, why in (([good, {"context": "a"}], "\"choices\""), ([good, dict(good, answer=9)], "\"answer\""),
                          ([good, dict(good, answer="no such")], "none of the"), ([good, 5], "no JSON object"),
                          ([good, dict(good, choices=["a"])], "\"choices\""), (jsonl([good]) + "{\"context\": ", "line 1")):
            code, result = self.run_eval("choice", rows)
            self.assertEqual(code, 6, result)
            self.assertIn("set.jsonl:2: ", result["error"]["text"])
            self.assertIn(why, result["error"]["text"])
            code, result = self.run_eval("choice", rows, "--skip-bad", "1")
            self.assertEqual((code, result["n"], result["skipped"]), (0, 1, 1))
        labelled = CLASSIFY[:3] + [{"text": "a"}]
        code, result = self.run_eval("classify", labelled)
        self.assertEqual(code, 6)
        self.assertIn("set.jsonl:4", result["error"]["text"])
        code, result = self.run_eval("classify", labelled, "--skip-bad", "1")
        self.assertEqual((code, result["n"], result["skipped"]), (0, 3, 1))
        for args, code in ((["classify", "", "x"], 6), (["choice", "\n\n"], 2), (["lambada", "word\n", "x"], 6)):
            self.assertEqual(self.run_eval(args[0], args[1], name="set.txt" if len(args) > 2 else "set.jsonl")[0], code, args)
        self.assertEqual(self.run_eval("regress", [{"text": "a", "label": "b"}])[0], 6)
        self.assertEqual(self.run_eval("choice", CHOICE, "--prompt", "no place")[0], 2)
        self.assertEqual(self.run_eval("choice", CHOICE, "--training-log", "x")[0], 2)
        self.assertEqual(self.run_eval("choice", CHOICE, "--confidence", "1")[0], 2)
        self.assertEqual(self.run_eval("generate", QUESTIONS, "-n", "512")[0], 2)
        self.assertEqual(self.run_eval("choice", [dict(good, choices=["a", "the " * 600])])[0], 9)
        self.assertEqual(self.run_eval("choice", CHOICE, "--predictions", "/nonexistent/x")[0], 5)


if __name__ == "__main__":
    unittest.main()
