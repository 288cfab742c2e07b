#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Holds bench's tokens/s against the wall clock of the whole program: `generate -n 513 --ignore-eos` less `-n 1` is 512
tokens made one after another, and so is `bench --tg 512`. Runs the three in turns, prints both speeds from medians and
how far they are apart. Exit 1 above 5 %.

    scripts/check_wall_clock.py [--fathom build/release/fathom] [-m MODEL] [-t THREADS] [--kv f16] [-r 3]
"""
import argparse
import json
import statistics
import subprocess
import sys
import time

TOKENS = 512
LIMIT = 0.05


def wall(command):
    begun = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - begun


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--fathom", default="build/release/fathom")
    p.add_argument("-m", "--model", default="smollm2")
    p.add_argument("-t", "--threads", default="0")
    p.add_argument("--kv", default="f16")
    p.add_argument("-r", "--reps", type=int, default=3)
    args = p.parse_args()
    common = ["-m", args.model, "-t", args.threads, "--kv", args.kv]
    generate = [args.fathom, "generate", *common, "-p", "Once upon a time", "--ignore-eos", "-c", "1024", "-n"]
    bench = [args.fathom, "bench", *common, "--pp", "0", "--tg", str(TOKENS), "-r", "1", "-c", "1024", "--json"]
    long, short, inside = [], [], []
    for _ in range(args.reps):
        long.append(wall(generate + [str(TOKENS + 1)]))
        short.append(wall(generate + ["1"]))
        # exit code 1 is a share above 100 %: its speed still counts here
        done = subprocess.run(bench, check=False, stdout=subprocess.PIPE)
        inside.append(json.loads(done.stdout.splitlines()[0])["value"])
    outside = TOKENS / (statistics.median(long) - statistics.median(short))
    speed = statistics.median(inside)
    apart = outside / speed - 1
    print(f"wall clock {outside:.1f} tok/s, bench {speed:.1f} tok/s: {100 * apart:+.1f} % (limit {100 * LIMIT:.0f} %)")
    return 0 if abs(apart) <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
