#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The constants of tests/test_measures.c, from scikit-learn, SciPy and NumPy: prints the #define lines.

The bootstrap's resamples are Philox's by definition (src/eval/interval.h), so only what is made of them is independent here: they come from
scripts/score_predictions.py, which shares no code with the engine."""
import argparse
import os
import sys

import numpy as np
from scipy import stats
from sklearn import metrics

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import score_predictions  # noqa: E402

N = 200


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    i = np.arange(N)
    gold = (i * 7 + i // 3) % 4
    predicted = np.where(i % 3 > 0, gold, (i * 5 + 1) % 4)
    x = ((i * 37) % 101) / 10.0 + i % 7
    y = ((i * 37) % 101 // 8) - (i % 5) * 0.5
    out = {"ACCURACY": metrics.accuracy_score(gold, predicted), "MACRO_F1": metrics.f1_score(gold, predicted, average="macro"),
           "MATTHEWS": metrics.matthews_corrcoef(gold, predicted), "PEARSON": stats.pearsonr(x, y).statistic,
           "SPEARMAN": stats.spearmanr(x, y).statistic, "MSE": metrics.mean_squared_error(y, x)}
    means = [x[score_predictions.resample(3, r, N)].mean() for r in range(50)]
    out["BOOTSTRAP_LOW"], out["BOOTSTRAP_HIGH"] = np.percentile(means, [5, 95])
    for name, value in out.items():
        print(f"#define GOLDEN_{name} {value:.17g}")
    lines = []
    for hits, n, confidence in ((7, 10, 0.95), (0, 10, 0.95), (10, 10, 0.99), (912, 1000, 0.95), (1, 50, 0.9), (4000, 10000, 0.95)):
        test = stats.binomtest(hits, n)
        wilson, exact = (test.proportion_ci(confidence, method) for method in ("wilson", "exact"))
        lines.append(f"{{{hits}, {n}, {confidence}, {{{wilson.low:.15g}, {wilson.high:.15g}}}, {{{exact.low:.15g}, {exact.high:.15g}}}}}")
    print("#define GOLDEN_BINOMIAL \\\n    " + ", \\\n    ".join(lines))


if __name__ == "__main__":
    main()
