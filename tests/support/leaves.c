// SPDX-License-Identifier: MIT
#include "support/leaves.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "support/support.h"
#include "tensor/blocks.h"
#include "tensor/buffer.h"

void test_leaves_init(struct test_leaves *leaves, const char *device, const struct fm_device_opts *opts)
{
    struct fm_error err;
    const struct fm_device_opts plain = {.threads = 1, .level = "ref"};
    *leaves = (struct test_leaves){0};
    assert_ok(fm_device_open(device, opts ? opts : &plain, &leaves->device, &err), err);
}

void test_leaves_deinit(struct test_leaves *leaves)
{
    for (int i = 0; i < leaves->n; i++) fm_buffer_unref(leaves->items[i].tensor.buffer);
    fm_device_close(leaves->device);
}

static int find(const struct test_leaves *leaves, const char *name)
{
    for (int i = 0; i < leaves->n; i++)
        if (!strcmp(leaves->items[i].name, name)) return i;
    return -1;
}

void test_leaves_add(struct test_leaves *leaves, const char *name, fm_dtype dtype, int rank, const int64_t *dims,
                     const void *data)
{
    struct fm_error err;
    assert_true(leaves->n < TEST_MAX_LEAVES);
    assert_true(strlen(name) < sizeof leaves->items->name);
    struct fm_tensor *t = &leaves->items[leaves->n].tensor;
    *t = (struct fm_tensor){.dtype = dtype, .rank = rank};
    for (int d = 0; d < rank; d++) t->dims[d] = dims[d];
    fm_tensor_set_contiguous(t);
    strcpy(leaves->items[leaves->n++].name, name);
    const size_t bytes = fm_tensor_bytes(t);
    assert_ok(leaves->device->v->alloc(leaves->device, bytes, &t->buffer, &err), err);
    t->data = t->buffer->host;
    void *zeros = calloc(1, bytes);
    assert_ok(fm__device_copy_in(leaves->device, t->buffer, 0, data ? data : zeros, bytes, &err), err);
    free(zeros);
}

static uint32_t hash(const char *name)
{
    uint32_t h = 2166136261u; // FNV-1a
    while (*name) h = (h ^ (unsigned char)*name++) * 16777619u;
    return h;
}

void test_leaves_fill(struct test_leaves *leaves, const struct fm__graph *g, float scale)
{
    for (int i = 0; i < g->n_values; i++) {
        const struct fm__value *v = &g->values[i];
        if (v->node >= 0 || v->kind == FM__INPUT || find(leaves, v->name) >= 0) continue;
        int64_t n = 1;
        for (int d = 0; d < v->rank; d++) n *= v->dims[d];
        if (!fm__is_weight_type(v->dtype)) {
            test_leaves_add(leaves, v->name, v->dtype, v->rank, v->dims, NULL);
            continue;
        }
        float *values = malloc((size_t)n * sizeof *values);
        void *bytes = malloc(fm_dtype_row_bytes(v->dtype, n));
        uint32_t seed = hash(v->name);
        for (int64_t k = 0; k < n; k++) {
            seed = seed * 1664525u + 1013904223u;
            values[k] = scale * ((float)(int32_t)seed * 0x1p-31f);
        }
        assert_true(fm__quantise_row(v->dtype, values, n, bytes));
        test_leaves_add(leaves, v->name, v->dtype, v->rank, v->dims, bytes);
        free(values);
        free(bytes);
    }
}

void test_leaves_read(const struct test_leaves *leaves, const char *name, void *out)
{
    struct fm_error err;
    const int i = find(leaves, name);
    assert_true(i >= 0);
    const struct fm_tensor *t = &leaves->items[i].tensor;
    assert_ok(fm__device_copy_out(leaves->device, t->buffer, t->offset, out, fm_tensor_bytes(t), &err), err);
}

fm_status test_leaves_bind(void *context, const char *name, struct fm_tensor *out, struct fm_error *err)
{
    const struct test_leaves *leaves = context;
    const int i = find(leaves, name);
    if (i < 0) return fm__fail(err, FM_E_NOT_FOUND, "%s: no such leaf", name);
    *out = leaves->items[i].tensor;
    return FM_OK;
}
