// SPDX-License-Identifier: MIT
// Children of bench --start: `fathom generate` with the model and threads asked for, its output read through a pipe.
#include "bench_start.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cpuinfo.h"
#include "base/error.h"
#include "base/pool.h"
#include "catalog.h"

enum { MAX_WORDS = 32, MAX_OUTPUT = 1 << 16, PROMPT_WORDS = 512 };

struct child {
    double first_byte; // seconds from its start
    double peak_bytes; // the most that was resident
    char output[MAX_OUTPUT];
    size_t n_output;
};

struct words {
    const char *list[MAX_WORDS + 1];
    int n;
    char threads[16];
};

static void add(struct words *w, const char *word)
{
    if (w->n < MAX_WORDS) w->list[w->n++] = word;
    w->list[w->n] = NULL;
}

static void command_line(struct words *w, const struct fm_cli_engine_args *args, const char *model)
{
    *w = (struct words){0};
    add(w, "fathom");
    add(w, "generate");
    add(w, "-m");
    add(w, model);
    add(w, "--ignore-eos");
    add(w, "--device");
    add(w, args->device);
    if (args->threads) {
        snprintf(w->threads, sizeof w->threads, "%d", args->threads);
        add(w, "-t");
        add(w, w->threads);
    }
    if (fm__cli_kv_name(args)) {
        add(w, "--kv");
        add(w, fm__cli_kv_name(args));
    }
}

// Reads to the end; more than fits is dropped.
static void drain(int from, double begun, struct child *c)
{
    char rest[4096] = "";
    for (;;) {
        bool full = c->n_output == sizeof c->output - 1;
        ssize_t n =
            read(from, full ? rest : c->output + c->n_output, full ? sizeof rest : sizeof c->output - 1 - c->n_output);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        if (c->n_output == 0) c->first_byte = fm__seconds() - begun;
        if (!full) c->n_output += (size_t)n;
    }
    c->output[c->n_output] = 0;
}

static fm_status run_child(const struct words *w, struct child *c, struct fm_error *err)
{
    int ends[2], code;
    pid_t pid;
    struct rusage usage;
    extern char **environ;
    posix_spawn_file_actions_t actions;
    c->n_output = 0;
    c->first_byte = 0;
    if (pipe2(ends, O_CLOEXEC) != 0) return fm__fail(err, FM_E_IO, "bench: no pipe: %s", strerror(errno));
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    double begun = fm__seconds();
    int failed = posix_spawn(&pid, "/proc/self/exe", &actions, NULL, (char *const *)(uintptr_t)w->list, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (failed == 0) drain(ends[0], begun, c);
    close(ends[0]);
    if (failed) return fm__fail(err, FM_E_IO, "bench: cannot start a process: %s", strerror(failed));
    while (wait4(pid, &code, 0, &usage) < 0)
        if (errno != EINTR) return fm__fail(err, FM_E_IO, "bench: the process is lost: %s", strerror(errno));
    c->peak_bytes = (double)usage.ru_maxrss * 1024;
    if (!WIFEXITED(code) || WEXITSTATUS(code) != 0)
        return fm__fail(err, FM_E_IO, "bench: fathom generate ended with %s %d", WIFEXITED(code) ? "code" : "signal",
                        WIFEXITED(code) ? WEXITSTATUS(code) : WTERMSIG(code));
    return FM_OK;
}

static fm_status start_line(struct fm_bench_out *out, const struct words *common, int reps, struct child *child,
                            struct fm_error *err)
{
    struct words w = *common;
    struct fm__speed_result result = {.n_reps = reps};
    struct fm_bench_line line = {.unit = "s", .name = "start to first token", .result = &result};
    add(&w, "-p");
    add(&w, "Once upon a time");
    add(&w, "-n");
    add(&w, "1");
    for (int i = -1; i < reps; i++) { // the first reads the file from the disk
        FM_TRY(run_child(&w, child, err));
        if (child->n_output == 0) return fm__fail(err, FM_E_IO, "bench: fathom generate wrote nothing");
        if (i >= 0) result.samples[i] = child->first_byte;
    }
    fm__speed_summarise(&result);
    line.value = result.value;
    line.spread = result.spread;
    fm__bench_line(out, &line);
    return FM_OK;
}

// What is allowed: 1.15 of the file, the cache, and 64 MB.
static fm_status memory_line(struct fm_bench_out *out, const struct words *common, double file_bytes,
                             struct child *child, struct fm_error *err)
{
    static const char word[] = " once";
    struct words w = *common;
    char prompt[PROMPT_WORDS * (sizeof word - 1) + 1] = {0};
    for (int i = 0; i < PROMPT_WORDS; i++) memcpy(prompt + (size_t)i * (sizeof word - 1), word, sizeof word);
    const char *more[] = {"-p", prompt, "-n", "64", "-c", "4096", "--json", "--stats"};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) add(&w, more[i]);
    FM_TRY(run_child(&w, child, err));
    json_t *got = json_loads(child->output, 0, NULL);
    json_t *kv = json_object_get(json_object_get(got, "stats"), "kv_used_bytes");
    const char *settings = json_string_value(json_object_get(got, "settings"));
    struct fm_bench_line line = {.unit = "MB", .name = "peak memory", .value = child->peak_bytes * 1e-6, .limit = true};
    line.bound = (1.15 * file_bytes + json_number_value(kv)) * 1e-6 + 64;
    line.bound_of = "1.15 file + cache + 64 MB";
    line.share = line.value / line.bound;
    out->settings = settings;
    fm_status status = kv ? FM_OK : fm__fail(err, FM_E_FORMAT, "bench: no statistics from fathom generate");
    if (status == FM_OK) fm__bench_line(out, &line);
    out->settings = NULL;
    json_decref(got);
    return status;
}

fm_status fm__bench_start(struct fm_bench_out *out, const struct fm_cli_engine_args *args, int reps,
                          struct fm_error *err)
{
    struct words common;
    struct stat file;
    char *path;
    int level;
    FM_TRY(fm__cpu_detect(&level, err));
    FM_TRY(fm__catalog_resolve(args->model, &path, err));
    struct child *child = calloc(1, sizeof *child);
    command_line(&common, args, path);
    out->model = path;
    out->level = fm__cpu_level_name(level);
    out->threads = args->threads ? args->threads : fm__pool_default_threads();
    fm_status status = child ? FM_OK : fm__fail_nomem(err, "output of a process", sizeof *child);
    if (status == FM_OK && stat(path, &file) != 0) status = fm__fail(err, FM_E_IO, "%s: %s", path, strerror(errno));
    if (status == FM_OK) status = start_line(out, &common, reps, child, err);
    if (status == FM_OK) status = memory_line(out, &common, (double)file.st_size, child, err);
    out->model = NULL;
    free(child);
    free(path);
    return status;
}
