// SPDX-License-Identifier: MIT
// The CPU device: host memory, packed weights, and the executor: all workers walk the steps of a program together and
// meet where a stage ends.
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/pool.h"
#include "device/calls.h"
#include "device/cpu/kernels.h"
#include "device/cpu/layouts.h"
#include "device/device.h"
#include "ops/op.h"
#include "tensor/buffer.h"

struct cpu {
    struct fm_device base;
    struct fm__pool *pool;
    int level;
    unsigned char *scratch; // FM__WORKER_SCRATCH a worker
};

struct fm__program {
    struct cpu *cpu;
    struct fm__calls calls;
    struct fm__kernel *kernels;
    void (**references)(const struct fm__call *call);
    int32_t *stages;
    const struct fm__run *run; // the one in progress
    double *seconds;           // per step, while profiling
    int profiling;
};

static struct cpu *as_cpu(struct fm_device *device)
{
    return (struct cpu *)device;
}

void fm__worker_barrier(struct fm__worker *worker)
{
    fm__pool_barrier(worker->pool);
}

static void cpu_close(struct fm_device *device)
{
    struct cpu *cpu = as_cpu(device);
    fm__pool_free(cpu->pool);
    fm__free(cpu->scratch);
    fm__free(cpu);
}

static fm_status cpu_open(const struct fm_device_opts *opts, struct fm_device **out, struct fm_error *err)
{
    struct cpu *cpu = fm__calloc(1, sizeof *cpu);
    if (!cpu) return fm__fail_nomem(err, "cpu device", sizeof *cpu);
    cpu->base.v = &fm__device_cpu;
    fm_status status = opts->level ? fm__cpu_choose(opts->level, &cpu->level, err) : fm__cpu_detect(&cpu->level, err);
    if (status == FM_OK) status = fm__pool_new(opts->threads, &cpu->pool, err);
    if (status == FM_OK) {
        size_t bytes = (size_t)fm__pool_size(cpu->pool) * FM__WORKER_SCRATCH;
        cpu->scratch = fm__aligned(64, bytes);
        if (!cpu->scratch) status = fm__fail_nomem(err, "cpu scratch", bytes);
    }
    if (status != FM_OK) {
        cpu_close(&cpu->base);
        return status;
    }
    *out = &cpu->base;
    return FM_OK;
}

static void cpu_props(const struct fm_device *device, struct fm_device_props *props)
{
    const struct cpu *cpu = (const struct cpu *)device;
    *props = (struct fm_device_props){.name = "cpu",
                                      .level = fm__cpu_level_name(cpu->level),
                                      .threads = fm__pool_size(cpu->pool),
                                      .host_visible = 1,
                                      .alignment = 64};
}

static fm_status cpu_alloc(struct fm_device *device, size_t bytes, struct fm_buffer **out, struct fm_error *err)
{
    (void)device;
    return fm__buffer_pages(bytes, out, err);
}

static int cpu_weight_layout(struct fm_device *device, const struct fm_tensor *w)
{
    return fm__cpu_layout(w, as_cpu(device)->level);
}

static size_t cpu_weight_bytes(struct fm_device *device, const struct fm_tensor *w)
{
    (void)device;
    return fm__cpu_packed_bytes(w);
}

static fm_status cpu_weight_write(struct fm_device *device, const struct fm_tensor *w, int64_t row0, int64_t n,
                                  const void *file_rows, struct fm_error *err)
{
    (void)device, (void)err;
    fm__cpu_pack(w, row0, n, file_rows);
    return FM_OK;
}

static fm_status cpu_weight_read(struct fm_device *device, const struct fm_tensor *w, int64_t row0, int64_t n,
                                 void *file_rows, struct fm_error *err)
{
    (void)device, (void)err;
    fm__cpu_unpack(w, row0, n, file_rows);
    return FM_OK;
}

static fm_dtype cpu_activation(struct fm_device *device, const struct fm_tensor *w)
{
    return fm__cpu_activation(w, as_cpu(device)->level);
}

static size_t cpu_workspace(struct fm_device *device, const struct fm__node *node, const struct fm__call *largest)
{
    struct cpu *cpu = as_cpu(device);
    struct fm__kernel kernel = fm__kernel_select(node->op, largest, cpu->level);
    if (kernel.run) return kernel.workspace ? kernel.workspace(largest, fm__pool_size(cpu->pool)) : 0;
    const struct fm__op *op = fm__op(node->op);
    return op->workspace ? op->workspace(largest) : 0;
}

static const char *cpu_kernel_name(struct fm_device *device, const struct fm__node *node,
                                   const struct fm__call *largest)
{
    struct fm__kernel kernel = fm__kernel_select(node->op, largest, as_cpu(device)->level);
    return kernel.run ? kernel.name : "ref";
}

static void cpu_release(struct fm_device *device, struct fm__program *program)
{
    (void)device;
    fm__calls_deinit(&program->calls);
    fm__free(program->kernels);
    fm__free(program->references);
    fm__free(program->stages);
    fm__free(program->seconds);
    fm__free(program);
}

// References read weights in the file's order; a packed one would give wrong numbers in silence.
static fm_status check_reference(const char *op, const struct fm__call *call, struct fm_error *err)
{
    for (int k = 0; k < call->n_in; k++)
        if (call->in[k].dtype != FM_DTYPE_COUNT && call->in[k].layout != FM_LAYOUT_ROWS)
            return fm__fail(err, FM_E_UNSUPPORTED, "%s: no kernel for input %d, %s in a packed layout, at this level",
                            op, k, fm_dtype_info(call->in[k].dtype)->name);
    return FM_OK;
}

static fm_status cpu_prepare(struct fm_device *device, struct fm__plan *plan, struct fm__program **out,
                             struct fm_error *err)
{
    struct fm__program *p = fm__calloc(1, sizeof *p);
    if (!p) return fm__fail_nomem(err, "cpu program", sizeof *p);
    size_t n = (size_t)plan->n_steps;
    p->cpu = as_cpu(device);
    p->kernels = fm__calloc(n, sizeof *p->kernels);
    p->references = fm__calloc(n, sizeof *p->references);
    p->stages = fm__calloc(n + 1, sizeof *p->stages);
    p->seconds = fm__calloc(n, sizeof *p->seconds);
    fm_status status = p->kernels && p->references && p->stages && p->seconds
                           ? fm__calls_init(&p->calls, plan, err)
                           : fm__fail_nomem(err, "cpu program", n * sizeof *p->kernels);
    if (status != FM_OK) {
        cpu_release(device, p);
        return status;
    }
    for (int i = 0; i < plan->n_steps && status == FM_OK; i++) {
        const struct fm__node *node = fm__plan_node(plan, i);
        p->kernels[i] = fm__kernel_select(node->op, &p->calls.calls[i], p->cpu->level);
        p->references[i] = fm__op(node->op)->reference;
        p->stages[i] = plan->steps[i].stage;
        if (!p->kernels[i].run) status = check_reference(fm__op(node->op)->name, &p->calls.calls[i], err);
    }
    if (status != FM_OK) {
        cpu_release(device, p);
        return status;
    }
    p->stages[plan->n_steps] = plan->n_stages;
    *out = p;
    return FM_OK;
}

static void run_steps(void *context, int index, int count)
{
    struct fm__program *p = context;
    struct fm__worker worker = {.index = index,
                                .count = count,
                                .pool = p->cpu->pool,
                                .scratch = p->cpu->scratch + (size_t)index * FM__WORKER_SCRATCH};
    double before = p->profiling ? fm__seconds() : 0;
    for (int i = 0; i < p->calls.n; i++) {
        const struct fm__call *call = &p->calls.calls[i];
        if (p->kernels[i].run)
            p->kernels[i].run(call, &worker);
        else if (index == 0)
            p->references[i](call);
        // the pool itself waits for everybody after the last step; profiling wants the end of each
        if (i + 1 < p->calls.n && (p->stages[i + 1] != p->stages[i] || p->profiling)) fm__pool_barrier(p->cpu->pool);
        if (p->run->after && index == 0 && i + 1 < p->calls.n && p->stages[i + 1] != p->stages[i])
            p->run->after(p->run->after_context, p->stages[i]);
        if (p->profiling && index == 0) {
            double now = fm__seconds();
            p->seconds[i] += now - before;
            before = now;
        }
    }
}

static fm_status cpu_submit(struct fm_device *device, struct fm__program *program, const struct fm__run *run,
                            struct fm_error *err)
{
    (void)err;
    fm__calls_set(&program->calls, run);
    program->run = run;
    fm__pool_run(as_cpu(device)->pool, run_steps, program);
    return FM_OK;
}

static fm_status cpu_wait(struct fm_device *device, struct fm__program *program, struct fm_error *err)
{
    (void)device, (void)program, (void)err; // submit is synchronous: the caller's thread is worker 0
    return FM_OK;
}

static void cpu_profile(struct fm_device *device, struct fm__program *program, int on, double *seconds)
{
    (void)device;
    program->profiling = on;
    if (seconds) memcpy(seconds, program->seconds, (size_t)program->calls.n * sizeof *seconds);
    memset(program->seconds, 0, (size_t)program->calls.n * sizeof *program->seconds);
}

static struct fm__pool *cpu_pool(struct fm_device *device)
{
    return as_cpu(device)->pool;
}

const struct fm__device_vtable fm__device_cpu = {
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .props = cpu_props,
    .alloc = cpu_alloc,
    .weight_layout = cpu_weight_layout,
    .weight_bytes = cpu_weight_bytes,
    .weight_write = cpu_weight_write,
    .weight_read = cpu_weight_read,
    .activation = cpu_activation,
    .workspace = cpu_workspace,
    .kernel_name = cpu_kernel_name,
    .prepare = cpu_prepare,
    .release = cpu_release,
    .submit = cpu_submit,
    .wait = cpu_wait,
    .profile = cpu_profile,
    .pool = cpu_pool,
};
