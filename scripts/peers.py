#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures the speed table: fathom, llama.cpp and ik_llama.cpp on this machine, interleaved, into results/*.jsonl.

Peers are built first if need be (peers_build.py: LLAMA_SRC, IK_SRC, LLAMA_BIN, IK_BIN). Then, for each group of rows:
every flag setting of the peers once (the sweep, all of it printed and recorded); then our command and the peers at their
best settings in turns, so that a machine that slows down slows all of them. Threads are pinned, one a CPU of this process's
mask. A peer that the sweep saw below 0.7 of the other one at depth takes no turns there (said aloud; --every-peer: it does).

Each repeat is a line of its own, written at once: a run that was cut goes on where it stopped, and a row that this commit
and CPU have already is not measured again (--again: it is). ./run report makes docs/benchmarks.md of it all.
"""
import argparse
import fnmatch
import json
import os
import shutil
import subprocess
import sys
import time

import bench_rows
import peers_build
import peers_tools as tools
from peers_build import say

ROOT = bench_rows.ROOT
FILES = {"smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf", "gemma3": "gemma-3-270m-Q4_K_M.gguf"}
BUILT_FROM = ["src", "include", "apps", "cmake", "CMakeLists.txt", "CMakePresets.json"]
OUR_FLAGS = {"smollm2": {"kv": "int8"}, "gemma3": {}}  # {}: the cache format that the model gets by default
QUESTION = "What is the capital of France? Answer with one word."
STORY = "Once upon a time"
HOPELESS = 0.7    # of the other peer's sweep figure: below, no turns
ONE_SETTING = 0.97  # of the best figures: one setting for all rows of a group, so that a context is filled once


def git(*words):
    done = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def commit():
    """The last commit that touched what is built: results and documents leave it as it is."""
    here = git("log", "-1", "--format=%h", "--abbrev=12", "--", *BUILT_FROM) or "unknown"
    return here + ("-dirty" if git("status", "--porcelain", "--untracked-files=no", "--", *BUILT_FROM) else "")


class Results:
    """What is known of this commit and CPU, and the file that takes more."""

    def __init__(self, args, info):
        self.info, self.commit, self.again = info, commit(), args.again
        self.path = args.out or os.path.join(bench_rows.RESULTS, time.strftime("%Y%m%d-") + peers_build.key_of(info) + ".jsonl")
        folder = os.path.dirname(os.path.abspath(self.path))
        os.makedirs(folder, exist_ok=True)
        self.old = [r for r in bench_rows.load(folder) if r["commit"] == self.commit and r["cpu"] == info]
        self.series = {}

    def series_of(self, row):
        if row not in self.series:
            last = max((r["series"] for r in self.old if r["row"] == row), default=0)
            self.series[row] = last + 1 if self.again or not last else last
        return self.series[row]

    def of(self, phase, row, engine=None):
        return [r for r in self.old if r["phase"] == phase and r["row"] == row and r["series"] == self.series_of(row)
                and (engine is None or r["engine"] == engine)]

    def has_turn(self, row, engine, turn):
        return any(r["turn"] == turn for r in self.of("turn", row, engine))

    def add(self, phase, row, engine, flags, turn, got):
        line = {"when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "commit": self.commit, "cpu": self.info, "series": self.series_of(row),
                "phase": phase, "row": row, "engine": engine.name, "version": engine.version, "flags": flags, "turn": turn,
                "unit": "tok/s", **got}
        self.old.append(line)
        with open(self.path, "a", encoding="utf-8") as f:
            f.write(json.dumps(line, ensure_ascii=False) + "\n")
        value = f"{line['value']:10.4g} {line['unit']}" if "value" in line else ""
        share = f"  {line['share'] * 100:.0f} % of the bound" if line.get("share") else ""
        print(f"{phase:7} {turn} {row:22} {engine.name:13}{value}{share}  {' '.join(f'{k}={v}' for k, v in flags.items())}", flush=True)


class Session:
    """One run of this script: what is measured with what, and until when."""

    def __init__(self, args, info):
        self.args, self.runner, self.results = args, tools.Runner(args.wrap, args.limit), Results(args, info)
        self.deadline = time.monotonic() + 60 * args.minutes if args.minutes else None
        self.models = {}
        self.ours = tools.Fathom(self.results.commit, os.path.join(ROOT, "build/release/fathom"))
        key = peers_build.key_of(info)
        self.peers = []
        if "llama" in args.only:
            self.peers.append(tools.Llama("llama-cpp-python " + peers_build.LLAMA_VERSION, peers_build.build_llama(key)))
        where = peers_build.build_ik(key) if "ik" in args.only else None
        if where:
            self.peers.append(tools.Ik(peers_build.IK_COMMIT, where))

    def out_of_time(self):
        return self.deadline is not None and time.monotonic() > self.deadline

    def wanted(self, row):
        return any(fnmatch.fnmatchcase(row, p) for p in self.args.rows)

    def model(self, name):
        """Its path, or None said aloud; pulled if it is not here."""
        if name not in self.models:
            folder = os.environ.get("FATHOM_MODELS") or os.path.join(peers_build.cache_folder(), "models")
            path = os.path.abspath(os.path.join(folder, FILES[name]))
            if not os.path.exists(path) and not os.environ.get("FATHOM_MODELS"):
                subprocess.run([self.ours.binary, "pull", name], stdout=subprocess.DEVNULL, check=False)
            if not os.path.exists(path):
                say(f"no model {name} (want {FILES[name]}): its rows are left out")
                path = None
            self.models[name] = path
        return self.models[name]


# --- rows that have peers ------------------------------------------------------------------------------------------

def test_of(row):
    _, kind, depth = bench_rows.split(row)
    return kind, depth


def sweep(session, model, depth):
    """Every setting of every peer once at one depth; what an earlier run has already is left out."""
    results, path = session.results, session.model(model)
    for peer in session.peers:
        for flags in peer.settings(depth > 0, session.args.quick):
            kinds = ["prefill"] if flags["ub"] != 512 else ["prefill", "decode"]
            missing = [(k, depth) for k in kinds
                       if not any(r["flags"] == flags for r in results.of("sweep", f"{model}/{k}@{depth}", peer.name))]
            if not missing or session.out_of_time():
                continue
            found, failed = tools.measure(peer, session.runner, path, flags, missing, 1)
            for (kind, _), got in found.items():
                results.add("sweep", f"{model}/{kind}@{depth}", peer, flags, 1, got)
            for text in failed:
                say("no figure from", text)


def best_flags(session, peer, model, depth, rows):
    """{row: flags}: one setting if it is as good as the best everywhere, else each row's best."""
    table = {}
    for row in rows:
        kind, _ = test_of(row)
        table[row] = {json.dumps(r["flags"]): r["value"] for r in session.results.of("sweep", f"{model}/{kind}@{depth}", peer.name)}
    tops = {row: max(t, key=t.get) for row, t in table.items() if t}
    if not tops:
        return {}

    def worst(flags):
        return min(table[row].get(flags, 0) / table[row][tops[row]] for row in tops)

    common = max({f for t in table.values() for f in t}, key=worst)
    return {row: json.loads(common if worst(common) >= ONE_SETTING else top) for row, top in tops.items()}


def who_takes_turns(session, model, depth, rows):
    """{row: {peer name: flags}} without peers that cannot be the better one."""
    flags = {peer.name: best_flags(session, peer, model, depth, rows) for peer in session.peers}
    chosen = {}
    for row in rows:
        kind, _ = test_of(row)
        best = {p: max((r["value"] for r in session.results.of("sweep", f"{model}/{kind}@{depth}", p)), default=0) for p in flags}
        top = max(best.values(), default=0)
        everybody = session.args.every_peer or depth == 0  # turns are short there
        chosen[row] = {p: f[row] for p, f in flags.items() if row in f and (everybody or best[p] >= HOPELESS * top)}
        for p in flags:
            if p not in chosen[row] and best[p]:
                say(f"{row}: {p} takes no turns: {best[p]:.4g} of {top:.4g} tok/s in the sweep at depth {depth}")
    return chosen


def check_left_out(session, model, depth, rows, chosen):
    """A peer left out because of the sweep's depth is measured once one depth further, so that the reason can be seen there too."""
    deeper = sorted({d for _, d in map(test_of, rows) if d > depth})[:1]
    for peer in session.peers:
        out = [r for r in rows if test_of(r)[1] in deeper and peer.name not in chosen[r] and not session.results.of("sweep", r, peer.name)]
        flags = best_flags(session, peer, model, depth, out) if out and not session.out_of_time() else {}
        for setting in {json.dumps(f): f for f in flags.values()}.values():
            these = [r for r in out if flags.get(r) == setting]
            found, _ = tools.measure(peer, session.runner, session.model(model), setting, [test_of(r) for r in these], 1)
            for (kind, at), got in found.items():
                session.results.add("sweep", f"{model}/{kind}@{at}", peer, setting, 1, got)


def turns(session, model, rows, chosen, inside):
    """--repeats times, ours and the peers one after the other, each turn beginning with another one."""
    results, dropped = session.results, set()
    everyone = [session.ours, *session.peers]
    for turn in range(1, session.args.repeats + 1):
        first = turn % len(everyone)
        for engine in everyone[first:] + everyone[:first]:
            if session.out_of_time():
                return
            ours = engine is session.ours
            buckets = {}
            for row in rows:
                flags = OUR_FLAGS[model] if ours else chosen[row].get(engine.name)
                if flags is not None and (engine.name, row) not in dropped and not results.has_turn(row, engine.name, turn):
                    buckets.setdefault(json.dumps(flags), []).append(row)
            for flags, these in buckets.items():
                found, failed = tools.measure(engine, session.runner, session.model(model), json.loads(flags), [test_of(r) for r in these], inside)
                for (kind, depth), got in found.items():
                    results.add("turn", f"{model}/{kind}@{depth}", engine, json.loads(flags), turn, got)
                dropped |= {(engine.name, r) for r in these if test_of(r) not in found}
                for text in failed:
                    say("no figure from", text)


def measure_group(session, model, depths):
    rows = [f"{model}/{kind}@{d}" for d in depths for kind in ("prefill", "decode")]
    rows = [r for r in rows if session.wanted(r)]
    if not rows or not session.model(model):
        return
    deep = depths[0] > 0
    sweep(session, model, depths[0])
    chosen = who_takes_turns(session, model, depths[0], rows)
    turns(session, model, rows, chosen, 1 if deep else 3)
    if deep:
        check_left_out(session, model, depths[0], rows, chosen)
    for row in rows:
        profile(session, model, row)


def profile(session, model, row):
    """Where our step's time went: what a missed row's note starts from."""
    kind, depth = test_of(row)
    if session.out_of_time() or session.results.of("profile", row):
        return
    path, n = session.model(model), tools.PREFILL if kind == "prefill" else 1
    cmd = [session.ours.binary, "inspect", "--plan", "--json", "-m", path, "--rows", str(n), "--depth", str(depth), "-c", str(depth + n + 16), "--reps", "3"]
    if "kv" in OUR_FLAGS[model]:
        cmd += ["-ctk", OUR_FLAGS[model]["kv"], "-ctv", OUR_FLAGS[model]["kv"]]
    if depth + n > tools.TRAINED:
        cmd += ["--rope-scaling", "linear", "--rope-scale", "2"]
    ops = tools.parse_plan(session.runner.output(cmd))
    if ops:
        session.results.add("profile", row, session.ours, OUR_FLAGS[model], 1, {"command": tools.shown(cmd, path, False), "ops": ops})


# --- rows of our own -----------------------------------------------------------------------------------------------

def sixteen(session, path):
    """Tokens/s of 16 sessions, and of one in the same turn."""
    cmd = [session.ours.binary, "bench", "-m", path, "-t", str(session.runner.threads), "-r", "3", "--json", "--pp", "0", "--tg", "64",
           "-ctk", "int8", "-ctv", "int8"]
    many = tools.parse_fathom(session.runner.output([*cmd, "-np", "16"])).get(("decode x16", 0))
    one = tools.parse_fathom(session.runner.output(cmd)).get(("decode", 0))
    return many and one and {**many, "one": one["value"], "command": tools.shown([*cmd, "-np", "16"], path, False)}


def first_token(session, path):
    cmd = [session.ours.binary, "chat", "-m", path, QUESTION]
    tools.timed(session.runner, cmd)  # so that the file is cached
    got = tools.timed(session.runner, cmd)
    return got and got["first_s"] and {"value": got["first_s"], "unit": "s", "answer": got["out"].strip(), "wall_s": got["wall_s"],
                                       "command": tools.shown(cmd, path, False)}


def peak_memory(session, path):
    if not shutil.which("time"):
        say("peak memory is left out: there is no /usr/bin/time")
        return None
    cmd = [session.ours.binary, "generate", "-m", path, "-p", STORY, "-n", "256", "-c", "1024", "--ignore-eos", "-ctk", "int8", "-ctv", "int8", "--json", "--stats"]
    text = session.runner.output([shutil.which("time"), "-v", *cmd])
    peak, stats = tools.parse_time_v(text), next((o["stats"] for o in tools.objects(text) if "stats" in o), None)
    return peak and stats and {"value": peak / 1e6, "unit": "MB", "file_bytes": os.path.getsize(path), "kv_bytes": stats["kv_used_bytes"],
                               "command": "time -v " + tools.shown(cmd, path, False)}


def wall_clock(session, path):
    """512 tokens seen from outside (513 less 1), and bench's figure for the same 512."""
    kv = ["-ctk", "int8", "-ctv", "int8", "-t", str(session.runner.threads)]
    cmd = [session.ours.binary, "generate", "-m", path, "-p", STORY, "--ignore-eos", "--json", *kv, "-n"]
    long, short = tools.timed(session.runner, [*cmd, "513"]), tools.timed(session.runner, [*cmd, "1"])
    bench = tools.parse_fathom(session.runner.output([session.ours.binary, "bench", "-m", path, "--pp", "0", "--tg", "512", "-r", "1", "--json", *kv]))
    bench = bench.get(("decode", 0))
    if not (long and short and bench):
        return None
    settings = next((o.get("settings") for o in tools.objects(long["out"])), None)
    return {"value": 512 / (long["wall_s"] - short["wall_s"]), "bench": bench["value"], "settings": settings, "bench_settings": bench.get("settings"),
            "command": tools.shown([*cmd, "513"], path, False) + "   # less the same with -n 1"}


OWN = {"sessions16": sixteen, "first-token": first_token, "peak-memory": peak_memory, "wall-clock": wall_clock}


def measure_own(session, model):
    for name, function in OWN.items():
        row = f"{model}/{name}"
        if not session.wanted(row) or not session.model(model):
            continue
        for turn in range(1, session.args.repeats + 1):
            if session.results.has_turn(row, session.ours.name, turn) or session.out_of_time():
                continue
            got = function(session, session.model(model))
            if not got:
                say(f"{row}: no figure")
                break
            session.results.add("turn", row, session.ours, {}, turn, got)


def measure_kernels(session):
    """What the machine can do, then products alone; `bench --kernels` repeats and takes medians itself."""
    if not session.wanted("kernels/f32 x f32 512x1536x576") or session.out_of_time():
        return
    if any(r["row"].startswith("kernels/") for r in session.results.old) and not session.args.again:
        return
    cmd = [session.ours.binary, "bench", "--machine", "--json", "-t", str(session.runner.threads)]
    for name, o in tools.parse_machine(session.runner.output(cmd)).items():
        got = {"value": o["value"], "unit": o["unit"], "command": tools.shown(cmd, None, False)}
        session.results.add("turn", "machine/" + name, session.ours, {}, 1, got)
    cmd = [session.ours.binary, "bench", "--kernels", "--json", "-t", str(session.runner.threads), "-r", "2" if session.args.quick else "7"]
    text = session.runner.output(cmd)
    found = tools.parse_kernels(text)
    if not found:
        say("no figure from bench --kernels:", " ".join(text.split())[-200:])
    for name, o in found.items():
        got = {k: o[k] for k in ("value", "unit", "spread", "bound", "bound_of", "share", "kernel", "level", "threads") if k in o}
        session.results.add("turn", "kernels/" + name, session.ours, {}, 1, {**got, "command": tools.shown(cmd, None, False)})


def arguments():
    parser = argparse.ArgumentParser(prog="./run peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="*", type=lambda s: s.split(","), help="only rows that match one of these patterns, e.g. 'smollm2/*@0,gemma3/*'")
    parser.add_argument("--repeats", type=int, default=5, help="turns [5]")
    parser.add_argument("--quick", action="store_true", help="a try: one turn, small depths, few settings, into build/peers-quick/")
    parser.add_argument("--minutes", type=float, default=0, help="begin nothing new after so many; the next run goes on there")
    parser.add_argument("--again", action="store_true", help="measure rows that are there already once more")
    parser.add_argument("--every-peer", action="store_true", help="turns for both peers, however slow the sweep saw one")
    parser.add_argument("--only", default="llama,ik", type=lambda s: s.split(","), help="peers [llama,ik]; 'none': only ours")
    parser.add_argument("--wrap", default="", help="words put before every measured command (a machine's gate)")
    parser.add_argument("--limit", type=int, default=300, help="seconds that one command may take [300]")
    parser.add_argument("--build-only", action="store_true")
    parser.add_argument("--list", action="store_true", help="print the rows' names and their goals")
    parser.add_argument("--out", help="results file [results/DATE-CPU.jsonl]")
    args = parser.parse_args()
    if args.quick:
        args.repeats = min(args.repeats, 1)
        args.out = args.out or os.path.join(ROOT, "build/peers-quick/quick.jsonl")
    return args


def print_rows():
    for row, (plain, amx) in bench_rows.TIMES_PEER.items():
        print(f"{row:24} {plain}× the better peer" + (f" ({amx}× with AMX)" if amx != plain else ""))
    for name, words in bench_rows.OWN_NAMES.items():
        print(f"smollm2/{name:16} {words}")
    print("kernels/…                products alone, all in one run")


def main():
    args = arguments()
    if args.list:
        print_rows()
        return 0
    session = Session(args, peers_build.cpu())
    if args.build_only:
        return 0
    began = time.monotonic()
    measure_group(session, "smollm2", [0])
    measure_group(session, "gemma3", [0])
    measure_own(session, "smollm2")
    measure_kernels(session)
    measure_group(session, "smollm2", [512, 1024, 1700] if args.quick else [4096, 8192, 14000])
    say(f"{(time.monotonic() - began) / 60:.1f} minutes; results are in {os.path.relpath(session.results.path, ROOT)}")
    if session.out_of_time():
        say("out of time: the same command goes on where this one stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
