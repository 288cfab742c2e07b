// SPDX-License-Identifier: MIT
// Every kernel of an op that this machine runs, with one to three threads, against the op's reference: the same bytes.
#ifndef FM_TESTS_RUN_KERNELS_H
#define FM_TESTS_RUN_KERNELS_H

#include "device/cpu/kernels.h"

enum { TEST_MAX_THREADS = 3 };

// cmocka group setup and teardown: the pools.
int test_kernels_setup(void **state);
int test_kernels_teardown(void **state);

// Runs the reference of `op` on `plain`, then its kernels on `fast`, which differs at most in layouts (NULL: plain
// itself); outputs of both lie in the same places, and hold the reference's when it returns. Every vector level must
// have a kernel. `what` names the case. Returns the number of runs compared.
int test_compare_kernels(enum fm__op_id op, const struct fm__call *plain, const struct fm__call *fast,
                         const char *what);

#endif
