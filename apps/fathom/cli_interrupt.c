// SPDX-License-Identifier: MIT
// The signal handler. It has no argument of its own, so what it touches is the one mutable state of the program that is
// not passed around: lock-free atomics, written by the calls below on the main thread only.
#include "cli_interrupt.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

#include "fathom/session.h"

static atomic_int seen;
static atomic_bool patient; // a conversation: Ctrl-C never ends the program
static _Atomic(struct fm_batcher *) target;

static void on_signal(int number)
{
    if (atomic_exchange(&seen, 1) && !atomic_load(&patient)) {
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    struct fm_batcher *batcher = atomic_load(&target);
    if (batcher) fm_batcher_cancel(batcher);
}

static void set(void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler}; // no SA_RESTART: a read that waits for input ends
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    if (!atomic_load(&patient)) sigaction(SIGTERM, &action, NULL); // a conversation ends with it at once
}

void fm__cli_interrupt_ignore(void)
{
    signal(SIGINT, SIG_IGN);
    atomic_store(&patient, true);
}

void fm__cli_interrupt_begin(struct fm_batcher *batcher)
{
    atomic_store(&target, batcher);
    atomic_store(&seen, 0);
    set(on_signal);
}

void fm__cli_interrupt_end(void)
{
    set(SIG_DFL);
    if (atomic_load(&patient)) signal(SIGINT, SIG_IGN);
    atomic_store(&target, NULL);
}

bool fm__cli_interrupted(void)
{
    return atomic_load(&seen) != 0;
}
