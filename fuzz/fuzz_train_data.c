// SPDX-License-Identifier: MIT
// Training data from anyone. The first byte chooses the kind, the second options, the rest is the file (IDX: images, or
// with an odd second byte their labels; 'P': a PNG or JPEG). Whatever is taken is walked for an epoch: every sample
// must come once, within the bounds of the micro-batch.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../tests/support/byte_tokenizer.h"
#include "train/data.h"
#include "vision/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROWS = 128, FEATURES = 64 };
static char folder[64];
static struct fm_tokenizer *tok;

static void clean_up(void)
{
    static const char *const names[] = {"x.txt", "x.jsonl", "x.csv", "x.tsv", "images-idx3-ubyte", "labels-idx1-ubyte"};
    char path[128];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
    fm_tokenizer_free(tok);
}

static void set_up(void)
{
    struct fm_error err;
    snprintf(folder, sizeof folder, "/tmp/fuzz-train-data-XXXXXX");
    if (!mkdtemp(folder) || byte_tokenizer_new(&tok, &err) != FM_OK) abort();
    atexit(clean_up);
}

static void write_file(const char *name, const void *bytes, size_t n, char path[128])
{
    snprintf(path, 128, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f)) abort();
}

static void walk(const struct fm__dataset *data, struct fm__loader *loader)
{
    static int32_t tokens[ROWS], targets[ROWS], rows[4 * ROWS], ends[ROWS];
    static float values[ROWS], weights[ROWS], features[ROWS * FEATURES];
    static int64_t samples[ROWS];
    struct fm__microbatch mb = {.cap = ROWS,
                                .tokens = tokens,
                                .targets = targets,
                                .values = values,
                                .weights = weights,
                                .rows = rows,
                                .samples = samples,
                                .ends = ends};
    if (fm__dataset_n_features(data) <= FEATURES) mb.features = features;
    int64_t n = 0;
    struct fm_error err;
    do {
        if (fm__loader_next(loader, &mb, &err) != FM_OK || mb.n_rows > ROWS || mb.n_rows < mb.n_documents) abort();
        for (int64_t r = 0; r < mb.n_rows; r++)
            if (tokens[r] < 0 || tokens[r] >= TEST_N_VOCAB || targets[r] >= TEST_N_VOCAB) abort();
        n += mb.n_samples;
    } while (!mb.ends_epoch);
    if (n != fm__dataset_n_samples(data, FM__DATA_ALL)) abort();
}

static void decode(const uint8_t *bytes, size_t n, uint8_t options)
{
    struct fm__image image;
    struct fm_error err;
    if (fm__image_decode(bytes, n, options % 2 ? 1 : 0, &image, &err) != FM_OK) return;
    if (image.width < 512 && image.height < 512 && fm__image_resize(&image, 7, 5, &err) != FM_OK) abort();
    fm__image_free(&image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char template[] = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n"
                                   "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    static const char *const names[] = {"x.txt", "x.jsonl", "x.csv", "x.tsv"};
    static const uint8_t images[] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 9, 8, 7, 6};
    static const uint8_t labels[] = {0, 0, 8, 1, 0, 0, 0, 2, 3, 4};
    if (size < 2 || size > 1 << 16) return 0;
    if (!tok) set_up();
    if (data[0] == 'P') {
        decode(data + 2, size - 2, data[1]);
        return 0;
    }
    struct fm__data_opts opts = {.kind = data[0] % FM__DATA_KIND_COUNT,
                                 .n_paths = 1,
                                 .tok = tok,
                                 .skip_bad = -1,
                                 .chat_template = template,
                                 .n_chat_template = sizeof template - 1,
                                 .length = 1 + data[1] % 60,
                                 .refuse_long = data[1] & 1,
                                 .whole = data[1] & 2,
                                 .one_slot = data[1] & 4,
                                 .unit = data[1] % 3,
                                 .end = data[1] >> 3 & 1,
                                 .columns = {.header = data[1] % 3}};
    char path[128], other[128];
    if (opts.kind == FM__DATA_IMAGES) {
        bool odd = data[1] & 1;
        write_file("images-idx3-ubyte", odd ? images : data + 2, odd ? sizeof images : size - 2, path);
        write_file("labels-idx1-ubyte", odd ? data + 2 : labels, odd ? size - 2 : sizeof labels, other);
    } else {
        write_file(names[data[1] >> 4 & 3], data + 2, size - 2, path);
    }
    const char *paths[] = {path};
    struct fm__dataset *dataset;
    struct fm__loader *loader;
    struct fm_error err;
    opts.paths = paths;
    if (fm__dataset_open(&opts, &dataset, &err) != FM_OK) return 0;
    struct fm__loader_opts walk_opts = {.rows = ROWS, .batch = 5, .order = (enum fm__data_order)(data[1] % 3)};
    if (fm__loader_new(dataset, &walk_opts, &loader, &err) == FM_OK) {
        walk(dataset, loader);
        fm__loader_free(loader);
    }
    fm__dataset_close(dataset);
    return 0;
}
