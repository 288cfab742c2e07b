// SPDX-License-Identifier: MIT
// Named tensors in a device's memory, to bind a graph's weights and states to: what a model is for a real plan.
#ifndef FM_TESTS_LEAVES_H
#define FM_TESTS_LEAVES_H

#include "device/device.h"
#include "device/plan.h"

enum { TEST_MAX_LEAVES = 256 };

struct test_leaves {
    struct fm_device *device;
    struct {
        char name[48];
        struct fm_tensor tensor;
    } items[TEST_MAX_LEAVES];
    int n;
};

// Opens the device (cpu at level "ref", one thread, unless opts say otherwise); fails the test if it cannot.
void test_leaves_init(struct test_leaves *leaves, const char *device, const struct fm_device_opts *opts);
void test_leaves_deinit(struct test_leaves *leaves);
// Adds a leaf in rows order; data NULL: zeros.
void test_leaves_add(struct test_leaves *leaves, const char *name, fm_dtype dtype, int rank, const int64_t *dims,
                     const void *data);
// Adds every weight and state of the graph that is not there yet, filled with values of about `scale` that depend on
// its name alone (f32, and block formats made of such values) or zeros (other types).
void test_leaves_fill(struct test_leaves *leaves, const struct fm__graph *g, float scale);
void test_leaves_read(const struct test_leaves *leaves, const char *name, void *out); // the bytes now
fm__bind_fn test_leaves_bind;                                                         // context: the leaves

#endif
