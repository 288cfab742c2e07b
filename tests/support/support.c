// SPDX-License-Identifier: MIT
#include "support/support.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *source_dir(void)
{
    const char *dir = getenv("FATHOM_SOURCE_DIR");
    return dir ? dir : ".";
}

const char *test_data(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/tests/data/%s", source_dir(), name);
    return path;
}

const char *test_shared(const char *name)
{
    static char path[4096];
    struct stat st;
    snprintf(path, sizeof path, "%s/../shared/%s", source_dir(), name);
    if (!stat(path, &st)) return path;
    printf("skipped: %s is not here (needs ../shared)\n", name);
    return NULL;
}

// The catalogue's files, spelt again on purpose: a test must notice when catalog.def changes one.
static const char *model_file(const char *name)
{
    if (strcmp(name, "smollm2") == 0) return "SmolLM2-135M-Instruct.Q4_1.gguf";
    if (strcmp(name, "gemma3") == 0) return "gemma-3-270m-Q4_K_M.gguf";
    fail_msg("test_model: no model \"%s\"", name);
    return "";
}

const char *test_model(const char *name)
{
    static char path[4096];
    const char *models = getenv("FATHOM_MODELS"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    const char *file = model_file(name);
    if (models) {
        snprintf(path, sizeof path, "%s/%s", models, file);
    } else if (cache && cache[0]) {
        snprintf(path, sizeof path, "%s/fathom/models/%s", cache, file);
    } else {
        snprintf(path, sizeof path, "%s/.cache/fathom/models/%s", home ? home : "", file);
    }
    if (access(path, R_OK) == 0) return path;
    printf("skipped: the model %s is not here (fathom pull %s)\n", name, name);
    return NULL;
}

static char tmpdir[256];

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st, (void)kind, (void)walk;
    return remove(path);
}

static void remove_tmpdir(void)
{
    nftw(tmpdir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *test_tmpdir(void)
{
    if (tmpdir[0]) return tmpdir;
    const char *base = getenv("TMPDIR");
    snprintf(tmpdir, sizeof tmpdir, "%s/fathom-test-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(tmpdir)) fail_msg("cannot make a temporary folder");
    atexit(remove_tmpdir);
    return tmpdir;
}

uint8_t *test_read_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s: cannot open", path);
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    uint8_t *bytes = malloc((size_t)n + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, (size_t)n, f), n);
    fclose(f);
    bytes[n] = 0;
    if (size) *size = (size_t)n;
    return bytes;
}
