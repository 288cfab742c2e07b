// SPDX-License-Identifier: MIT
// Groups of processes over a transport. Collective calls go through rank 0: what they carry is small; gradients and
// parameters have their own way (exchange.c).
#include "train/comm.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/pool.h"
#include "train/comm_transport.h"

#define PLUGIN "fathom_mpi.so"
enum { TAG = 1, SPINS = 200, YIELDS = 2000, LOOK_EVERY = 200 };

// Who a process is, for those that share its host.
struct peer {
    char host[64];
    uint64_t pids; // the name space of process numbers
    pid_t pid;
};

struct fm__comm {
    const struct fm__transport *transport;
    void *self;
    int rank, size;
    struct peer *peers;
    bool agreed;
    int lost; // rank of a process that is gone, -1: none known
};

int fm__comm_rank(const struct fm__comm *c)
{
    return c ? c->rank : 0;
}

int fm__comm_size(const struct fm__comm *c)
{
    return c ? c->size : 1;
}

bool fm__comm_agreed(const struct fm__comm *c)
{
    return fm__comm_size(c) == 1 || c->agreed;
}

static fm_status refused(const struct fm__comm *c, struct fm_error *err)
{
    return fm__fail(err, FM_E_IO, "rank %d of %d: %s", c->rank, c->size, c->transport->text(c->self));
}

// --- messages ---

fm_status fm__comm_send(struct fm__comm *c, const void *x, size_t n, int to, int *request, struct fm_error *err)
{
    return c->transport->send(c->self, x, n, to, TAG, request) ? refused(c, err) : FM_OK;
}

fm_status fm__comm_receive(struct fm__comm *c, void *x, size_t n, int from, int *request, struct fm_error *err)
{
    return c->transport->receive(c->self, x, n, from, TAG, request) ? refused(c, err) : FM_OK;
}

fm_status fm__comm_test(struct fm__comm *c, int request, bool *done, struct fm_error *err)
{
    int over = 0;
    if (c->transport->test(c->self, request, &over)) return refused(c, err);
    *done = over;
    return FM_OK;
}

static bool same_host(const struct peer *a, const struct peer *b)
{
    return a->pids == b->pids && !strcmp(a->host, b->host);
}

static bool is_gone(const struct fm__comm *c, int rank)
{
    const struct peer *p = &c->peers[rank];
    return rank != c->rank && same_host(p, &c->peers[c->rank]) && kill(p->pid, 0) != 0 && errno == ESRCH;
}

bool fm__comm_speaks(const struct fm__comm *c)
{
    if (fm__comm_size(c) == 1) return true;
    if (c->agreed) return c->rank == 0;
    if (c->lost < 0) return true;
    for (int r = 0; r < c->rank; r++)
        if (!is_gone(c, r) && same_host(&c->peers[r], &c->peers[c->rank])) return false;
    return true;
}

static fm_status look_for_the_dead(struct fm__comm *c, struct fm_error *err)
{
    for (int r = 0; c->peers && r < c->size; r++)
        if (is_gone(c, r)) {
            c->lost = r;
            return fm__fail(err, FM_E_IO, "rank %d of %d (process %ld on %s) is gone", r, c->size,
                            (long)c->peers[r].pid, c->peers[r].host);
        }
    return FM_OK;
}

// A busy wait steals a core from the very process that is waited for where there are more processes than cores.
fm_status fm__comm_idle(struct fm__comm *c, int turns, struct fm_error *err)
{
    if (turns < SPINS) return FM_OK;
    if (turns < YIELDS) {
        sched_yield();
        return FM_OK;
    }
    nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
    return turns % LOOK_EVERY == 0 ? look_for_the_dead(c, err) : FM_OK;
}

fm_status fm__comm_wait(struct fm__comm *c, int request, struct fm_error *err)
{
    bool done = false;
    for (int turns = 0;; turns++) {
        FM_TRY(fm__comm_test(c, request, &done, err));
        if (done) return FM_OK;
        FM_TRY(fm__comm_idle(c, turns, err));
    }
}

static fm_status send_now(struct fm__comm *c, const void *x, size_t n, int to, struct fm_error *err)
{
    int request;
    FM_TRY(fm__comm_send(c, x, n, to, &request, err));
    return fm__comm_wait(c, request, err);
}

static fm_status receive_now(struct fm__comm *c, void *x, size_t n, int from, struct fm_error *err)
{
    int request;
    FM_TRY(fm__comm_receive(c, x, n, from, &request, err));
    return fm__comm_wait(c, request, err);
}

// --- all together ---

fm_status fm__comm_broadcast(struct fm__comm *c, void *x, size_t n, int root, struct fm_error *err)
{
    if (fm__comm_size(c) == 1) return FM_OK;
    if (c->rank != root) return receive_now(c, x, n, root, err);
    for (int r = 0; r < c->size; r++)
        if (r != root) FM_TRY(send_now(c, x, n, r, err));
    return FM_OK;
}

fm_status fm__comm_gather(struct fm__comm *c, const void *mine, size_t n, void *all, struct fm_error *err)
{
    const int rank = fm__comm_rank(c), size = fm__comm_size(c);
    memcpy((char *)all + (size_t)rank * n, mine, n);
    if (size == 1) return FM_OK;
    if (rank != 0) FM_TRY(send_now(c, mine, n, 0, err));
    for (int r = 1; rank == 0 && r < size; r++) FM_TRY(receive_now(c, (char *)all + (size_t)r * n, n, r, err));
    return fm__comm_broadcast(c, all, (size_t)size * n, 0, err);
}

fm_status fm__comm_agree(struct fm__comm *c, fm_status status, struct fm_error *err)
{
    if (fm__comm_size(c) == 1) return status;
    struct fm_error local = {0}, *e = err ? err : &local;
    int *all = fm__malloc((size_t)c->size * sizeof *all), mine = (int)status, first = 0, n_failed = 0;
    if (!all) return fm__fail_nomem(err, "ranks", (size_t)c->size * sizeof *all);
    const fm_status gathered = fm__comm_gather(c, &mine, sizeof mine, all, e);
    for (int r = 0; gathered == FM_OK && r < c->size; r++)
        if (all[r] != FM_OK && n_failed++ == 0) first = r;
    const fm_status agreed = gathered == FM_OK ? (fm_status)all[first] : gathered;
    fm__free(all);
    if (gathered != FM_OK || n_failed == 0) return gathered;
    FM_TRY(fm__comm_broadcast(c, e, sizeof *e, first, e));
    c->agreed = true;
    return n_failed == c->size ? agreed : fm__error_prefix(e, agreed, "rank %d", first);
}

// --- opening ---

static fm_status meet(struct fm__comm *c, struct fm_error *err)
{
    struct stat ns;
    struct peer me = {.pid = getpid()};
    if (gethostname(me.host, sizeof me.host - 1) != 0) me.host[0] = 0;
    if (stat("/proc/self/ns/pid", &ns) == 0) me.pids = (uint64_t)ns.st_ino;
    struct peer *peers = fm__calloc((size_t)c->size, sizeof *peers);
    if (!peers) return fm__fail_nomem(err, "ranks", (size_t)c->size * sizeof *peers);
    const fm_status status = fm__comm_gather(c, &me, sizeof me, peers, err);
    c->peers = peers; // only now: before, nobody is known that could be gone
    return status;
}

fm_status fm__comm_over(const struct fm__transport *transport, struct fm__comm **out, struct fm_error *err)
{
    char text[FM__TRANSPORT_TEXT] = "";
    *out = NULL;
    struct fm__comm *c = fm__calloc(1, sizeof *c);
    if (!c) return fm__fail_nomem(err, "ranks", sizeof *c);
    *c = (struct fm__comm){.size = 1, .lost = -1};
    fm_status status = FM_OK;
    if (transport && transport->open(&c->self, &c->rank, &c->size, text))
        status = fm__fail(err, FM_E_IO, "processes of a run: %s", text);
    else
        c->transport = transport;
    if (status == FM_OK && c->size > 1) status = meet(c, err);
    if (status == FM_OK) {
        *out = c;
        return FM_OK;
    }
    fm__comm_close(c);
    return status;
}

void fm__comm_close(struct fm__comm *c)
{
    if (!c) return;
    if (c->transport) c->transport->close(c->self);
    fm__free(c->peers);
    fm__free(c);
}

void fm__comm_abort(struct fm__comm *c, int code)
{
    if (fm__comm_size(c) > 1) c->transport->abort(c->self, code);
}

static int number_of(const char *name)
{
    const char *text = getenv(name);
    return text ? atoi(text) : 0;
}

// Beside the binary, installed, or wherever the system looks.
static void *open_plugin(char text[FM__TRANSPORT_TEXT])
{
    static const char *const places[] = {"%s/" PLUGIN, "%s/../" FATHOM_PLUGIN_DIR "/" PLUGIN};
    char folder[PATH_MAX] = "", path[PATH_MAX + 128];
    const ssize_t n = readlink("/proc/self/exe", folder, sizeof folder - 1);
    char *slash = n > 0 ? strrchr(folder, '/') : NULL;
    if (slash) *slash = 0;
    for (size_t i = 0; slash && i < sizeof places / sizeof *places; i++) {
        snprintf(path, sizeof path, places[i], folder);
        if (access(path, R_OK) != 0) continue;
        // global: OpenMPI opens plugins of its own, which look for its symbols among the process's
        void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
        if (!library) snprintf(text, FM__TRANSPORT_TEXT, "%s", dlerror());
        return library;
    }
    void *library = dlopen(PLUGIN, RTLD_NOW | RTLD_GLOBAL);
    if (!library) snprintf(text, FM__TRANSPORT_TEXT, PLUGIN " is not beside the binary: built without MPI?");
    return library;
}

fm_status fm__comm_open(struct fm__comm **out, struct fm_error *err)
{
    char text[FM__TRANSPORT_TEXT] = "";
    const int size = number_of("OMPI_COMM_WORLD_SIZE"), pmi = number_of("PMI_SIZE"), want = size > pmi ? size : pmi;
    *out = NULL;
    if (want <= 1) return fm__comm_over(NULL, out, err);
    void *library = open_plugin(text);
    const struct fm__transport *transport = library ? dlsym(library, FM__TRANSPORT_SYMBOL) : NULL;
    if (library && !transport) snprintf(text, sizeof text, PLUGIN " is no plugin of Fathom");
    if (transport && transport->version != FM__TRANSPORT_VERSION)
        snprintf(text, sizeof text, PLUGIN ": version %d, want %d", transport->version, FM__TRANSPORT_VERSION);
    if (text[0]) return fm__fail(err, FM_E_UNSUPPORTED, "started as one of %d processes, but %s", want, text);
    FM_TRY(fm__comm_over(transport, out, err)); // the library stays: MPI cannot be opened twice
    const int found = fm__comm_size(*out);
    if (found == want) return FM_OK;
    fm__comm_close(*out);
    *out = NULL;
    return fm__fail(err, FM_E_UNSUPPORTED, "started as one of %d processes, but MPI sees %d: mpirun of another MPI?",
                    want, found);
}

// --- CPUs ---

struct cpus {
    cpu_set_t set;
    int threads; // that the set and the cgroup's quota are good for
};

// The n of `set` from the k-th on.
static cpu_set_t some_of(const cpu_set_t *set, int k, int n)
{
    cpu_set_t out;
    CPU_ZERO(&out);
    for (int cpu = 0, i = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, set)) {
            if (i >= k && i < k + n) CPU_SET(cpu, &out);
            i++;
        }
    return out;
}

int fm__comm_take_cpus(struct fm__comm *c)
{
    if (fm__comm_size(c) == 1) return 0;
    struct cpus mine = {.threads = 1}, *all = fm__calloc((size_t)c->size, sizeof *all);
    const bool told = getenv("OMPI_MCA_hwloc_base_binding_policy") || getenv("OMPI_MCA_rmaps_base_mapping_policy");
    // untold, mpirun binds each of two ranks to one core, and leaves the others idle; itself it is bound to nothing
    if (told || sched_getaffinity(getppid(), sizeof mine.set, &mine.set) != 0)
        sched_getaffinity(0, sizeof mine.set, &mine.set);
    else
        sched_setaffinity(0, sizeof mine.set, &mine.set);
    mine.threads = fm__pool_default_threads();
    if (!all || fm__comm_gather(c, &mine, sizeof mine, all, NULL) != FM_OK) {
        fm__free(all);
        return 1;
    }
    int place = 0, n = 0; // among those of this host that were given the same CPUs
    for (int r = 0; r < c->size; r++)
        if (same_host(&c->peers[r], &c->peers[c->rank]) && CPU_EQUAL(&all[r].set, &mine.set)) place += r < c->rank, n++;
    fm__free(all);
    const int cpus = CPU_COUNT(&mine.set), first = place * cpus / n, last = (place + 1) * cpus / n;
    if (last > first) {
        const cpu_set_t share = some_of(&mine.set, first, last - first);
        sched_setaffinity(0, sizeof share, &share); // a refusal only costs speed
    }
    const int threads = mine.threads / n + (place < mine.threads % n), room = last - first;
    return threads < 1 || room < 1 ? 1 : threads < room ? threads : room;
}
