#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The engines that `./run peers` measures: which flags each is tried with, its command for a set of tests, what it prints.

A test is (kind, depth): 512 tokens of a prompt ("prefill"), or tokens one after another ("decode"), after `depth` tokens.
One command fills a context once and measures both kinds there. parse() turns output into {test: {"value", "samples", …}}.
"""
import atexit
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

PREFILL = 512
N_DECODE = 64        # tokens, at depth 0
N_DECODE_DEEP = 32   # tokens, at depth: peers make few a second there
TRAINED = 8192       # positions SmolLM2 was trained on; beyond them rope is scaled


def objects(text):
    """JSON objects a line each, or one indented array of them (ik's llama-bench), wherever in the text they stand."""
    found = []
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                found.append(json.loads(line))
            except ValueError:
                pass
    if not found and (start := re.search(r"^\[$", text, re.MULTILINE)):
        try:
            found = json.JSONDecoder().raw_decode(text, start.start())[0]
        except ValueError:
            pass
    return found


def parse_llama_bench(text):
    """llama.cpp's jsonl and ik's json."""
    return {("prefill" if o["n_prompt"] else "decode", o.get("n_depth", 0)): {"value": statistics.median(o["samples_ts"]), "samples": o["samples_ts"]}
            for o in objects(text) if o.get("samples_ts")}


def parse_sweep_bench(text):
    found = {}
    for o in objects(text):
        if "speed_pp" in o:
            found["prefill", o["n_kv"]] = {"value": o["speed_pp"], "samples": [o["speed_pp"]]}
            found["decode", o["n_kv"]] = {"value": o["speed_tg"], "samples": [o["speed_tg"]]}
    return found


def parse_fathom(text):
    """Lines of a model's speed; a line of several sessions has kind "decode x16"."""
    found = {}
    for o in objects(text):
        kind = {"pp": "prefill", "tg": "decode"}.get(str(o.get("name"))[:2])
        if kind and "depth" in o and o.get("value"):
            kind += f" x{o['sessions']}" if o.get("sessions", 1) > 1 else ""
            found[kind, o["depth"]] = {k: o[k] for k in ("value", "samples", "bound", "bound_of", "share", "kv", "settings", "level", "threads") if k in o}
    return found


class Runner:
    """Runs commands with pinned threads; `wrap` are words put before every one (a machine's gate)."""

    def __init__(self, wrap, limit):
        self.wrap, self.limit = shlex.split(wrap), limit
        self.threads = len(os.sched_getaffinity(0))
        self.folder = tempfile.mkdtemp(prefix="fathom-peers-")  # ik_llama.cpp leaves a llama.log where it runs
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        self.env = dict(os.environ, OMP_PROC_BIND="true", OMP_NUM_THREADS=str(self.threads))

    def output(self, cmd):
        """What the command wrote on both streams; its exit code is the caller's to judge by what it printed."""
        return self.outputs(cmd)[2]

    def outputs(self, cmd):
        done = subprocess.run([*self.wrap, "timeout", str(self.limit), *cmd], env=self.env, cwd=self.folder, capture_output=True, check=False)
        out, err = (s.decode("utf-8", "replace") for s in (done.stdout, done.stderr))
        return done.returncode, out, out + "\n" + err


def shown(cmd, model, omp=True):
    """A command as it is recorded: names without the folders of this machine."""
    words = [os.path.basename(w) if w == model or i == 0 else w for i, w in enumerate(cmd)]
    return ("OMP_PROC_BIND=true " if omp else "") + shlex.join(words)


def most_common_stride(depths):
    """(stride, deepest) in windows of 512 that meet every depth, or None where the windows between would be measured for nothing."""
    windows = [d // PREFILL for d in depths]
    first = windows[0]
    return (first, windows[-1]) if first and all(w % first == 0 for w in windows) else None


class Llama:
    name, omp, parse = "llama.cpp", True, staticmethod(parse_llama_bench)

    def __init__(self, version, folder):
        self.version, self.folder = version, folder

    def settings(self, deep, quick):
        """Flags to try. A cache in 8 bits needs flash attention; micro-batches only matter to prompts."""
        found = [{"fa": 1, "kv": "f16", "ub": 512}, {"fa": 1, "kv": "q8_0", "ub": 512}, {"fa": 0, "kv": "f16", "ub": 512}]
        if quick:
            return found[:2]
        more = [{**f, "ub": ub} for f in found for ub in ((128,) if deep else (128, 2048)) if not deep or f is found[0]]
        return found + more

    def commands(self, model, flags, tests, reps):
        """[(tests, command, depth a test is really measured at)]"""
        common = [os.path.join(self.folder, "llama-bench"), "-m", model, "-t", str(reps["threads"]), "-r", str(reps["inside"]), "-o", "jsonl",
                  "-fa", str(flags["fa"]), "-ub", str(flags["ub"]), "-ctk", flags["kv"], "-ctv", flags["kv"]]
        for depth in sorted({d for _, d in tests}):
            kinds = {k for k, d in tests if d == depth}
            n = N_DECODE_DEEP if depth else N_DECODE
            yield ({(k, depth): (k, depth) for k in kinds},
                   [*common, "-p", str(PREFILL if "prefill" in kinds else 0), "-n", str(n if "decode" in kinds else 0), "-d", str(depth)])


class Ik:
    name, omp = "ik_llama.cpp", True

    def __init__(self, version, folder):
        self.version, self.folder = version, folder

    @staticmethod
    def parse(text):
        return parse_sweep_bench(text) or parse_llama_bench(text)

    def settings(self, deep, quick):
        base = [{"fa": 1, "kv": kv, "ub": 512, "rtr": rtr} for kv in ("q8_0", "f16") for rtr in (1, 0)]
        if quick:
            return base[:2]
        base += [{"fa": 0, "kv": "f16", "ub": 512, "rtr": rtr} for rtr in (1, 0)]
        if deep:
            return [*base, {"fa": 1, "kv": "q8_0", "ub": 128, "rtr": 1}]
        return base + [{**f, "ub": ub} for f in base for ub in (128, 2048)]

    def commands(self, model, flags, tests, reps):
        """At depth 0 llama-bench; deeper llama-sweep-bench, which measures whole windows of 512 only: the depth is rounded down."""
        common = ["-m", model, "-t", str(reps["threads"]), "-fa", str(flags["fa"]), "-ctk", flags["kv"], "-ctv", flags["kv"]]
        kinds = {k for k, d in tests if d == 0}
        if kinds:
            yield ({(k, 0): (k, 0) for k in kinds},
                   [os.path.join(self.folder, "llama-bench"), *common, "-rtr", str(flags["rtr"]), "-ub", str(flags["ub"]), "-r", str(reps["inside"]),
                    "-o", "json", "-p", str(PREFILL if "prefill" in kinds else 0), "-n", str(N_DECODE if "decode" in kinds else 0)])
        depths = sorted({d for _, d in tests if d})
        together = [depths] if depths and most_common_stride(depths) else [[d] for d in depths]
        if len(depths) > 2 and len(together) > 1 and most_common_stride(depths[:-1]):
            together = [depths[:-1], depths[-1:]]
        for group in together:
            stride, last = most_common_stride(group)
            ub, deepest = flags["ub"], last * PREFILL
            rope = ["--rope-scaling", "linear", "--rope-scale", "2"] if deepest + PREFILL > TRAINED else []
            yield ({(k, d): (k, d // PREFILL * PREFILL) for k, d in tests if d in group},
                   [os.path.join(self.folder, "llama-sweep-bench"), *common, *(["-rtr"] if flags["rtr"] else []), "-c", str(deepest + PREFILL), "-b", "2048",
                    "-ub", str(ub), "-n", str(N_DECODE_DEEP), "--sweep-stride", str(stride * PREFILL // ub), "--output-format", "jsonl", *rope])


class Fathom:
    name, omp, parse = "fathom", False, staticmethod(parse_fathom)

    def __init__(self, version, binary):
        self.version, self.binary = version, binary

    def commands(self, model, flags, tests, reps):
        depths = sorted({d for _, d in tests})
        kinds = {k for k, _ in tests}
        cmd = [self.binary, "bench", "-m", model, "-t", str(reps["threads"]), "-r", str(reps["inside"]), "--json", "--depth", ",".join(map(str, depths)),
               "--pp", str(PREFILL if "prefill" in kinds else 0), "--tg", str(N_DECODE if "decode" in kinds else 0)]
        cmd += ["-ctk", flags["kv"], "-ctv", flags["kv"]] if "kv" in flags else []
        cmd += ["--rope-scaling", "linear", "--rope-scale", "2"] if depths[-1] + PREFILL > TRAINED else []
        yield {t: t for t in tests}, cmd


def measure(engine, runner, model, flags, tests, inside):
    """{test: {"value", "samples", …, "command"}}, and the texts of commands that printed no figure of theirs."""
    found, failed = {}, []
    for wanted, cmd in engine.commands(model, flags, tests, {"threads": runner.threads, "inside": inside}):
        text = runner.output(cmd)
        got = engine.parse(text)
        for test, at in wanted.items():
            if at in got:
                found[test] = {**got[at], "command": shown(cmd, model, engine.omp), **({"measured_at": at[1]} if at != test else {})}
        if not all(at in got for at in wanted.values()):
            failed.append(shown(cmd, model, engine.omp) + ": " + " ".join(text.split())[-300:])
    return found, failed


def stopwatch(cmd):
    """Runs a command: seconds to its first byte on stdout, seconds to its end, exit code, and both streams."""
    start = time.monotonic()
    with subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        head = os.read(process.stdout.fileno(), 1)
        first = time.monotonic() - start
        rest = process.stdout.read()
        code = process.wait()
    return {"first_s": first if head else None, "wall_s": time.monotonic() - start, "code": code, "out": (head + rest).decode("utf-8", "replace")}


def timed(runner, cmd):
    """stopwatch() behind the runner's wrap, so that waiting at a gate is not counted; None if the command failed."""
    _, out, text = runner.outputs([sys.executable, os.path.abspath(__file__), "--stopwatch", *cmd])
    got = json.loads(out) if out.startswith("{") else {"code": 1, "out": text}
    return got if got["code"] == 0 else None


def parse_time_v(text):
    """Bytes: the largest resident set that /usr/bin/time -v saw, or None."""
    match = re.search(r"Maximum resident set size \(kbytes\): (\d+)", text)
    return int(match.group(1)) * 1024 if match else None


def parse_kernels(text):
    """{name of the product: its line}; one that has no kernel is worth 0."""
    found = {o["name"]: o for o in objects(text) if o.get("unit") == "GOP/s" and " x " in o.get("name", "")}
    return {name: {**{k: v for k, v in o.items() if v is not None}, "value": o["value"] or 0} for name, o in found.items()}


def parse_machine(text):
    """{name of the loop: its line}"""
    return {o["name"]: o for o in objects(text) if o.get("unit") in ("GB/s", "GOP/s") and o.get("value")}


def parse_plan(text, n=8):
    """Where a step's time went: the n heaviest of (op, kernel), each with its share of the step and of its own bound."""
    sums, total = {}, 0.0
    for o in objects(text):
        if "seconds" in o and "op" in o:
            entry = sums.setdefault((o["op"], o["kernel"]), [0.0, 0.0])
            entry[0] += o["seconds"]
            entry[1] += o["bound_s"]
            total += o["seconds"]
    heaviest = sorted(sums.items(), key=lambda item: -item[1][0])[:n]
    return [{"op": op, "kernel": kernel, "seconds": s, "share_of_step": s / total, "share_of_bound": b / s if s else 0.0}
            for (op, kernel), (s, b) in heaviest]


if __name__ == "__main__":
    if sys.argv[1:2] != ["--stopwatch"]:
        sys.exit("peers_tools.py: want --stopwatch COMMAND; ./run peers is the way in")
    print(json.dumps(stopwatch(sys.argv[2:])))
