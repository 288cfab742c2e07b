// SPDX-License-Identifier: MIT
// Samples in order, for medians and quartiles.
#ifndef FM_EVAL_SORTED_H
#define FM_EVAL_SORTED_H

#include <stdlib.h>

static inline int fm__ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static inline void fm__sort(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, fm__ascending);
}

#endif
