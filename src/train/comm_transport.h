// SPDX-License-Identifier: MIT
// What carries bytes between the processes of a run: the few calls that a plugin has to bring (comm_mpi.c is built into
// fathom_mpi.so). Everything that gives a result its value (orders of sums, who owns what) lies above, in comm.c and
// exchange.c, so that no message library decides a byte.
#ifndef FM_TRAIN_COMM_TRANSPORT_H
#define FM_TRAIN_COMM_TRANSPORT_H

#include <stddef.h>

enum { FM__TRANSPORT_VERSION = 1, FM__TRANSPORT_TEXT = 256 };

// All calls come from one thread, which is the one that opened. They return 0, or something else after writing what
// went wrong into `text`.
struct fm__transport {
    int version; // FM__TRANSPORT_VERSION
    int (*open)(void **self, int *rank, int *size, char text[FM__TRANSPORT_TEXT]);
    void (*close)(void *self);           // all processes together
    void (*abort)(void *self, int code); // ends all processes; does not return
    // Starts a message of n < 2^31 bytes, which `x` must keep until it is over; *request is a number for `test`.
    // Messages between two processes with one tag arrive in the order they were sent in.
    int (*send)(void *self, const void *x, size_t n, int to, int tag, int *request);
    int (*receive)(void *self, void *x, size_t n, int from, int tag, int *request);
    // *done: the message is over and its number free again. Also moves all others on.
    int (*test)(void *self, int request, int *done);
    char *(*text)(void *self); // of the last error
};

// The one symbol of a plugin.
#define FM__TRANSPORT_SYMBOL "fathom_transport"

#endif
