// SPDX-License-Identifier: MIT
// A folder of checkpoints. Files appear by rename and are removed only after a later one is on disk.
#include "train/checkpoints.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"

#define BEST "best.safetensors"

static fm_status join(char path[FM__CHECKPOINT_PATH], const char *folder, const char *name, struct fm_error *err)
{
    const int n = snprintf(path, FM__CHECKPOINT_PATH, "%s/%s", folder, name);
    if (n > 0 && n < FM__CHECKPOINT_PATH) return FM_OK;
    return fm__fail(err, FM_E_LIMIT, "%.60s…: a path of more than %d bytes", folder, FM__CHECKPOINT_PATH - 1);
}

// The step of a checkpoint's name; false for any other name.
static bool step_of(const char *name, uint64_t *step)
{
    int end = 0;
    return sscanf(name, "step-%8" SCNu64 ".safetensors%n", step, &end) == 1 && end > 0 && !name[end];
}

// A name that was being written: "best.safetensors.0123….tmp".
static bool is_half_written(const char *name)
{
    const size_t n = strlen(name);
    return n > 4 && !strcmp(name + n - 4, ".tmp") && (!strncmp(name, "step-", 5) || !strncmp(name, BEST, strlen(BEST)));
}

typedef fm_status visit_fn(void *context, const char *name, struct fm_error *err);

static fm_status each_file(const char *folder, visit_fn *visit, void *context, struct fm_error *err)
{
    DIR *dir = opendir(folder);
    if (!dir) return fm__fail(err, FM_E_IO, "%s: cannot list it: %s", folder, strerror(errno));
    fm_status status = FM_OK;
    for (const struct dirent *entry; status == FM_OK && (entry = readdir(dir));)
        status = visit(context, entry->d_name, err);
    closedir(dir);
    return status;
}

static fm_status remove_half_written(void *folder, const char *name, struct fm_error *err)
{
    char path[FM__CHECKPOINT_PATH];
    if (!is_half_written(name)) return FM_OK;
    FM_TRY(join(path, folder, name, err));
    unlink(path);
    return FM_OK;
}

fm_status fm__checkpoints_begin(const struct fm__checkpoints *all, struct fm_error *err)
{
    const char *folder = all->folder;
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return fm__fail(err, FM_E_IO, "%s: cannot make it: %s", folder, strerror(errno));
    return each_file(folder, remove_half_written, (void *)(uintptr_t)folder, err);
}

// The largest step below a bound.
struct search {
    uint64_t below, found;
    int n_found; // below the bound
};

static fm_status look(void *context, const char *name, struct fm_error *err)
{
    (void)err;
    struct search *s = context;
    uint64_t step;
    if (!step_of(name, &step) || step >= s->below) return FM_OK;
    if (s->n_found++ == 0 || step > s->found) s->found = step;
    return FM_OK;
}

static fm_status path_of_step(char path[FM__CHECKPOINT_PATH], const char *folder, uint64_t step, struct fm_error *err)
{
    char name[64];
    snprintf(name, sizeof name, "step-%08" PRIu64 ".safetensors", step);
    return join(path, folder, name, err);
}

static fm_status keep_last(const char *folder, int keep, struct fm_error *err)
{
    char path[FM__CHECKPOINT_PATH];
    struct search s = {.below = UINT64_MAX};
    for (int i = 0;; i++) {
        s.n_found = 0;
        FM_TRY(each_file(folder, look, &s, err));
        if (s.n_found == 0) return FM_OK;
        s.below = s.found;
        if (i < keep) continue;
        FM_TRY(path_of_step(path, folder, s.found, err));
        unlink(path);
    }
}

// The same bytes under the name of the best one: a second name where the file system has links, else a second file.
static fm_status name_best(const char *folder, const char *path, const struct fm__states *states,
                           const struct fm__checkpoint *c, struct fm_error *err)
{
    char best[FM__CHECKPOINT_PATH], link_name[FM__CHECKPOINT_PATH], linked = 0;
    FM_TRY(join(best, folder, BEST, err));
    FM_TRY(join(link_name, folder, BEST ".link.tmp", err));
    if (fm__comm_rank(states->comm) == 0) {
        unlink(link_name);
        linked = link(path, link_name) == 0 && rename(link_name, best) == 0;
        if (!linked) unlink(link_name);
    }
    FM_TRY(fm__comm_broadcast(states->comm, &linked, sizeof linked, 0, err)); // writing is a matter of all
    if (linked) return FM_OK;
    return fm__checkpoint_save(best, states, c, err);
}

fm_status fm__checkpoints_save(struct fm__checkpoints *all, const struct fm__states *states,
                               const struct fm__checkpoint *c, bool best, struct fm_error *err)
{
    FM_TRY(path_of_step(all->path, all->folder, c->steps, err));
    FM_TRY(fm__checkpoint_save(all->path, states, c, err));
    if (best) FM_TRY(name_best(all->folder, all->path, states, c, err));
    if (fm__comm_rank(states->comm) != 0) return FM_OK;
    return keep_last(all->folder, all->keep < 1 ? 1 : all->keep, err);
}

fm_status fm__checkpoints_resume(const char *folder, const struct fm__states *states, const struct fm__checkpoint *want,
                                 struct fm__checkpoint *out, char note[FM__CHECKPOINT_PATH], struct fm_error *err)
{
    char path[FM__CHECKPOINT_PATH];
    struct search s = {.below = UINT64_MAX};
    note[0] = 0;
    for (;;) {
        s.n_found = 0;
        FM_TRY(each_file(folder, look, &s, err));
        if (s.n_found == 0) return fm__fail(err, FM_E_NOT_FOUND, "%s: no checkpoint to go on from", folder);
        FM_TRY(path_of_step(path, folder, s.found, err));
        const fm_status status = fm__checkpoint_load(path, states, want, out, err);
        if (status != FM_E_VERIFY && status != FM_E_FORMAT) return status;
        snprintf(note, FM__CHECKPOINT_PATH, "%s; taking the one before", err->text);
        s.below = s.found;
    }
}

fm_status fm__checkpoints_best(const char *folder, const struct fm__states *states, const struct fm__checkpoint *want,
                               struct fm__checkpoint *out, struct fm_error *err)
{
    char path[FM__CHECKPOINT_PATH];
    FM_TRY(join(path, folder, BEST, err));
    return fm__checkpoint_load(path, states, want, out, err);
}
