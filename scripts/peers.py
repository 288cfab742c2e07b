#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures llama.cpp, ik_llama.cpp and `fathom bench` on this machine, interleaved, and appends to results/*.jsonl.

Peers are built once per commit and CPU into the user's cache folder:
- llama.cpp: the source inside the Python package llama-cpp-python 0.3.36 (fetched with pip), or the folder in LLAMA_SRC;
- ik_llama.cpp: the git folder in IK_SRC (commit 8337e4cd3); without IK_SRC it is left out, aloud.
LLAMA_BIN and IK_BIN name folders with binaries that exist already (llama-bench; llama-bench and llama-sweep-bench).

First every flag combination once (the sweep; all of it is recorded), then, per test, the best of each peer and ours
`--repeats` times, one run of each after the other, so that a machine that slows down slows all of them. Threads are
pinned: as many as CPUs in this process's mask, one each. A test is "pp512@D" (512 prompt tokens after D) or "tg@D".
"""
import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tarfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LLAMA_VERSION, IK_COMMIT = "0.3.36", "8337e4cd3"
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "fathom")
MODELS = {"smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf", "gemma3": "gemma-3-270m-Q4_K_M.gguf"}
BARRIER = 'asm volatile("" ::: "memory"); '  # gcc 12 drops the stores into the tile configuration without it


def say(*words):
    print("peers:", *words, file=sys.stderr, flush=True)


def run(cmd, **more):
    return subprocess.run(cmd, check=True, text=True, **more)


def cpu():
    fields = {}
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    flags = set(fields.get("flags", "").split())
    wanted = ["avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16"]
    return {"name": fields.get("model name", "unknown"), "family": fields.get("cpu family"), "model": fields.get("model"),
            "threads": len(os.sched_getaffinity(0)), "isa": [w for w in wanted if w in flags]}


def cpu_key(info):
    return hashlib.sha256(json.dumps(info, sort_keys=True).encode()).hexdigest()[:8]


def commit():
    done = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


# --- building ------------------------------------------------------------------------------------------------------

def cmake_build(source, build, targets):
    launcher = ["-DCMAKE_C_COMPILER_LAUNCHER=ccache", "-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
    log = open(build + ".log", "w", encoding="utf-8")
    run(["cmake", "-G", "Ninja", "-S", source, "-B", build, "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DLLAMA_CURL=OFF",
         "-DLLAMA_BUILD_SERVER=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=ON", "-DLLAMA_OPENSSL=OFF",
         "-DGGML_IQK_FA_ALL_QUANTS=OFF", *launcher], stdout=log, stderr=log)
    run(["cmake", "--build", build, "-j", str(min(os.cpu_count() or 2, 4)), "--target", *targets], stdout=log, stderr=log)


def build_llama(key):
    if os.environ.get("LLAMA_BIN"):
        return os.environ["LLAMA_BIN"]
    folder = os.path.join(CACHE, "peers", f"llama-{LLAMA_VERSION}-{key}")
    if os.path.exists(os.path.join(folder, "build/bin/llama-bench")):
        return os.path.join(folder, "build/bin")
    os.makedirs(folder, exist_ok=True)
    source = os.path.join(folder, "source")
    if not os.path.exists(source):
        given = os.environ.get("LLAMA_SRC")
        if not given:
            say("fetching llama.cpp's source with pip")
            run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", folder,
                 f"llama-cpp-python=={LLAMA_VERSION}"])
            archive = os.path.join(folder, f"llama_cpp_python-{LLAMA_VERSION}.tar.gz")
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(folder)
            given = os.path.join(folder, f"llama_cpp_python-{LLAMA_VERSION}/vendor/llama.cpp")
        shutil.copytree(given, source, ignore=shutil.ignore_patterns(".git", "build"))
    path = os.path.join(source, "ggml/src/ggml-cpu/amx/mmq.cpp")
    with open(path, encoding="utf-8") as f:
        text = f.read()
    if "asm volatile" not in text:
        with open(path, "w", encoding="utf-8") as f:
            f.write(text.replace("_tile_loadconfig(&tc);", BARRIER + "_tile_loadconfig(&tc);"))
    say("building llama.cpp, once for this CPU; this takes a while")
    cmake_build(source, os.path.join(folder, "build"), ["llama-bench"])
    return os.path.join(folder, "build/bin")


def build_ik(key):
    if os.environ.get("IK_BIN"):
        return os.environ["IK_BIN"]
    source = os.environ.get("IK_SRC")
    if not source:
        say(f"ik_llama.cpp is left out: set IK_SRC to a git folder that has its commit {IK_COMMIT}")
        return None
    folder = os.path.join(CACHE, "peers", f"ik-{IK_COMMIT}-{key}")
    if os.path.exists(os.path.join(folder, "build/bin/llama-sweep-bench")):
        return os.path.join(folder, "build/bin")
    os.makedirs(folder, exist_ok=True)
    copy = os.path.join(folder, "source")
    if not os.path.exists(copy):
        run(["git", "clone", "-q", "--shared", "--no-checkout", source, copy])
    # -f: a mirror may lack a few files that are not built
    subprocess.run(["git", "-C", copy, "checkout", "-q", "-f", IK_COMMIT], check=False, stderr=subprocess.DEVNULL)
    say("building ik_llama.cpp, once for this CPU; this takes a while")
    cmake_build(copy, os.path.join(folder, "build"), ["llama-bench", "llama-sweep-bench"])
    return os.path.join(folder, "build/bin")


# --- running ---------------------------------------------------------------------------------------------------------

class Runner:
    def __init__(self, args):
        self.args = args
        self.threads = len(os.sched_getaffinity(0))
        self.env = dict(os.environ, OMP_PROC_BIND="close", OMP_PLACES="threads", OMP_NUM_THREADS=str(self.threads))

    def lines(self, cmd):
        """The JSON objects that a command prints on either stream; [] (said aloud) if it fails."""
        cmd = [*shlex.split(self.args.wrap), "timeout", str(self.args.limit), *cmd]
        done = subprocess.run(cmd, env=self.env, text=True, capture_output=True, check=False)
        if done.returncode:
            say("failed with", done.returncode, ":", shlex.join(cmd), (done.stderr or done.stdout)[-200:].replace("\n", " "))
            return []
        found = []
        for line in (done.stdout + "\n" + done.stderr).splitlines():
            if line.startswith("{"):
                try:
                    found.append(json.loads(line))
                except ValueError:
                    pass
        return found


def llama_cmd(folder, model, flags, tests, threads):
    """One llama-bench process per kind and depth; yields (test, command)."""
    for test in tests:
        kind, depth = parse_test(test)
        n = ["-p", "512", "-n", "0"] if kind == "pp512" else ["-p", "0", "-n", "32"]
        yield [test], [os.path.join(folder, "llama-bench"), "-m", model, "-t", str(threads), "-r", runs(depth), "-o", "jsonl", *n, "-d", str(depth),
                       "-fa", str(flags["fa"]), "-ub", str(flags["ub"]), "-ctk", flags["kv"], "-ctv", flags["kv"]]


def ik_cmd(folder, model, flags, tests, threads):
    """Without depth llama-bench; with depth one sweep to the deepest, which measures every 4096th position."""
    common = ["-m", model, "-t", str(threads), "-fa", str(flags["fa"]), "-ctk", flags["kv"], "-ctv", flags["kv"]]
    shallow = [t for t in tests if parse_test(t)[1] == 0]
    deep = [t for t in tests if parse_test(t)[1] > 0]
    for test in shallow:
        n = ["-p", "512", "-n", "0"] if test.startswith("pp") else ["-p", "0", "-n", "64"]
        yield [test], [os.path.join(folder, "llama-bench"), *common, "-rtr", str(flags["rtr"]), "-ub", str(flags["ub"]), "-r", runs(0), "-o", "json", *n]
    if deep and flags["ub"] == 512:
        depths = sorted({parse_test(t)[1] for t in deep})
        stride = depths[0] // 512 if all(d % depths[0] == 0 for d in depths) else 1
        yield deep, [os.path.join(folder, "llama-sweep-bench"), *common, *(["-rtr"] if flags["rtr"] else []), "-c", str(depths[-1] + 512 + 32),
                     "-b", "2048", "-ub", "512", "-n", "32", "--sweep-stride", str(stride), "--output-format", "jsonl"]


def fathom_cmd(binary, model, flags, tests, threads):
    for test in tests:
        kind, depth = parse_test(test)
        n = ["--pp", "512", "--tg", "0"] if kind == "pp512" else ["--pp", "0", "--tg", "64"]
        yield [test], [binary, "bench", "-m", model, *n, "--depth", str(depth), "--kv", flags["kv"], "--threads", str(threads), "-r", runs(depth), "--json"]


def runs(depth):
    """How often a tool measures inside one process; the median of that is one repeat here."""
    return "1" if depth else "3"


def parse_test(test):
    kind, _, depth = test.partition("@")
    return kind, int(depth)


def values(objects):
    """{test: tokens/s} out of whatever the three tools print."""
    found = {}
    for o in objects if not (objects and isinstance(objects[0], list)) else objects[0]:
        if "speed_pp" in o:
            found[f"pp512@{o['n_kv']}"] = o["speed_pp"]
            found[f"tg@{o['n_kv']}"] = o["speed_tg"]
        elif "samples_ts" in o:
            found[("pp512" if o["n_prompt"] else "tg") + f"@{o.get('n_depth', 0)}"] = statistics.median(o["samples_ts"])
        elif "name" in o and "value" in o:
            match = re.match(r"(pp|tg)(\d*)(?:@d?(\d+))?", o["name"])
            if match and o["value"]:
                depth = match.group(3) or o.get("depth", 0)
                found[("pp512" if match.group(1) == "pp" else "tg") + f"@{depth}"] = o["value"]
    return found


def ik_json(runner, cmd):
    """ik's llama-bench prints one indented JSON array, not lines."""
    full = [*shlex.split(runner.args.wrap), "timeout", str(runner.args.limit), *cmd]
    done = subprocess.run(full, env=runner.env, text=True, capture_output=True, check=False)
    try:
        return json.loads(done.stdout[done.stdout.index("["):])
    except ValueError:
        say("failed with", done.returncode, ":", shlex.join(full), done.stderr[-200:].replace("\n", " "))
        return []


class Peer:
    def __init__(self, name, version, where, make, sweep):
        self.name, self.version, self.where, self.make, self.sweep = name, version, where, make, sweep

    def measure(self, runner, model, flags, tests):
        """{test: (tokens/s, command)}"""
        found = {}
        for wanted, cmd in self.make(self.where, model, flags, tests, runner.threads):
            is_array = self.name == "ik_llama.cpp" and cmd[0].endswith("llama-bench")
            got = values(ik_json(runner, cmd) if is_array else runner.lines(cmd))
            for test in wanted:
                if test in got:
                    found[test] = (got[test], shlex.join([os.path.basename(cmd[0]), *cmd[1:]]).replace(model, os.path.basename(model)))
        return found


def peers(args, key):
    llama_sweep = [{"fa": fa, "ub": ub, "kv": kv} for fa in (0, 1) for kv in ("f16", "q8_0") for ub in (512, 128, 2048) if fa or kv == "f16"]
    ik_sweep = [{"rtr": rtr, **f} for f in llama_sweep for rtr in (0, 1)]
    if args.quick:
        llama_sweep = [f for f in llama_sweep if f["fa"] and f["ub"] == 512]
        ik_sweep = [f for f in ik_sweep if f["fa"] and f["ub"] == 512]
    ours = [{"kv": kv} for kv in ("int8", "f16")]
    found = []
    if "llama" in args.only:
        found.append(Peer("llama.cpp", "llama-cpp-python " + LLAMA_VERSION, build_llama(key), llama_cmd, llama_sweep))
    where = build_ik(key) if "ik" in args.only else None
    if where:
        found.append(Peer("ik_llama.cpp", IK_COMMIT, where, ik_cmd, ik_sweep))
    binary = os.path.join(ROOT, "build/release/fathom")
    if "fathom" in args.only and subprocess.run([binary, "bench", "--help"], capture_output=True, check=False).returncode == 0:
        found.append(Peer("fathom", commit(), binary, fathom_cmd, ours))
    elif "fathom" in args.only:
        say("fathom bench is not there: only the peers are measured")
    return found


def sweep_tests(flags, tests):
    """A flag combination is tried where it can matter: micro-batch sizes only on prompts, deep ones with flash attention."""
    chosen = tests
    if flags.get("ub", 512) != 512:
        chosen = [t for t in chosen if t.startswith("pp") and parse_test(t)[1] == 0]
    if flags.get("fa", 1) == 0:
        chosen = [t for t in chosen if parse_test(t)[1] <= 4096]
    return chosen


class Results:
    def __init__(self, args, info):
        os.makedirs(os.path.join(ROOT, "results"), exist_ok=True)
        self.path = args.out or os.path.join(ROOT, "results", time.strftime("peers-%Y%m%d-") + cpu_key(info) + ".jsonl")
        self.head = {"when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "commit": commit(), "cpu": info}

    def add(self, phase, peer, model, test, flags, command, repeats):
        median = statistics.median(repeats)
        row = {**self.head, "phase": phase, "peer": peer.name, "peer_version": peer.version, "model": model, "test": test, "flags": flags,
               "command": command, "unit": "tok/s", "repeats": [round(r, 3) for r in repeats], "median": round(median, 3),
               "spread": round((max(repeats) - min(repeats)) / median, 4)}
        with open(self.path, "a", encoding="utf-8") as f:
            f.write(json.dumps(row) + "\n")
        print(f"{phase:6} {model:8} {test:11} {peer.name:13} {median:9.1f} tok/s  ±{row['spread'] * 50:4.1f} %  {flags}", flush=True)


def measure_model(args, runner, results, everyone, name, path):
    tests = [f"pp512@{d}" for d in args.depths] + [f"tg@{d}" for d in args.depths]
    best = {}  # (peer name, test) → (value, flags)
    for peer in everyone:
        for flags in peer.sweep:
            for test, (value, command) in peer.measure(runner, path, flags, sweep_tests(flags, tests)).items():
                results.add("sweep", peer, name, test, flags, command, [value])
                if value > best.get((peer.name, test), (0, None))[0]:
                    best[peer.name, test] = (value, flags)
    if args.repeats < 1:
        return
    for test in tests:
        rows = {}
        for _ in range(args.repeats):
            for peer in everyone:
                flags = best.get((peer.name, test), (0, None))[1]
                got = peer.measure(runner, path, flags, [test]) if flags else {}
                if test in got:
                    rows.setdefault(peer.name, (peer, flags, got[test][1], []))[3].append(got[test][0])
        for peer, flags, command, repeats in rows.values():
            results.add("final", peer, name, test, flags, command, repeats)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="smollm2,gemma3", help="catalogue names, with commas")
    parser.add_argument("--depths", default="0,4096,8192", type=lambda s: [int(x) for x in s.split(",")])
    parser.add_argument("--repeats", type=int, default=5, help="of the best flags; 0: only the sweep")
    parser.add_argument("--only", default="llama,ik,fathom", type=lambda s: s.split(","))
    parser.add_argument("--wrap", default="", help="words put before every measured command (a machine's gate)")
    parser.add_argument("--limit", type=int, default=300, help="seconds that one run may take")
    parser.add_argument("--quick", action="store_true", help="sweep only what ever won: flash attention, micro-batch 512")
    parser.add_argument("--build-only", action="store_true")
    parser.add_argument("--out", help="results file [results/peers-DATE-CPU.jsonl]")
    args = parser.parse_args()
    info = cpu()
    everyone = peers(args, cpu_key(info))
    if args.build_only:
        return 0
    runner, results = Runner(args), Results(args, info)
    for name in args.models.split(","):
        path = os.path.join(os.environ.get("FATHOM_MODELS") or os.path.join(CACHE, "models"), MODELS[name])
        if not os.path.exists(path):
            say(f"{name} is not here: ./run pull {name}")
            continue
        measure_model(args, runner, results, everyone, name, path)
    say("results are in", results.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
