#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Scores a file of `fathom eval --predictions` anew: plain Python that shares no code with the engine.

usage: score_predictions.py PREDICTIONS.jsonl [--against EVAL.json] [--match HOW] [--ignore-case] [--no-bootstrap]
                            [--confidence 0.95] [--resamples 1000] [--seed 0] [--interval wilson|exact]

Prints every score with its interval. --against takes what `fathom eval --json` printed and exits with 1 where a score or an end of an
interval is off by more than 1e-8 of its size (the JSON holds nine digits). The options are those that eval was given."""
import argparse
import json
import math
import re
import statistics
import sys
from collections import Counter


# --- metrics ---

def accuracy(pairs):
    return sum(g == p for g, p in pairs) / len(pairs)


def macro_f1(pairs):
    tp, fp, fn = Counter(), Counter(), Counter()
    for gold, predicted in pairs:
        if gold == predicted:
            tp[gold] += 1
        else:
            fn[gold] += 1
            fp[predicted] += 1
    classes = set(tp) | set(fp) | set(fn)
    return sum(2 * tp[c] / (2 * tp[c] + fp[c] + fn[c]) for c in classes) / len(classes)


def matthews(pairs):
    """The correlation of two indicator matrices: cov(gold, predicted) / sqrt(cov(gold, gold) cov(predicted, predicted))."""
    n = len(pairs)
    gold, predicted = Counter(g for g, _ in pairs), Counter(p for _, p in pairs)

    def covariance(both, a, b):
        return both / n - sum(a[c] / n * (b[c] / n) for c in a)

    xy = covariance(sum(g == p for g, p in pairs), gold, predicted)
    xx, yy = covariance(n, gold, gold), covariance(n, predicted, predicted)
    return xy / math.sqrt(xx * yy) if len(gold) > 1 and len(predicted) > 1 else 0.0


def ranks(values):
    order = sorted(range(len(values)), key=values.__getitem__)
    out, i = [0.0] * len(values), 0
    while i < len(order):
        j = i
        while j < len(order) and values[order[j]] == values[order[i]]:
            j += 1
        for k in range(i, j):
            out[order[k]] = (i + 1 + j) / 2
        i = j
    return out


def pearson(pairs):
    x, y = [p for _, p in pairs], [g for g, _ in pairs]
    mx, my = math.fsum(x) / len(x), math.fsum(y) / len(y)
    xx, yy = math.fsum((a - mx) ** 2 for a in x), math.fsum((b - my) ** 2 for b in y)
    xy = math.fsum((a - mx) * (b - my) for a, b in zip(x, y))
    return xy / math.sqrt(xx * yy) if xx > 0 and yy > 0 else 0.0


def spearman(pairs):
    return pearson(list(zip(ranks([g for g, _ in pairs]), ranks([p for _, p in pairs]))))


def rmse(pairs):
    return math.sqrt(math.fsum((g - p) ** 2 for g, p in pairs) / len(pairs))


# --- intervals ---

def wilson(hits, n, confidence):
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    # the two roots of (p - hits/n)² = z² p (1 - p) / n
    a, b, c = 1 + z * z / n, -(2 * hits / n + z * z / n), (hits / n) ** 2
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    return (0.0 if hits == 0 else (-b - root) / (2 * a), 1.0 if hits == n else (-b + root) / (2 * a))


def binomial_tail(hits, n, p):
    """P(at least `hits` of n)."""
    if p <= 0 or p >= 1:
        return float(hits == 0 or p >= 1)
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p)
            for k in range(hits, n + 1)]
    most = max(logs)
    return math.exp(most) * math.fsum(math.exp(x - most) for x in logs)


def clopper_pearson(hits, n, confidence):
    tail = (1 - confidence) / 2

    def solve(count, want):  # p with P(at least count) = want
        low, high = 0.0, 1.0
        for _ in range(100):
            p = (low + high) / 2
            low, high = (p, high) if binomial_tail(count, n, p) < want else (low, p)
        return (low + high) / 2

    return (solve(hits, tail) if hits else 0.0, solve(hits + 1, 1 - tail) if hits < n else 1.0)


def philox(counter, key):
    """Philox4x32-10 of Salmon and others (2011)."""
    mask, (a, b, c, d), (k, m) = 0xFFFFFFFF, counter, key
    for _ in range(10):
        x, y = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (y >> 32) ^ b ^ k, y & mask, (x >> 32) ^ d ^ m, x & mask
        k, m = (k + 0x9E3779B9) & mask, (m + 0xBB67AE85) & mask
    return a, b, c, d


def resample(seed, number, n):
    """Indices of n draws; how often each comes up is what counts."""
    key, out = (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF), []
    for block in range((n + 3) // 4):
        out += [(x * n) >> 32 for x in philox((block, 0, number, 0), key)]
    return out[:n]


def bootstrap(rows, statistic, args):
    values = sorted(statistic([rows[i] for i in resample(args.seed, r, len(rows))]) for r in range(args.resamples))

    def quantile(p):
        at = p * (len(values) - 1)
        i = int(at)
        return values[i] + (at - i) * (values[i + 1] - values[i]) if i + 1 < len(values) else values[-1]

    return quantile((1 - args.confidence) / 2), quantile((1 + args.confidence) / 2)


# --- answers ---

def last_number(text):
    """Of "it is 1,250.50 dollars": "1250.5"; None where there is none."""
    reverse = re.match(r"\D*?((?:\d|(?<=\d),(?=\d))+(?:\.(?:\d|(?<=\d),(?=\d))+)?)", text[::-1])
    if not reverse:
        return None
    digits = reverse.group(1)[::-1]
    at = len(text) - reverse.end(1)
    minus = at > 0 and text[at - 1] == "-" and not (at > 1 and text[at - 2].isascii() and text[at - 2].isalnum())
    whole, _, fraction = digits.replace(",", "").partition(".")
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    number = whole + ("." + fraction if fraction else "")
    return "-" + number if minus and number != "0" else number


def lower(text):
    return "".join(c.lower() if c.isascii() else c for c in text)


def matches(answer, gold, args):
    answer, gold = answer.strip(" \t\n\v\f\r"), gold.strip(" \t\n\v\f\r")
    if args.match == "number":
        return last_number(answer) is not None and last_number(answer) == last_number(gold)
    if args.ignore_case:
        answer, gold = lower(answer), lower(gold)
    return {"exact": answer == gold, "prefix": answer.startswith(gold), "contains": gold in answer}[args.match]


# --- tasks ---

def share(hits, n, args):
    interval = (clopper_pearson if args.interval == "exact" else wilson)(hits, n, args.confidence)
    return hits / n, *interval


def scored(rows, statistic, args):
    return (statistic(rows), *((None, None) if args.no_bootstrap else bootstrap(rows, statistic, args)))


def first_best(scores):
    return max(range(len(scores)), key=lambda i: (scores[i], -i))


def check_choice(row):
    """The places follow from the scores."""
    by_length = [s / n for s, n in zip(row["scores"], row["lengths"])]
    if (row["predicted"], row["predicted_norm"]) != (first_best(row["scores"]), first_best(by_length)):
        sys.exit("line %d: predicted is not what the scores say" % row["line"])


def check_class(row):
    if row["scores"][row["predicted"]] != max(row["scores"].values()):
        sys.exit("line %d: predicted is not what the scores say" % row["line"])


def score(task, rows, args):
    n = len(rows)
    if task == "classify":
        for row in rows:
            check_class(row)
        pairs = [(r["gold"], r["predicted"]) for r in rows]
        return {"accuracy": share(sum(g == p for g, p in pairs), n, args), "macro_f1": scored(pairs, macro_f1, args),
                "matthews": scored(pairs, matthews, args)}
    if task == "choice":
        for row in rows:
            check_choice(row)
        return {"accuracy": share(sum(r["predicted"] == r["gold"] for r in rows), n, args),
                "accuracy_norm": share(sum(r["predicted_norm"] == r["gold"] for r in rows), n, args)}
    if task == "lambada":
        return {"accuracy": share(sum(r["correct"] for r in rows), n, args),
                "perplexity": scored([r["log_p"] for r in rows], lambda x: math.exp(-math.fsum(x) / len(x)), args)}
    if task == "perplexity":
        return {"perplexity": scored([(r["log_p"], r["tokens"]) for r in rows],
                                     lambda x: math.exp(-math.fsum(a for a, _ in x) / sum(b for _, b in x)), args),
                "bits_per_byte": scored([(r["log_p"], r["bytes"]) for r in rows],
                                        lambda x: -math.fsum(a for a, _ in x) / math.log(2) / sum(b for _, b in x), args)}
    if task == "generate":
        for row in rows:
            if row["correct"] != matches(row["predicted"], row["gold"], args):
                sys.exit("line %d: correct is %s, the texts say otherwise (--match, --ignore-case?)" % (row["line"], row["correct"]))
        return {"exact_match": share(sum(r["correct"] for r in rows), n, args)}
    if task == "regress":
        pairs = [(r["gold"], r["predicted"]) for r in rows]
        return {"spearman": scored(pairs, spearman, args), "pearson": scored(pairs, pearson, args), "rmse": scored(pairs, rmse, args)}
    sys.exit("task %s is not known" % task)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions")
    parser.add_argument("--against")
    parser.add_argument("--match", default="exact", choices=["exact", "prefix", "contains", "number"])
    parser.add_argument("--ignore-case", action="store_true")
    parser.add_argument("--no-bootstrap", action="store_true")
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--interval", default="wilson", choices=["wilson", "exact"])
    args = parser.parse_args()
    with open(args.predictions, encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    tasks = {row["task"] for row in rows}
    if len(tasks) != 1:
        sys.exit("%s: predictions of %s, want one task" % (args.predictions, sorted(tasks) or "nothing"))
    found = score(tasks.pop(), rows, args)
    for name, (value, low, high) in found.items():
        print("%-16s %.9g" % (name, value), "" if low is None else "%.9g … %.9g" % (low, high))
    if not args.against:
        return 0
    with open(args.against, encoding="utf-8") as f:
        theirs = json.loads(f.readline())
    bad = [] if theirs["n"] == len(rows) and set(theirs["metrics"]) == set(found) else ["other examples or other scores"]
    for name, values in found.items():
        for mine, key in zip(values, ("value", "low", "high")):
            other = theirs["metrics"].get(name, {}).get(key, math.nan)
            if mine is not None and not abs(mine - other) <= 1e-8 * max(1.0, abs(mine)):
                bad.append("%s %s: %.12g here, %.12g there" % (name, key, mine, other))
    print("\n".join(bad) if bad else "the same")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
