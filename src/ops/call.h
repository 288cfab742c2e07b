// SPDX-License-Identifier: MIT
// What a kernel gets: one node with its memory bound and its row count known.
//
// Contract of every kernel: reads in[], writes out[] (an out that aliases its in is said in ops.def), touches nothing
// else, allocates nothing, cannot fail. Tensors are contiguous unless strides say otherwise; dims[0] of a row-shaped
// tensor is the live row count, not the bucket.
#ifndef FM_OPS_CALL_H
#define FM_OPS_CALL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/tensor.h"
#include "ops/attrs.h"

enum { FM__MAX_IN = 8, FM__MAX_OUT = 4 };

struct fm__call {
    int n_in, n_out;
    struct fm_tensor in[FM__MAX_IN]; // absent optional input: dtype FM_DTYPE_COUNT and data NULL
    struct fm_tensor out[FM__MAX_OUT];
    const union fm__attrs *attrs;
    int64_t rows;    // live rows N
    void *workspace; // shared by all workers of this node, planned (kernel's workspace()); NULL when none was asked
    size_t workspace_bytes;
    atomic_int_fast64_t *next; // work counter, 0 before the node starts
};

// Sums over micro-batches: input i, keep f32 [1] or left out, says whether what stood there stays: all but 0.
static inline bool fm__keeps(const struct fm__call *c, int i)
{
    return c->n_in <= i || !c->in[i].data || *(const float *)c->in[i].data != 0.0f;
}

// A row's place, one per row of a batch: input `rows` i32 [N, FM__ROW_FIELDS].
enum { FM__ROW_SLOT, FM__ROW_POS, FM__ROW_ADAPTER, FM__ROW_KV, FM__ROW_FIELDS };
// SLOT: index into the page table's first dim. POS: position for RoPE and ALiBi. KV: index of the row's key in its
// session's cache (equals POS until a context shift separates them); row r sees cache indexes <= KV. Rows of one
// session stand together, in order. Page table: i32 [S, P], P pages of 64 keys per slot, -1 where none.

#endif
