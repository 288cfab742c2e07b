// SPDX-License-Identifier: MIT
// What training changes: named tensors in a device's memory (parameters, gradients, moments), to bind plans to and to
// keep in checkpoints. Where several processes train together, parameters and gradients are in each of them; a moment
// is only in the one that owns its parameter.
#ifndef FM_TRAIN_STATES_H
#define FM_TRAIN_STATES_H

#include "device/plan.h"
#include "train/comm.h"

struct fm__state {
    char name[128];
    struct fm_tensor tensor; // rows order
    bool kept;               // in checkpoints: not gradients, which are nothing between steps
    int owner;               // the rank that moves this parameter, or whose parameter this is a moment of
    bool only_owners;        // other ranks have no memory for it (its buffer is NULL)
};

struct fm__states {
    struct fm_device *device;
    struct fm__comm *comm; // NULL: one process
    struct fm__state *items;
    int n, cap;
    fm__bind_fn *next; // whom fm__states_bind asks for other names; NULL: nobody
    void *next_context;
};

void fm__states_deinit(struct fm__states *states); // zeroed is fine

// Adds a tensor of zeros. Errors: FM_E_ARG for a name there is or one that is too long, FM_E_NOMEM.
fm_status fm__states_add(struct fm__states *states, const struct fm__state *state, struct fm_error *err);
const struct fm__state *fm__states_find(const struct fm__states *states, const char *name); // NULL: none
size_t fm__states_bytes(const struct fm__states *states); // of all that are in this process
bool fm__states_here(const struct fm__states *states, const struct fm__state *s);

// All bytes of a state, from and to the host.
fm_status fm__states_read(const struct fm__states *states, const struct fm__state *s, void *to, struct fm_error *err);
fm_status fm__states_write(const struct fm__states *states, const struct fm__state *s, const void *from,
                           struct fm_error *err);

// The bytes of a state on rank 0, wherever they are; all processes call this, with room for them.
fm_status fm__states_collect(const struct fm__states *states, const struct fm__state *s, void *to,
                             struct fm_error *err);

fm_status fm__states_bind(void *states, const char *name, struct fm_tensor *out, struct fm_error *err);

#endif
