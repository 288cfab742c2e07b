// SPDX-License-Identifier: MIT
// sim: a device with a memory of its own, on a thread of its own, running the reference kernels. It exists to prove the
// interface on machines without an accelerator:
//   - its memory is closed (PROT_NONE) to everybody but its thread while that works and the copies it is asked for;
//   - freed memory and new memory are poisoned; alignment is 256; there is a size limit;
//   - the steps of a stage run in an order drawn from the seed, with delays; so do not count on more than stages
//   promise;
//   - it can fail submission number n.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/alloc.h"
#include "base/error.h"
#include "device/calls.h"
#include "device/device.h"
#include "ops/op.h"
#include "tensor/buffer.h"

enum { ALIGNMENT = 256, POISON = 0xa5, PAGE = 4096 };

struct fm__program {
    struct fm__calls calls;
    void (**references)(const struct fm__call *call);
    int32_t *stages, *order;
};

struct sim {
    struct fm_device base;
    size_t memory, used;
    uint64_t random;
    int64_t n_submitted, fail_at;
    pthread_t thread;
    pthread_mutex_t mutex; // guards everything below and the counts above
    pthread_cond_t changed;
    struct fm__program *job; // being run, or NULL
    bool stop;
    struct sim_memory {
        struct sim_memory *next;
        char *p;
        size_t bytes;
    } * all;
};

static uint64_t next_random(struct sim *sim)
{
    sim->random ^= sim->random << 13; // xorshift64, Marsaglia 2003
    sim->random ^= sim->random >> 7;
    sim->random ^= sim->random << 17;
    return sim->random;
}

static void protect_all(struct sim *sim, int protection)
{
    for (struct sim_memory *m = sim->all; m; m = m->next) mprotect(m->p, m->bytes, protection);
}

static void shuffle_stages(struct sim *sim, struct fm__program *p)
{
    for (int i = 0; i < p->calls.n; i++) p->order[i] = i;
    for (int begin = 0, end; begin < p->calls.n; begin = end) {
        for (end = begin; end < p->calls.n && p->stages[end] == p->stages[begin];) end++;
        for (int i = end - 1; i > begin; i--) {
            int k = begin + (int)(next_random(sim) % (uint64_t)(i - begin + 1));
            int32_t swap = p->order[i];
            p->order[i] = p->order[k];
            p->order[k] = swap;
        }
    }
}

static void run_program(struct sim *sim, struct fm__program *p)
{
    shuffle_stages(sim, p);
    for (int i = 0; i < p->calls.n; i++) {
        p->references[p->order[i]](&p->calls.calls[p->order[i]]);
        if (next_random(sim) % 64 == 0) nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
}

static void *sim_main(void *argument)
{
    struct sim *sim = argument;
    pthread_mutex_lock(&sim->mutex);
    while (!sim->stop) {
        if (!sim->job) {
            pthread_cond_wait(&sim->changed, &sim->mutex);
            continue;
        }
        protect_all(sim, PROT_READ | PROT_WRITE);
        run_program(sim, sim->job);
        protect_all(sim, PROT_NONE);
        sim->job = NULL;
        pthread_cond_broadcast(&sim->changed);
    }
    pthread_mutex_unlock(&sim->mutex);
    return NULL;
}

static fm_status sim_open(const struct fm_device_opts *opts, struct fm_device **out, struct fm_error *err)
{
    struct sim *sim = fm__calloc(1, sizeof *sim);
    if (!sim) return fm__fail_nomem(err, "sim device", sizeof *sim);
    sim->base.v = &fm__device_sim;
    sim->memory = opts->memory ? opts->memory : (size_t)1 << 30;
    sim->random = opts->seed * 0x9e3779b97f4a7c15u + 1; // never 0 for seeds that people type
    sim->fail_at = opts->fail_at;
    pthread_mutex_init(&sim->mutex, NULL);
    pthread_cond_init(&sim->changed, NULL);
    if (pthread_create(&sim->thread, NULL, sim_main, sim)) {
        fm__free(sim);
        return fm__fail(err, FM_E_NOMEM, "sim device: cannot start its thread");
    }
    *out = &sim->base;
    return FM_OK;
}

static void sim_close(struct fm_device *device)
{
    struct sim *sim = (struct sim *)device;
    pthread_mutex_lock(&sim->mutex);
    sim->stop = true;
    pthread_cond_broadcast(&sim->changed);
    pthread_mutex_unlock(&sim->mutex);
    pthread_join(sim->thread, NULL);
    pthread_mutex_destroy(&sim->mutex);
    pthread_cond_destroy(&sim->changed);
    fm__free(sim);
}

static void sim_props(const struct fm_device *device, struct fm_device_props *props)
{
    (void)device;
    *props = (struct fm_device_props){.name = "sim", .level = "", .threads = 1, .alignment = ALIGNMENT};
}

static void sim_release_memory(struct fm_buffer *buffer)
{
    struct sim *sim = buffer->owner;
    pthread_mutex_lock(&sim->mutex);
    struct sim_memory **at = &sim->all;
    while ((*at)->p != buffer->device) at = &(*at)->next;
    struct sim_memory *m = *at;
    *at = m->next;
    sim->used -= m->bytes;
    munmap(m->p, m->bytes);
    fm__free(m);
    pthread_mutex_unlock(&sim->mutex);
}

static fm_status sim_alloc(struct fm_device *device, size_t bytes, struct fm_buffer **out, struct fm_error *err)
{
    struct sim *sim = (struct sim *)device;
    *out = NULL;
    size_t rounded = fm__align_up(bytes ? bytes : 1, PAGE);
    if (rounded < bytes || rounded > sim->memory - sim->used)
        return fm__fail(err, FM_E_NOMEM, "sim device: %zu bytes wanted, %zu of %zu are free", bytes,
                        sim->memory - sim->used, sim->memory);
    struct sim_memory *m = fm__calloc(1, sizeof *m);
    struct fm_buffer *buffer = m ? fm__buffer_wrap(NULL, bytes, sim_release_memory, sim) : NULL;
    void *p = buffer ? mmap(NULL, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : MAP_FAILED;
    if (p == MAP_FAILED) {
        fm__free(buffer), fm__free(m);
        return fm__fail_nomem(err, "sim device", bytes);
    }
    memset(p, POISON, rounded);
    pthread_mutex_lock(&sim->mutex);
    *m = (struct sim_memory){.next = sim->all, .p = p, .bytes = rounded};
    sim->all = m;
    sim->used += rounded;
    mprotect(p, rounded, PROT_NONE);
    pthread_mutex_unlock(&sim->mutex);
    buffer->device = p;
    *out = buffer;
    return FM_OK;
}

// A copy waits for the running job: the device has one queue.
static fm_status copy(struct sim *sim, char *device, char *host, size_t n, bool in)
{
    pthread_mutex_lock(&sim->mutex);
    while (sim->job) pthread_cond_wait(&sim->changed, &sim->mutex);
    protect_all(sim, PROT_READ | PROT_WRITE);
    memcpy(in ? device : host, in ? host : device, n);
    protect_all(sim, PROT_NONE);
    pthread_mutex_unlock(&sim->mutex);
    return FM_OK;
}

static fm_status sim_copy_in(struct fm_device *d, struct fm_buffer *to, size_t at, const void *from, size_t n,
                             struct fm_error *err)
{
    (void)err;
    return copy((struct sim *)d, (char *)to->device + at, (char *)(uintptr_t)from, n, true);
}

static fm_status sim_copy_out(struct fm_device *d, const struct fm_buffer *from, size_t at, void *to, size_t n,
                              struct fm_error *err)
{
    (void)err;
    return copy((struct sim *)d, (char *)from->device + at, to, n, false);
}

static size_t sim_workspace(struct fm_device *device, const struct fm__node *node, const struct fm__call *largest)
{
    (void)device;
    const struct fm__op *op = fm__op(node->op);
    return op->workspace ? op->workspace(largest) : 0;
}

static const char *sim_kernel_name(struct fm_device *d, const struct fm__node *node, const struct fm__call *largest)
{
    (void)d, (void)node, (void)largest;
    return "ref";
}

static void sim_release(struct fm_device *device, struct fm__program *program)
{
    (void)device;
    fm__calls_deinit(&program->calls);
    fm__free(program->references);
    fm__free(program->stages);
    fm__free(program->order);
    fm__free(program);
}

static fm_status sim_prepare(struct fm_device *device, struct fm__plan *plan, struct fm__program **out,
                             struct fm_error *err)
{
    size_t n = (size_t)plan->n_steps;
    struct fm__program *p = fm__calloc(1, sizeof *p);
    if (!p) return fm__fail_nomem(err, "sim program", sizeof *p);
    p->references = fm__calloc(n, sizeof *p->references);
    p->stages = fm__calloc(n, sizeof *p->stages);
    p->order = fm__calloc(n, sizeof *p->order);
    fm_status status = p->references && p->stages && p->order ? fm__calls_init(&p->calls, plan, err)
                                                              : fm__fail_nomem(err, "sim program", n);
    for (size_t i = 0; status == FM_OK && i < n; i++) {
        const struct fm__call *call = &p->calls.calls[i];
        for (int k = 0; k < call->n_in; k++)
            if (call->in[k].data && call->in[k].offset % ALIGNMENT)
                status = fm__fail(err, FM_E_DEVICE, "sim device: step %zu, input %d lies at %zu, want a multiple of %d",
                                  i, k, call->in[k].offset, ALIGNMENT);
        p->references[i] = fm__op(fm__plan_node(plan, (int)i)->op)->reference;
        p->stages[i] = plan->steps[i].stage;
    }
    if (status != FM_OK) {
        sim_release(device, p);
        return status;
    }
    *out = p;
    return FM_OK;
}

static fm_status sim_submit(struct fm_device *device, struct fm__program *program, const struct fm__run *run,
                            struct fm_error *err)
{
    struct sim *sim = (struct sim *)device;
    struct fm__run closed = {.rows = run->rows}; // inputs were copied
    pthread_mutex_lock(&sim->mutex);
    while (sim->job) pthread_cond_wait(&sim->changed, &sim->mutex);
    bool fails = ++sim->n_submitted == sim->fail_at;
    if (!fails) {
        fm__calls_set(&program->calls, &closed);
        sim->job = program;
        pthread_cond_broadcast(&sim->changed);
    }
    pthread_mutex_unlock(&sim->mutex);
    if (fails)
        return fm__fail(err, FM_E_DEVICE, "sim device: submission %lld failed as asked", (long long)sim->fail_at);
    return FM_OK;
}

static fm_status sim_wait(struct fm_device *device, struct fm__program *program, struct fm_error *err)
{
    struct sim *sim = (struct sim *)device;
    (void)err;
    pthread_mutex_lock(&sim->mutex);
    while (sim->job == program) pthread_cond_wait(&sim->changed, &sim->mutex);
    pthread_mutex_unlock(&sim->mutex);
    return FM_OK;
}

const struct fm__device_vtable fm__device_sim = {
    .name = "sim",
    .open = sim_open,
    .close = sim_close,
    .props = sim_props,
    .alloc = sim_alloc,
    .copy_in = sim_copy_in,
    .copy_out = sim_copy_out,
    .workspace = sim_workspace,
    .kernel_name = sim_kernel_name,
    .prepare = sim_prepare,
    .release = sim_release,
    .submit = sim_submit,
    .wait = sim_wait,
};
