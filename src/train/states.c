// SPDX-License-Identifier: MIT
// Named tensors, a buffer each.
#include "train/states.h"

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "tensor/buffer.h"

void fm__states_deinit(struct fm__states *states)
{
    for (int i = 0; i < states->n; i++) fm_buffer_unref(states->items[i].tensor.buffer);
    fm__free(states->items);
    states->items = NULL;
    states->n = states->cap = 0;
}

const struct fm__state *fm__states_find(const struct fm__states *states, const char *name)
{
    for (int i = 0; i < states->n; i++)
        if (!strcmp(states->items[i].name, name)) return &states->items[i];
    return NULL;
}

// A device's new memory may hold anything where the host cannot see it.
static fm_status fill_with_zeros(struct fm_device *device, struct fm_buffer *buffer, size_t bytes, struct fm_error *err)
{
    static const unsigned char zeros[1 << 16];
    for (size_t at = 0; !buffer->host && at < bytes; at += sizeof zeros)
        FM_TRY(
            fm__device_copy_in(device, buffer, at, zeros, bytes - at < sizeof zeros ? bytes - at : sizeof zeros, err));
    return FM_OK;
}

fm_status fm__states_add(struct fm__states *states, const struct fm__state *state, struct fm_error *err)
{
    if (memchr(state->name, 0, sizeof state->name) == NULL || !state->name[0])
        return fm__fail(err, FM_E_ARG, "%.40s…: a state's name has 1 to %zu bytes", state->name,
                        sizeof state->name - 1);
    if (fm__states_find(states, state->name))
        return fm__fail(err, FM_E_ARG, "%s: two states of this name", state->name);
    if (states->n == states->cap) {
        const int cap = states->cap ? 2 * states->cap : 64;
        struct fm__state *more = fm__realloc(states->items, (size_t)cap * sizeof *more);
        if (!more) return fm__fail_nomem(err, "states", (size_t)cap * sizeof *more);
        states->items = more;
        states->cap = cap;
    }
    struct fm__state *s = &states->items[states->n];
    *s = *state;
    s->tensor.layout = FM_LAYOUT_ROWS;
    s->tensor.offset = 0;
    fm_tensor_set_contiguous(&s->tensor);
    const size_t bytes = fm_tensor_bytes(&s->tensor);
    if (bytes == 0) return fm__fail(err, FM_E_SHAPE, "%s: a state without bytes", s->name);
    s->tensor.buffer = NULL;
    s->tensor.data = NULL;
    if (!fm__states_here(states, s)) {
        states->n++;
        return FM_OK;
    }
    FM_TRY(states->device->v->alloc(states->device, bytes, &s->tensor.buffer, err));
    s->tensor.data = s->tensor.buffer->host;
    states->n++;
    return fill_with_zeros(states->device, s->tensor.buffer, bytes, err);
}

bool fm__states_here(const struct fm__states *states, const struct fm__state *s)
{
    return !s->only_owners || s->owner == fm__comm_rank(states->comm);
}

size_t fm__states_bytes(const struct fm__states *states)
{
    size_t sum = 0;
    for (int i = 0; i < states->n; i++)
        if (fm__states_here(states, &states->items[i])) sum += fm_tensor_bytes(&states->items[i].tensor);
    return sum;
}

fm_status fm__states_collect(const struct fm__states *states, const struct fm__state *s, void *to, struct fm_error *err)
{
    enum { MESSAGE = 1 << 24 };
    const size_t bytes = fm_tensor_bytes(&s->tensor);
    const int rank = fm__comm_rank(states->comm);
    const bool travels = s->only_owners && s->owner != 0;
    if (travels ? rank == s->owner : rank == 0) FM_TRY(fm__states_read(states, s, to, err));
    if (!travels || (rank != s->owner && rank != 0)) return FM_OK;
    for (size_t at = 0; at < bytes; at += MESSAGE) {
        const size_t n = bytes - at < MESSAGE ? bytes - at : MESSAGE;
        int request;
        FM_TRY(rank == 0 ? fm__comm_receive(states->comm, (char *)to + at, n, s->owner, &request, err)
                         : fm__comm_send(states->comm, (char *)to + at, n, 0, &request, err));
        FM_TRY(fm__comm_wait(states->comm, request, err));
    }
    return FM_OK;
}

fm_status fm__states_read(const struct fm__states *states, const struct fm__state *s, void *to, struct fm_error *err)
{
    return fm__device_copy_out(states->device, s->tensor.buffer, 0, to, fm_tensor_bytes(&s->tensor), err);
}

fm_status fm__states_write(const struct fm__states *states, const struct fm__state *s, const void *from,
                           struct fm_error *err)
{
    return fm__device_copy_in(states->device, s->tensor.buffer, 0, from, fm_tensor_bytes(&s->tensor), err);
}

fm_status fm__states_bind(void *context, const char *name, struct fm_tensor *out, struct fm_error *err)
{
    const struct fm__states *states = context;
    const struct fm__state *s = fm__states_find(states, name);
    if (s) {
        *out = s->tensor;
        return FM_OK;
    }
    if (states->next) return states->next(states->next_context, name, out, err);
    return fm__fail(err, FM_E_NOT_FOUND, "%s: no state of this name", name);
}
