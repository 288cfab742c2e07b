#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Breaks the source one line at a time and checks that the named test turns red. A survivor is a defect of the tests.

tests/mutants/*.mut hold blocks separated by empty lines ('#' starts a comment):

    name: rope-plus-one
    file: src/ops/rope_ref.c
    old: int64_t position = positions[i];
    new: int64_t position = positions[i] + 1;
    test: rope

`old` must occur exactly once in the file (a part of one line; blanks at the ends do not count). `test` is one or more
ctest names, with commas; one of them red is enough. Everything happens in copies under build/mutants, --jobs of them at
once; what a stopped run had found is kept there (results.jsonl) and not run again while the mutant, its file and its
tests are the same. FATHOM_WRAP are words put before every build and test (a machine's gate). A mutant whose test was
skipped, for want of a model say, is counted as not checked, aloud."""
import argparse
import filecmp
import glob
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Stale(Exception):
    """The list and the source no longer fit."""


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def read_list(pattern):
    mutants = []
    for path in sorted(glob.glob(os.path.join(ROOT, "tests/mutants", pattern))):
        with open(path, encoding="utf-8") as f:
            lines = [line.rstrip("\n") for line in f if not line.startswith("#")]
        for block in re.split(r"\n\s*\n", "\n".join(lines)):
            if not block.strip():
                continue
            fields = dict(re.findall(r"^(\w+): ?(.*)$", block, flags=re.M))
            if set(fields) != {"name", "file", "old", "new", "test"}:
                raise Stale(f"{os.path.basename(path)}: a block needs name, file, old, new, test: {block!r}")
            fields["list"] = os.path.basename(path)
            mutants.append(fields)
    names = [m["name"] for m in mutants]
    twice = {n for n in names if names.count(n) > 1}
    if twice:
        raise Stale(f"names used twice: {sorted(twice)}")
    return mutants


def mutated(mutant, root=ROOT):
    """The file's text with the mutant in it; root is the source tree that it is read from."""
    path = os.path.join(root, mutant["file"])
    if not os.path.isfile(path):
        raise Stale(f"{mutant['name']}: there is no {mutant['file']}")
    text = read(path)
    old = mutant["old"].strip()
    if text.count(old) != 1:
        raise Stale(f"{mutant['name']}: \"{old}\" occurs {text.count(old)} times in {mutant['file']}, want 1")
    return text.replace(old, mutant["new"].strip())


def problem_of(mutant):
    try:
        mutated(mutant)
    except Stale as problem:
        return str(problem)
    return None


def hashed(*parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:24]


def key_of(mutant):
    """What an earlier result depends on: the mutant, its file, the sources of its tests."""
    named = [t.strip() for t in mutant["test"].split(",")]
    sources = sorted(p for t in named for p in glob.glob(os.path.join(ROOT, "tests", f"test_{glob.escape(t)}.*")))
    fields = [mutant[f] for f in ("name", "file", "old", "new", "test")]
    return hashed(*fields, read(os.path.join(ROOT, mutant["file"])), *map(read, sources))


class Tree:
    """A copy of the source and its build; one mutant at a time is in it."""

    def __init__(self, number):
        # laid out as the project itself, built as the release is: then ccache knows the objects from there
        self.source = os.path.join(ROOT, "build", "mutants", str(number), "tree")
        self.build_dir = os.path.join(self.source, "build", "release")
        self.known = set()

    def sync(self):
        """The copy gets every tracked or new file; times are kept where nothing changed, so that little is rebuilt."""
        listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True)
        wanted = {p for p in listed.stdout.splitlines() if os.path.isfile(os.path.join(ROOT, p))}
        for rel in wanted:
            source, target = os.path.join(ROOT, rel), os.path.join(self.source, rel)
            if os.path.exists(target) and filecmp.cmp(source, target, shallow=False):
                continue
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(source, target)
            shutil.copymode(source, target)
        for base, _, names in os.walk(self.source):
            for name in names:
                path = os.path.join(base, name)
                rel = os.path.relpath(path, self.source)
                if rel not in wanted and not rel.startswith("build/"):
                    os.unlink(path)
        shared = os.path.join(ROOT, "..", "shared")
        link = os.path.join(os.path.dirname(self.source), "shared")  # tests look for ../shared
        if os.path.isdir(shared) and not os.path.lexists(link):
            os.symlink(os.path.realpath(shared), link)

    def configure(self):
        launcher = ["-DCMAKE_C_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
        code, text = quiet(["cmake", "-S", self.source, "--preset", "release", *launcher])
        if code == 0:
            self.known = set(re.findall(r"^\s*Test\s+#\d+: (\S+)", quiet(["ctest", "--test-dir", self.build_dir, "-N"])[1], flags=re.M))
        return code, text

    def tests_of(self, mutant):
        """Its tests; one that this machine does not build (another architecture's kernels) is left out."""
        return [t for t in mutant["test"].replace(" ", "").split(",") if t in self.known]

    def build_and_test(self, tests, jobs, limit):
        """"no build", "red", "green" or "skipped" for the set of tests, and the output."""
        pattern = "^(" + "|".join(map(re.escape, tests)) + ")$"
        build = shlex.join(["cmake", "--build", self.build_dir, "-j", str(jobs), "--target", *targets(tests)])
        test = shlex.join(["ctest", "--test-dir", self.build_dir, "-R", pattern, "-j", str(jobs), "--timeout", str(limit),
                           "--output-on-failure"])
        code, text = quiet(["sh", "-c", f"{build} || exit 99; {test}"])
        if code == 99:
            return "no build", text
        if "No tests were found" in text:
            raise Stale(f"ctest knows no test {tests}")
        if code:
            return "red", text
        return ("skipped" if text.count("***Skipped") == len(tests) else "green"), text

    def run_one(self, mutant, limit):
        tests = self.tests_of(mutant)
        if not tests:
            return "no such test", mutant["test"]
        path = os.path.join(self.source, mutant["file"])
        original, changed = read(path), mutated(mutant, self.source)
        try:
            with open(path, "w", encoding="utf-8") as f:
                f.write(changed)
            state, text = self.build_and_test(tests, 1, limit)
            return {"no build": "does not compile", "red": "killed", "green": "SURVIVED", "skipped": "not checked"}[state], text
        finally:
            with open(path, "w", encoding="utf-8") as f:
                f.write(original)


def quiet(cmd):
    env = dict(os.environ, CCACHE_NOHASHDIR="1")
    env.setdefault("CCACHE_BASEDIR", ROOT)
    done = subprocess.run([*shlex.split(os.environ.get("FATHOM_WRAP", "")), *cmd], capture_output=True, text=True, errors="replace",
                          check=False, env=env)
    return done.returncode, done.stdout + done.stderr


def targets(tests):
    """What must be built for these ctest names: their programs; for a script the binary, or everything if it installs."""
    found = {"fathom"}  # some programs start the binary
    for test in tests:
        script = glob.glob(os.path.join(ROOT, "tests", f"test_{test}.[sp]*"))
        if os.path.isfile(os.path.join(ROOT, "tests", f"test_{test}.c")):
            found.add(f"test_{test}")
        elif test.startswith("corpus_"):
            found.add("fuzz_" + test[len("corpus_"):])
        elif not script or "FATHOM_BINARY_DIR" in read(script[0]):
            return ["all"]
    return sorted(found)


class Results:
    """What earlier runs found and how long each mutant took: one JSON line a mutant, so that a stopped run goes on."""

    def __init__(self, fresh):
        self.path = os.path.join(ROOT, "build", "mutants", "results.jsonl")
        self.lock, self.found, self.seconds = threading.Lock(), {}, {}
        if os.path.exists(self.path):
            with open(self.path, encoding="utf-8") as f:
                for row in map(json.loads, f):
                    self.seconds[row["name"]] = row["seconds"]
                    if not fresh:
                        self.found[row["key"]] = row["state"]

    def add(self, mutant, state, seconds):
        with self.lock, open(self.path, "a", encoding="utf-8") as f:
            self.seconds[mutant["name"]] = seconds
            f.write(json.dumps({"key": mutant["key"], "name": mutant["name"], "state": state, "seconds": round(seconds, 1)}) + "\n")

    def estimate(self, mutants, workers):
        known = [self.seconds[m["name"]] for m in mutants if m["name"] in self.seconds]
        if not known:
            return None
        return (sum(known) + (len(mutants) - len(known)) * sum(known) / len(known)) / workers


def minutes(seconds):
    return "unknown" if seconds is None else f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def prepare(mutants, args):
    """The trees, and how long a test may take; None if the unchanged source is not green."""
    trees = [Tree(i) for i in range(args.jobs)]
    longest = 0
    for i, tree in enumerate(trees):
        began = time.monotonic()
        tree.sync()
        state, text = ("green", "") if tree.configure()[0] == 0 else ("no build", "cmake fails")
        tests = sorted({t for m in mutants for t in tree.tests_of(m)})
        if state == "green" and tests:  # the tests themselves once: the trees are the same
            state, text = tree.build_and_test(tests if i == 0 else ["base"], args.jobs, args.limit)
        if state in ("no build", "red"):
            print(text[-3000:])
            print("mutants: the unchanged source", "does not build" if state == "no build" else "has red tests")
            return None, 0
        longest = max([longest, *map(float, re.findall(r"(?:Passed|Skipped)\s+([0-9.]+) sec", text))])
        print(f"mutants: copy {i + 1} of {args.jobs} is built and green ({minutes(time.monotonic() - began)})", flush=True)
    return trees, min(args.limit, int(60 + 5 * longest))


def work(tree, queue, results, report, limit):
    while True:
        with results.lock:
            if not queue:
                return
            mutant = queue.pop(0)
        began = time.monotonic()
        try:
            state, text = tree.run_one(mutant, limit)
        except Stale as problem:
            state, text = "no such test", str(problem)
        seconds = time.monotonic() - began
        if state != "no such test":
            results.add(mutant, state, seconds)
        report(mutant, state, text, seconds)


def run_all(mutants, args):
    results = Results(args.fresh)
    counts, bad, done = {}, [], [0]
    for mutant in mutants:
        mutant["key"] = key_of(mutant)
    queue = [m for m in mutants if results.found.get(m["key"]) != "killed"]
    earlier = len(mutants) - len(queue)
    if earlier:
        counts["killed"] = earlier
        print(f"mutants: {earlier} were killed in an earlier run with the same file and tests (--fresh runs them again)")
    print(f"mutants: {len(queue)} to run, {args.jobs} at once; estimated {minutes(results.estimate(queue, args.jobs))}", flush=True)
    began, total = time.monotonic(), len(queue)
    if queue:
        trees, limit = prepare(queue, args)
        if not trees:
            return 1

    def report(mutant, state, text, seconds):
        with results.lock:
            done[0] += 1
            counts[state] = counts.get(state, 0) + 1
            if state not in ("killed", "not checked"):
                bad.append(mutant["name"])
            left = results.estimate(queue, args.jobs) if queue else 0
            print(f"[{done[0]}/{total}] {state:16} {mutant['name']:44} {mutant['test']:24} {seconds:5.1f} s, left {minutes(left)}", flush=True)
            if args.verbose or state in ("does not compile", "no such test"):
                print(text[-2000:], flush=True)

    if queue:
        threads = [threading.Thread(target=work, args=(tree, queue, results, report, limit)) for tree in trees]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(f"mutants: {', '.join(f'{n} {state}' for state, n in sorted(counts.items()))} of {len(mutants)}; {minutes(time.monotonic() - began)}")
    if bad:
        print("mutants: look at", *bad)
    return 1 if bad else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only these mutants")
    parser.add_argument("--list", default="*.mut", help="only these lists (a pattern)")
    parser.add_argument("--check", action="store_true", help="only check that the lists fit the source")
    parser.add_argument("--limit", type=int, default=600, help="seconds after which a test counts as red")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="mutants at once, each with a build of its own")
    parser.add_argument("--fresh", action="store_true", help="also what an earlier run has found killed")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    try:
        mutants = [m for m in read_list(args.list) if not args.names or m["name"] in args.names]
        stale = [text for text in map(problem_of, mutants) if text]
        if stale:
            raise Stale("\nmutants: ".join(stale))
        if args.check:
            print(f"mutants: {len(mutants)} fit the source")
            return 0
        return run_all(mutants, args)
    except Stale as problem:
        print(f"mutants: {problem}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
