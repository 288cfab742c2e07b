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
ctest names, with commas; one of them red is enough. Everything happens in a copy under build/mutants; with ccache the
second run is quick; FATHOM_WRAP are words put before every build and test (a machine's gate). A mutant whose test was skipped, for want of a model say, is counted as not checked, aloud."""
import argparse
import glob
import os
import re
import shlex
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COPY = os.path.join(ROOT, "build", "mutants", "tree")
BUILD = os.path.join(ROOT, "build", "mutants", "build")


class Stale(Exception):
    """The list and the source no longer fit."""


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


def mutated(mutant):
    path = os.path.join(ROOT, mutant["file"])
    if not os.path.isfile(path):
        raise Stale(f"{mutant['name']}: there is no {mutant['file']}")
    with open(path, encoding="utf-8") as f:
        text = f.read()
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


def sync():
    """The copy gets every tracked or new file; times are kept where nothing changed, so that ninja rebuilds little."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True)
    wanted = [p for p in listed.stdout.splitlines() if os.path.isfile(os.path.join(ROOT, p))]
    for rel in wanted:
        source, target = os.path.join(ROOT, rel), os.path.join(COPY, rel)
        with open(source, "rb") as f:
            data = f.read()
        if os.path.exists(target):
            with open(target, "rb") as f:
                if f.read() == data:
                    continue
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as f:
            f.write(data)
        shutil.copymode(source, target)
    for base, _, names in os.walk(COPY):
        for name in names:
            rel = os.path.relpath(os.path.join(base, name), COPY)
            if rel not in set(wanted) and not rel.startswith("build"):
                os.unlink(os.path.join(base, name))
    shared = os.path.join(ROOT, "..", "shared")
    link = os.path.join(os.path.dirname(COPY), "shared")  # tests look for ../shared
    if os.path.isdir(shared) and not os.path.lexists(link):
        os.symlink(os.path.realpath(shared), link)


def quiet(cmd):
    done = subprocess.run([*shlex.split(os.environ.get("FATHOM_WRAP", "")), *cmd], capture_output=True, text=True, errors="replace", check=False)
    return done.returncode, done.stdout + done.stderr


def known_tests():
    _, text = quiet(["ctest", "--test-dir", BUILD, "-N"])
    return set(re.findall(r"^\s*Test\s+#\d+: (\S+)", text, flags=re.M))


def tests_of(mutant, known):
    """Its tests; one that this machine does not build (another architecture's kernels) is left out."""
    tests = [t for t in mutant["test"].replace(" ", "").split(",") if t in known]
    return tests


def targets(tests):
    """What must be built for these ctest names: their programs, or the binary for scripts."""
    found = set()
    for test in tests:
        if os.path.isfile(os.path.join(ROOT, "tests", f"test_{test}.c")):
            found.add(f"test_{test}")
            found.add("fathom")  # some programs start the binary
        elif test.startswith("corpus_"):
            found.add("fuzz_" + test[len("corpus_"):])
        else:
            found.add("all")
    return ["all"] if "all" in found else sorted(found)


def build(tests):
    return quiet(["cmake", "--build", BUILD, "--target", *targets(tests)])


def ctest(tests, limit):
    """"red", "green" or "skipped" for the set of tests, and the output."""
    pattern = "^(" + "|".join(map(re.escape, tests)) + ")$"
    code, text = quiet(["ctest", "--test-dir", BUILD, "-R", pattern, "--timeout", str(limit), "--output-on-failure"])
    if "No tests were found" in text:
        raise Stale(f"ctest knows no test {tests}")
    if code:
        return "red", text
    return ("skipped" if text.count("***Skipped") == len(tests) else "green"), text


def run_one(mutant, limit, known):
    tests = tests_of(mutant, known)
    if not tests:
        return "no such test", mutant["test"]
    path = os.path.join(COPY, mutant["file"])
    with open(path, encoding="utf-8") as f:
        original = f.read()
    try:
        with open(path, "w", encoding="utf-8") as f:
            f.write(mutated(mutant))
        code, text = build(tests)
        if code:
            return "does not compile", text
        state, text = ctest(tests, limit)
        return {"red": "killed", "green": "SURVIVED", "skipped": "not checked"}[state], text
    finally:
        with open(path, "w", encoding="utf-8") as f:
            f.write(original)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only these mutants")
    parser.add_argument("--list", default="*.mut", help="only these lists (a pattern)")
    parser.add_argument("--check", action="store_true", help="only check that the lists fit the source")
    parser.add_argument("--limit", type=int, default=600, help="seconds after which a test counts as red")
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


def run_all(mutants, args):
    sync()
    launcher = ["-DCMAKE_C_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
    code, text = quiet(["cmake", "-G", "Ninja", "-S", COPY, "-B", BUILD, "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_C_FLAGS_RELEASE=-O1 -g", *launcher])
    known = known_tests()
    tests = sorted({t for m in mutants for t in tests_of(m, known)}) if code == 0 else []
    if code == 0:
        code, text = build(tests)
    if code:
        print(text[-3000:])
        print("mutants: the unchanged source does not build")
        return 1
    state, text = ctest(tests, args.limit)
    if state == "red":
        print(text[-3000:])
        print("mutants: the unchanged source has red tests")
        return 1
    bad, counts = [], {}
    for mutant in mutants:
        state, text = run_one(mutant, args.limit, known)
        counts[state] = counts.get(state, 0) + 1
        print(f"{state:16} {mutant['name']:36} {mutant['test']}", flush=True)
        if state not in ("killed", "not checked"):
            bad.append(mutant["name"])
        if args.verbose or state in ("does not compile", "no such test"):
            print(text[-2000:])
    build(tests)  # the copy is whole again
    print("mutants:", ", ".join(f"{n} {state}" for state, n in sorted(counts.items())), "of", len(mutants))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
