// SPDX-License-Identifier: MIT
// Files of base log-probabilities (what llama.cpp's --kl-divergence-base writes): any bytes. Every row of a file that
// is taken is read and decoded; one past the last must be refused.
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "eval/logprobs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_rows(const struct fm__logprobs_file *f)
{
    int32_t n_rows = fm__scored_count(f->head.ctx);
    size_t bytes = fm__logprobs_row_bytes(f->head.n_vocab);
    void *row = malloc(bytes);
    float *log_p = malloc((size_t)f->head.n_vocab * sizeof *log_p);
    struct fm_error err;
    for (int32_t chunk = 0; chunk < f->head.n_chunks; chunk++)
        for (int32_t i = 0; i < n_rows; i++) {
            if (fm__logprobs_read(f, chunk, i, row, &err) != FM_OK) abort(); // the head promised it
            fm__logprobs_decode(row, f->head.n_vocab, log_p);
        }
    free(row);
    free(log_p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    int fd = memfd_create("logprobs", MFD_CLOEXEC);
    if (fd < 0) return 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct fm__logprobs_file f;
    struct fm_error err;
    if (write(fd, data, size) == (ssize_t)size && fm__logprobs_open(path, &f, &err) == FM_OK) {
        read_rows(&f);
        fm__logprobs_close(&f);
    }
    close(fd);
    return 0;
}
