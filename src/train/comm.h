// SPDX-License-Identifier: MIT
// The processes of a training run, started together by mpirun, each with a copy of the model. Without mpirun there is
// one, and every call is trivial; NULL stands for that too. What one process sends is never summed on the way: sums are
// formed from all contributions, in the order of the ranks, so the same run gives the same bytes however messages race.
//
// Errors: FM_E_IO for a process that is gone (named) or a message library that refuses. After one that the others do
// not share (see fm__comm_agree) only fm__comm_abort ends them.
#ifndef FM_TRAIN_COMM_H
#define FM_TRAIN_COMM_H

#include <stdbool.h>
#include <stddef.h>

#include "fathom/status.h"

struct fm__comm;
struct fm__transport;

// One process, or where mpirun started this one, all of them: opens the plugin fathom_mpi.so, which lies beside the
// binary or in ../lib/fathom. Call it before threads are made. Errors: FM_E_UNSUPPORTED without the plugin.
fm_status fm__comm_open(struct fm__comm **out, struct fm_error *err);
// The same over a given transport (tests).
fm_status fm__comm_over(const struct fm__transport *transport, struct fm__comm **out, struct fm_error *err);
void fm__comm_close(struct fm__comm *c);           // all processes together
void fm__comm_abort(struct fm__comm *c, int code); // ends all at once; returns where there is one process
int fm__comm_rank(const struct fm__comm *c);       // from 0
int fm__comm_size(const struct fm__comm *c);

// Takes this process's part of the host's CPUs: those of mpirun, split among the ranks of this host, unless mpirun was
// told how to bind (--bind-to, --map-by): then what it gave, split only among ranks that were given the same. Returns
// how many threads that is good for; 0 where there is one process.
int fm__comm_take_cpus(struct fm__comm *c);

// All processes call these, with the same sizes.
fm_status fm__comm_gather(struct fm__comm *c, const void *mine, size_t n, void *all, struct fm_error *err); // [size, n]
fm_status fm__comm_broadcast(struct fm__comm *c, void *x, size_t n, int root, struct fm_error *err);
// The status of the first rank whose is not FM_OK, with its error, on all of them.
fm_status fm__comm_agree(struct fm__comm *c, fm_status status, struct fm_error *err);
// Of the processes that see the last error, does this one tell it? An agreed one: rank 0; a process that is gone: the
// first that is left; else whoever has it.
bool fm__comm_speaks(const struct fm__comm *c);
bool fm__comm_agreed(const struct fm__comm *c); // the last error is one of fm__comm_agree: all end by themselves

// One message. A request is over when fm__comm_test says so; wait does that until it is.
fm_status fm__comm_send(struct fm__comm *c, const void *x, size_t n, int to, int *request, struct fm_error *err);
fm_status fm__comm_receive(struct fm__comm *c, void *x, size_t n, int from, int *request, struct fm_error *err);
fm_status fm__comm_test(struct fm__comm *c, int request, bool *done, struct fm_error *err);
fm_status fm__comm_wait(struct fm__comm *c, int request, struct fm_error *err);
// For loops of their own over fm__comm_test: call with the number of turns without news; sleeps a little, and sees when
// a process of this host is gone.
fm_status fm__comm_idle(struct fm__comm *c, int turns, struct fm_error *err);

#endif
