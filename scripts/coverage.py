#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Lines that the tests run, by folder: reads the counters that the programs of build/coverage left (gcc's gcov) and prints
a table, worst last; --files lists files too, --least P fails below P percent in all. Counters add up from run to run:
--clear forgets them. Kernels of another architecture are not compiled and do not count."""
import argparse
import collections
import glob
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build", "coverage")


def counters():
    return sorted(glob.glob(os.path.join(BUILD, "CMakeFiles", "**", "*.gcda"), recursive=True))


def read(paths):
    """{source: {line: times run}}; a header's lines are run where any includer ran them."""
    lines = collections.defaultdict(dict)
    for i in range(0, len(paths), 50):
        done = subprocess.run(["gcov", "--json-format", "--stdout", *paths[i:i + 50]], cwd=BUILD, capture_output=True, text=True, check=True)
        for report in filter(None, done.stdout.split("\n")):
            for file in json.loads(report)["files"]:
                name = os.path.relpath(os.path.join(BUILD, file["file"]), ROOT)
                if not name.startswith(("src/", "apps/")):
                    continue
                for line in file["lines"]:
                    number = line["line_number"]
                    lines[name][number] = lines[name].get(number, 0) + line["count"]
    return lines


def row(name, counts):
    run, total = sum(map(bool, counts)), len(counts)
    return f"{name:42} {run:6} of {total:6}  {100 * run / total:5.1f} %"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", action="store_true")
    parser.add_argument("--clear", action="store_true")
    parser.add_argument("--least", type=float, default=0, metavar="P")
    args = parser.parse_args()
    if args.clear:
        for path in counters():
            os.unlink(path)
        return 0
    lines = read(counters())
    if not lines:
        print("coverage: no counters in build/coverage: build it and run its tests first (./run coverage)")
        return 1
    groups = collections.defaultdict(list)
    for name, found in lines.items():
        groups[os.path.dirname(name)] += found.values()
        if args.files:
            groups[name] += found.values()
    for name in sorted(groups, key=lambda g: -sum(map(bool, groups[g])) / len(groups[g])):
        print(row(name, groups[name]))
    everything = [count for found in lines.values() for count in found.values()]
    print(row("all", everything))
    return 1 if 100 * sum(map(bool, everything)) / len(everything) < args.least else 0


if __name__ == "__main__":
    sys.exit(main())
