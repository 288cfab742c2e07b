// SPDX-License-Identifier: MIT
// Any bytes as a GGUF file: opened from memory and from a file (which reads through a window) with the same outcome;
// what opens is looked up and read completely.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fathom/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use_metadata(struct fm_gguf *g)
{
    for (uint64_t i = 0; i < fm_gguf_n_kv(g); i++) {
        const struct fm_gguf_kv *kv = fm_gguf_kv_at(g, i);
        if (fm_gguf_find(g, kv->key.p) != kv) abort();
        for (uint64_t k = 0; k <= kv->n; k++) {
            int64_t integer;
            double real;
            struct fm_str text;
            bool got = fm_gguf_kv_i64_at(kv, k, &integer);
            got = fm_gguf_kv_f64_at(kv, k, &real) || got;
            if (fm_gguf_kv_str_at(kv, k, &text)) {
                if (got || text.p[text.n] != '\0') abort();
                got = true;
            }
            if (got && k == kv->n) abort();
        }
    }
    int64_t integer = 0;
    if (fm_gguf_override(g, "fuzz.key=int:42", NULL) == FM_OK)
        if (!fm_gguf_get_i64(g, "fuzz.key", &integer) || integer != 42) abort();
}

static void use_tensors(const struct fm_gguf *g, bool data_there)
{
    for (uint64_t i = 0; i < fm_gguf_n_tensors(g); i++) {
        const struct fm_gguf_tensor *t = fm_gguf_tensor_at(g, i);
        if (fm_gguf_find_tensor(g, t->name.p) != t || fm_tensor_bytes(&t->view) != t->bytes) abort();
        if (!data_there) continue;
        void *bytes = malloc(t->bytes);
        if (!bytes || fm_gguf_read(g, t, 0, bytes, t->bytes, NULL) != FM_OK) abort();
        free(bytes);
    }
}

static fm_status open_file(const uint8_t *data, size_t size, struct fm_gguf **g)
{
    char path[64];
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    fm_status status = fm_gguf_open(path, NULL, g, NULL);
    close(fd);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fm_gguf *g, *from_file;
    struct fm_error err = {0};
    struct fm_gguf_open_opts vocab = {.vocab_only = true};
    fm_status status = fm_gguf_open_memory(data, size, NULL, &g, &err);
    if (status != FM_OK && (err.code != status || !err.text[0] || strchr(err.text, '\n'))) abort();
    fm_status file_status = open_file(data, size, &from_file);
    // a part of a split model is refused for another reason: its file's name, or the others are missing
    if ((status == FM_OK) != (file_status == FM_OK)) abort();
    if (status == FM_OK) {
        if (fm_gguf_n_kv(g) != fm_gguf_n_kv(from_file)) abort();
        use_metadata(g);
        use_metadata(from_file);
        use_tensors(g, true);
        use_tensors(from_file, true);
    }
    fm_gguf_close(g);
    fm_gguf_close(from_file);
    if (fm_gguf_open_memory(data, size, &vocab, &g, NULL) == FM_OK) {
        use_metadata(g);
        use_tensors(g, false);
    } else if (status == FM_OK) {
        abort();
    }
    fm_gguf_close(g);
    return 0;
}
