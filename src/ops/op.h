// SPDX-License-Identifier: MIT
// An op: one record, defined in one file of this folder, listed once in ops.def.
#ifndef FM_OPS_OP_H
#define FM_OPS_OP_H

#include "graph/graph.h"

// What a shape rule sees and fills. Rules check dtypes and dims of the inputs and set the outputs'; FM__ROWS passes
// through as any other number.
struct fm__shape {
    const char *op;
    int n_in;
    const struct fm__value *in[FM__MAX_IN]; // NULL: left out
    const union fm__attrs *attrs;
    struct {
        fm_dtype dtype;
        int rank;
        int64_t dims[FM_MAX_RANK];
    } out[FM__MAX_OUT];
    struct fm_error *err;
};

// What a gradient rule sees: the graph to append to, a copy of the node, the gradient of each output (FM__NONE: nothing
// depends on it). It reports through graph/gradient.h: fm__grad_add(grad, node->in[i], value).
struct fm__grad;

struct fm__op {
    const char *name;
    const char *doc; // one line: the formula
    int min_in, max_in, n_out;
    int alias[FM__MAX_OUT];         // output i lies where input alias[i]-1 lay, as its next version; 0: none
    unsigned in_place[FM__MAX_OUT]; // bit k: output i may lie where input k lies, if that is as large (element by
                                    // element, the kernels read all operands of one first); no bit in two outputs
    fm_status (*shape)(struct fm__shape *s);
    fm_status (*gradient)(struct fm__grad *grad, const struct fm__node *node, const fm__val *d_out); // NULL: has none
    void (*reference)(const struct fm__call *call);        // plain C, one thread
    size_t (*workspace)(const struct fm__call *call);      // bytes that the reference wants; NULL: none
    double (*flops)(const struct fm__call *call);          // NULL: counts as elements of output 0
    void (*print)(const union fm__attrs *attrs, FILE *to); // " key=value"…; NULL: no attributes
};

const struct fm__op *fm__op(enum fm__op_id id); // never NULL for a listed id

// Shape rules' vocabulary. Each fails with "op: what: found, want".
fm_status fm__want_rank(const struct fm__shape *s, int i, int rank);
fm_status fm__want_dtype(const struct fm__shape *s, int i, fm_dtype dtype);
fm_status fm__want_weight_type(const struct fm__shape *s, int i); // f32, f16, bf16 or a block format
fm_status fm__want_dim(const struct fm__shape *s, int i, int d, int64_t size);
void fm__shape_like(struct fm__shape *s, int out, int in); // out = f32 with the dims of input `in`

size_t fm__row_workspace(const struct fm__call *call); // one f32 row of input 0

#define X(id, symbol) extern const struct fm__op fm__op_##symbol;
#include "ops/ops.def"
#undef X

#endif
