// SPDX-License-Identifier: MIT
// What a device implements. A NULL slot means the default written beside it.
#ifndef FM_DEVICE_DEVICE_H
#define FM_DEVICE_DEVICE_H

#include <stdbool.h>

#include "fathom/device.h"
#include "fathom/tensor.h"
#include "graph/graph.h"

struct fm__plan;
struct fm__pool;
struct fm__program; // a device's own form of a plan

// What changes from run to run.
struct fm__run {
    int64_t rows;              // live rows, 1 … the plan's bucket
    const void *const *inputs; // host-visible devices: address of each graph input, in the order of the leaves
    // Called by the submitting thread when all steps of a stage are over, while those of the next one run; a device may
    // leave it out, and does for the last stage. NULL: nobody asks.
    void (*after)(void *context, int stage);
    void *after_context;
};

struct fm__device_vtable {
    const char *name;
    fm_status (*open)(const struct fm_device_opts *opts, struct fm_device **out, struct fm_error *err);
    void (*close)(struct fm_device *device);
    void (*props)(const struct fm_device *device, struct fm_device_props *props);

    // Memory. alloc zeroes. copies are complete on return; NULL: buffer->host is there, memcpy.
    fm_status (*alloc)(struct fm_device *device, size_t bytes, struct fm_buffer **out, struct fm_error *err);
    fm_status (*copy_in)(struct fm_device *d, struct fm_buffer *to, size_t at, const void *from, size_t n,
                         struct fm_error *err);
    fm_status (*copy_out)(struct fm_device *d, const struct fm_buffer *from, size_t at, void *to, size_t n,
                          struct fm_error *err);

    // Weights. `w` has dtype, rank and dims; layout: the order this device wants (NULL: FM_LAYOUT_ROWS for all).
    int (*weight_layout)(struct fm_device *device, const struct fm_tensor *w);
    size_t (*weight_bytes)(struct fm_device *device, const struct fm_tensor *w); // in w->layout
    // Converts rows [row0, row0 + n) between the file's order and w's place in memory. row0 is a multiple of 64.
    fm_status (*weight_write)(struct fm_device *device, const struct fm_tensor *w, int64_t row0, int64_t n,
                              const void *file_rows, struct fm_error *err);
    fm_status (*weight_read)(struct fm_device *device, const struct fm_tensor *w, int64_t row0, int64_t n,
                             void *file_rows, struct fm_error *err);

    // Planning. activation: the type that linear's x should have for this weight (NULL: f32).
    fm_dtype (*activation)(struct fm_device *device, const struct fm_tensor *w);
    size_t (*workspace)(struct fm_device *device, const struct fm__node *node, const struct fm__call *largest);
    const char *(*kernel_name)(struct fm_device *device, const struct fm__node *node, const struct fm__call *largest);

    // Running. submit starts, wait returns when all is done and visible.
    fm_status (*prepare)(struct fm_device *d, struct fm__plan *plan, struct fm__program **out, struct fm_error *err);
    void (*release)(struct fm_device *device, struct fm__program *program);
    fm_status (*submit)(struct fm_device *d, struct fm__program *program, const struct fm__run *run,
                        struct fm_error *err);
    fm_status (*wait)(struct fm_device *device, struct fm__program *program, struct fm_error *err);
    // Seconds each step took in the last run; NULL: not measured. Measuring is on while `on`.
    void (*profile)(struct fm_device *device, struct fm__program *program, int on, double *seconds);
    // The host's threads that it computes with; NULL: none. Whoever measures what the machine can do borrows them: a
    // second pool would inherit the mask of its creator, who is pinned to one CPU by the first.
    struct fm__pool *(*pool)(struct fm_device *device);
};

struct fm_device {
    const struct fm__device_vtable *v;
};

fm_status fm__device_copy_in(struct fm_device *d, struct fm_buffer *to, size_t at, const void *from, size_t n,
                             struct fm_error *err);
fm_status fm__device_copy_out(struct fm_device *d, const struct fm_buffer *from, size_t at, void *to, size_t n,
                              struct fm_error *err);
int fm__device_weight_layout(struct fm_device *d, const struct fm_tensor *w);
size_t fm__device_weight_bytes(struct fm_device *d, const struct fm_tensor *w);
fm_status fm__device_weight_write(struct fm_device *d, const struct fm_tensor *w, int64_t row0, int64_t n,
                                  const void *file_rows, struct fm_error *err);
fm_status fm__device_weight_read(struct fm_device *d, const struct fm_tensor *w, int64_t row0, int64_t n,
                                 void *file_rows, struct fm_error *err);
struct fm__pool *fm__device_pool(struct fm_device *d); // the device's own; NULL: it has none

extern const struct fm__device_vtable fm__device_cpu, fm__device_sim;

#endif
