// SPDX-License-Identifier: MIT
// Pieces of gradients and parameters, a window of them on the way at a time. All ranks walk the same list of pieces in
// the same order, so the oldest piece of the window can always arrive: its owner has room for it, and whoever sends it
// has nothing older to wait for.
#include "train/exchange.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "tensor/buffer.h"
#include "train/comm.h"

enum {
    PIECE = 1 << 16, // elements: 256 KiB, large for a network's packets, and as many as ranks fit into a core's cache
    WINDOW = 16
};

struct part { // one parameter
    const struct fm__state *value, *gradient;
    float *values, *gradients; // in the host's memory: the states' own, or copies of those of a closed device
    int64_t n;
    int owner, stage;
};

struct piece {
    int part, n;
    int64_t at;
};

struct fm__exchange {
    struct fm__states *states;
    struct fm__comm *comm;
    int rank, size, n_parts, n_pieces;
    struct part *parts;
    struct piece *pieces;
    bool copies;     // parts lie in copies
    bool parameters; // what travels now; else gradients
    int stage;       // the last that ended
    int first, next; // pieces on the way
    int *requests;   // [WINDOW, size - 1], -1: over
    float *room;     // [WINDOW, size - 1, PIECE] of an owner: what the others sent
    fm_status status;
    struct fm_error err;
};

static int by_size(const void *a, const void *b)
{
    const int64_t *x = a, *y = b; // {elements, index}
    return x[0] != y[0] ? (x[0] < y[0] ? 1 : -1) : (x[1] > y[1]) - (x[1] < y[1]);
}

fm_status fm__exchange_deal(const int64_t *elements, int n, int n_ranks, int *owners, struct fm_error *err)
{
    int64_t(*order)[2] = fm__malloc(((size_t)n + 1) * sizeof *order);
    int64_t *load = fm__calloc((size_t)n_ranks, sizeof *load);
    for (int i = 0; order && load && i < n; i++) order[i][0] = elements[i], order[i][1] = i;
    if (order && load) {
        qsort(order, (size_t)n, sizeof *order, by_size);
        for (int i = 0; i < n; i++) {
            int least = 0;
            for (int r = 1; r < n_ranks; r++)
                if (load[r] < load[least]) least = r;
            owners[order[i][1]] = least;
            load[least] += order[i][0];
        }
    }
    const bool fine = order && load;
    fm__free(order);
    fm__free(load);
    return fine ? FM_OK : fm__fail_nomem(err, "owners of parameters", (size_t)n * sizeof *order);
}

// --- making ---

struct place {
    int stage, part;
};

static int by_stage(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return x->stage != y->stage ? (x->stage > y->stage) - (x->stage < y->stage)
                                : (x->part < y->part) - (x->part > y->part); // backward goes from the last to the first
}

static fm_status host_memory(struct fm__exchange *x, const struct fm__state *s, float **out, struct fm_error *err)
{
    if (s->tensor.buffer->host) {
        *out = s->tensor.buffer->host;
        return FM_OK;
    }
    x->copies = true;
    *out = fm__malloc(fm_tensor_bytes(&s->tensor));
    return *out ? FM_OK : fm__fail_nomem(err, s->name, fm_tensor_bytes(&s->tensor));
}

static fm_status find_parts(struct fm__exchange *x, const int *stages, struct fm_error *err)
{
    for (int i = 0; i < x->n_parts; i++) {
        struct part *p = &x->parts[i];
        char name[sizeof x->states->items->name + 8];
        p->value = &x->states->items[i];
        snprintf(name, sizeof name, "grad.%s", p->value->name);
        p->gradient = fm__states_find(x->states, name);
        if (!p->gradient) return fm__fail(err, FM_E_NOT_FOUND, "%s: no state of this name", name);
        p->n = fm_tensor_elements(&p->value->tensor);
        p->owner = p->value->owner;
        p->stage = stages[i];
        FM_TRY(host_memory(x, p->value, &p->values, err));
        FM_TRY(host_memory(x, p->gradient, &p->gradients, err));
        x->n_pieces += (int)((p->n + PIECE - 1) / PIECE);
    }
    return FM_OK;
}

// One order for all ranks: that of rank 0, whose plan may be another one on another kind of CPU.
static fm_status order_pieces(struct fm__exchange *x, struct fm_error *err)
{
    struct place *order = fm__calloc((size_t)x->n_parts + 1, sizeof *order);
    x->pieces = fm__calloc((size_t)x->n_pieces + 1, sizeof *x->pieces);
    fm_status status =
        order && x->pieces ? FM_OK : fm__fail_nomem(err, "pieces", (size_t)x->n_pieces * sizeof *x->pieces);
    for (int i = 0; status == FM_OK && i < x->n_parts; i++) order[i] = (struct place){x->parts[i].stage, i};
    if (status == FM_OK) {
        qsort(order, (size_t)x->n_parts, sizeof *order, by_stage);
        status = fm__comm_broadcast(x->comm, order, (size_t)x->n_parts * sizeof *order, 0, err);
    }
    int n = 0;
    for (int i = 0; status == FM_OK && i < x->n_parts; i++) {
        const int64_t all = x->parts[order[i].part].n;
        for (int64_t at = 0; at < all; at += PIECE)
            x->pieces[n++] =
                (struct piece){.part = order[i].part, .at = at, .n = (int)(all - at < PIECE ? all - at : PIECE)};
    }
    fm__free(order);
    return status;
}

fm_status fm__exchange_new(struct fm__states *states, int n_params, const int *stages, struct fm__exchange **out,
                           struct fm_error *err)
{
    *out = NULL;
    struct fm__exchange *x = fm__calloc(1, sizeof *x);
    if (!x) return fm__fail_nomem(err, "exchange", sizeof *x);
    *x = (struct fm__exchange){.states = states,
                               .comm = states->comm,
                               .rank = fm__comm_rank(states->comm),
                               .size = fm__comm_size(states->comm),
                               .n_parts = n_params};
    const size_t others = (size_t)x->size - 1, room = WINDOW * others * PIECE * sizeof *x->room;
    x->parts = fm__calloc((size_t)n_params + 1, sizeof *x->parts);
    x->requests = fm__malloc((WINDOW * others + 1) * sizeof *x->requests);
    x->room = fm__malloc(room + 1);
    fm_status status = x->parts && x->requests && x->room ? FM_OK : fm__fail_nomem(err, "exchange", room);
    if (status == FM_OK) status = find_parts(x, stages, err);
    if (status == FM_OK) status = order_pieces(x, err);
    if (status != FM_OK) {
        fm__exchange_free(x);
        return status;
    }
    *out = x;
    return FM_OK;
}

void fm__exchange_free(struct fm__exchange *x)
{
    if (!x) return;
    for (int i = 0; x->parts && x->copies && i < x->n_parts; i++) {
        fm__free(x->parts[i].values);
        fm__free(x->parts[i].gradients);
    }
    fm__free(x->parts);
    fm__free(x->pieces);
    fm__free(x->requests);
    fm__free(x->room);
    fm__free(x);
}

// --- on the way ---

static float *room_of(const struct fm__exchange *x, int piece, int other)
{
    return x->room + ((size_t)(piece % WINDOW) * (size_t)(x->size - 1) + (size_t)other) * PIECE;
}

// A gradient goes from all to its owner, a parameter from its owner to all.
static void start(struct fm__exchange *x, int i)
{
    const struct piece *piece = &x->pieces[i];
    const struct part *part = &x->parts[piece->part];
    const bool owner = part->owner == x->rank, sends = owner == x->parameters;
    float *own = (x->parameters ? part->values : part->gradients) + piece->at;
    const size_t bytes = (size_t)piece->n * sizeof *own;
    int *requests = x->requests + (size_t)(i % WINDOW) * (size_t)(x->size - 1);
    for (int other = 0; other < x->size - 1; other++) {
        requests[other] = -1;
        if (x->status != FM_OK || (!owner && other > 0)) continue;
        const int rank = owner ? other + (other >= x->rank) : part->owner;
        float *to = owner ? room_of(x, i, other) : own;
        x->status = sends ? fm__comm_send(x->comm, own, bytes, rank, &requests[other], &x->err)
                          : fm__comm_receive(x->comm, to, bytes, rank, &requests[other], &x->err);
    }
}

static bool arrived(struct fm__exchange *x, int i)
{
    int *requests = x->requests + (size_t)(i % WINDOW) * (size_t)(x->size - 1);
    bool all = true;
    for (int other = 0; other < x->size - 1; other++) {
        bool done = requests[other] < 0;
        if (!done && x->status == FM_OK) x->status = fm__comm_test(x->comm, requests[other], &done, &x->err);
        if (done) requests[other] = -1;
        all &= done;
    }
    return all;
}

// ((g0 + g1) + g2) + …, element by element.
static void add_up(struct fm__exchange *x, int i)
{
    const struct piece *piece = &x->pieces[i];
    const struct part *part = &x->parts[piece->part];
    if (x->parameters || part->owner != x->rank) return;
    float *own = part->gradients + piece->at, *sum = x->rank == 0 ? own : room_of(x, i, 0);
    for (int rank = 1; rank < x->size; rank++) {
        const float *more = rank == x->rank ? own : room_of(x, i, rank - (rank > x->rank));
        for (int k = 0; k < piece->n; k++) sum[k] += more[k];
    }
    if (sum != own) memcpy(own, sum, (size_t)piece->n * sizeof *own);
}

// True if anything came or went.
static bool move(struct fm__exchange *x)
{
    bool news = false;
    while (x->status == FM_OK && x->first < x->next && arrived(x, x->first)) {
        add_up(x, x->first++);
        news = true;
    }
    while (x->status == FM_OK && x->next < x->n_pieces && x->next < x->first + WINDOW &&
           x->parts[x->pieces[x->next].part].stage <= x->stage) {
        start(x, x->next++);
        news = true;
    }
    return news;
}

static fm_status move_all(struct fm__exchange *x, struct fm_error *err)
{
    x->stage = INT_MAX;
    for (int turns = 0; x->status == FM_OK && x->first < x->n_pieces; turns++) {
        if (move(x)) turns = 0;
        if (x->status == FM_OK) x->status = fm__comm_idle(x->comm, turns, &x->err);
    }
    if (x->status != FM_OK && err) *err = x->err;
    return x->status;
}

static void begin(struct fm__exchange *x, bool parameters)
{
    x->parameters = parameters;
    x->first = x->next = 0;
    x->stage = -1;
}

void fm__exchange_begin(struct fm__exchange *x)
{
    begin(x, false);
}

void fm__exchange_stage(struct fm__exchange *x, int stage)
{
    if (x->copies) return; // they are taken at the end
    x->stage = stage;
    move(x);
}

fm_status fm__exchange_end(struct fm__exchange *x, struct fm_error *err)
{
    for (int i = 0; x->copies && i < x->n_parts; i++)
        FM_TRY(fm__states_read(x->states, x->parts[i].gradient, x->parts[i].gradients, err));
    FM_TRY(move_all(x, err));
    for (int i = 0; x->copies && i < x->n_parts; i++)
        if (x->parts[i].owner == x->rank)
            FM_TRY(fm__states_write(x->states, x->parts[i].gradient, x->parts[i].gradients, err));
    return FM_OK;
}

fm_status fm__exchange_parameters(struct fm__exchange *x, struct fm_error *err)
{
    begin(x, true);
    for (int i = 0; x->copies && i < x->n_parts; i++)
        if (x->parts[i].owner == x->rank)
            FM_TRY(fm__states_read(x->states, x->parts[i].value, x->parts[i].values, err));
    FM_TRY(move_all(x, err));
    for (int i = 0; x->copies && i < x->n_parts; i++)
        if (x->parts[i].owner != x->rank)
            FM_TRY(fm__states_write(x->states, x->parts[i].value, x->parts[i].values, err));
    return FM_OK;
}
