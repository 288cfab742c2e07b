// SPDX-License-Identifier: MIT
// The clock for durations.
#ifndef FM_BASE_CLOCK_H
#define FM_BASE_CLOCK_H

#include <time.h>

// Seconds since some moment before the process began; never goes back.
static inline double fm__seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
