// SPDX-License-Identifier: MIT
// The transport over MPI: built into fathom_mpi.so where CMake finds MPI, opened at run time under mpirun only. Sends
// and receives alone; sums are formed in comm.c and exchange.c.
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

#include "train/comm_transport.h"

enum { MAX_REQUESTS = 1 << 14 };

// MPI itself is a state of the process, so this is one too.
static struct mpi {
    MPI_Request requests[MAX_REQUESTS];
    int free_list[MAX_REQUESTS], n_free;
    char text[FM__TRANSPORT_TEXT];
} mpi;

static int check(int code, const char *what)
{
    char why[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    if (code == MPI_SUCCESS) return 0;
    MPI_Error_string(code, why, &n);
    snprintf(mpi.text, sizeof mpi.text, "%s: %.200s", what, why);
    return 1;
}

static int open_mpi(void **self, int *rank, int *size, char text[FM__TRANSPORT_TEXT])
{
    int provided, begun = 0;
    *self = &mpi;
    MPI_Initialized(&begun);
    // the thread that opens also computes; no other calls
    if (!begun && MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) {
        snprintf(text, FM__TRANSPORT_TEXT, "MPI cannot begin");
        return 1;
    }
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, rank);
    MPI_Comm_size(MPI_COMM_WORLD, size);
    mpi.n_free = MAX_REQUESTS;
    for (int i = 0; i < MAX_REQUESTS; i++) mpi.free_list[i] = MAX_REQUESTS - 1 - i;
    return 0;
}

static void close_mpi(void *self)
{
    (void)self;
    MPI_Finalize();
}

static void abort_mpi(void *self, int code)
{
    (void)self;
    MPI_Abort(MPI_COMM_WORLD, code);
    _Exit(code);
}

static int take(int *request)
{
    if (mpi.n_free == 0) {
        snprintf(mpi.text, sizeof mpi.text, "more than %d messages at once", MAX_REQUESTS);
        return 1;
    }
    *request = mpi.free_list[--mpi.n_free];
    return 0;
}

static int send_mpi(void *self, const void *x, size_t n, int to, int tag, int *request)
{
    (void)self;
    if (take(request)) return 1;
    return check(MPI_Isend(x, (int)n, MPI_BYTE, to, tag, MPI_COMM_WORLD, &mpi.requests[*request]), "send");
}

static int receive_mpi(void *self, void *x, size_t n, int from, int tag, int *request)
{
    (void)self;
    if (take(request)) return 1;
    return check(MPI_Irecv(x, (int)n, MPI_BYTE, from, tag, MPI_COMM_WORLD, &mpi.requests[*request]), "receive");
}

static int test_mpi(void *self, int request, int *done)
{
    (void)self;
    if (check(MPI_Test(&mpi.requests[request], done, MPI_STATUS_IGNORE), "message")) return 1;
    if (*done) mpi.free_list[mpi.n_free++] = request;
    return 0;
}

static char *text_mpi(void *self)
{
    (void)self;
    return mpi.text;
}

__attribute__((visibility("default"))) extern const struct fm__transport fathom_transport;
const struct fm__transport fathom_transport = {.version = FM__TRANSPORT_VERSION,
                                               .open = open_mpi,
                                               .close = close_mpi,
                                               .abort = abort_mpi,
                                               .send = send_mpi,
                                               .receive = receive_mpi,
                                               .test = test_mpi,
                                               .text = text_mpi};
