// SPDX-License-Identifier: MIT
// One tensor a state, then the SHA-256 of notes and states as the last tensor, so that writing streams.
#include "train/checkpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/sha256.h"
#include "fathom/safetensors.h"

#define FORMAT "fathom.checkpoint.1"
#define HASH_NAME "sha256"

// The numbers of a checkpoint by name: written in hex, so that doubles come back to the bit.
static const struct {
    const char *name;
    size_t offset;
} numbers[] = {
    {"model", offsetof(struct fm__checkpoint, model)},
    {"data", offsetof(struct fm__checkpoint, data)},
    {"steps", offsetof(struct fm__checkpoint, steps)},
    {"micros", offsetof(struct fm__checkpoint, micros)},
    {"epoch", offsetof(struct fm__checkpoint, epoch)},
    {"sample", offsetof(struct fm__checkpoint, sample)},
    {"tokens", offsetof(struct fm__checkpoint, tokens)},
    {"best_step", offsetof(struct fm__checkpoint, best_step)},
    {"bad_evals", offsetof(struct fm__checkpoint, bad_evals)},
    {"best", offsetof(struct fm__checkpoint, best)},
    {"seconds", offsetof(struct fm__checkpoint, seconds)},
};
enum { N_NUMBERS = sizeof numbers / sizeof *numbers };

static struct fm_str str(const char *text)
{
    return (struct fm_str){text, strlen(text)};
}

static size_t largest_state(const struct fm__states *states)
{
    size_t most = 1;
    for (int i = 0; i < states->n; i++) {
        const size_t bytes = fm_tensor_bytes(&states->items[i].tensor);
        if (states->items[i].kept && bytes > most) most = bytes;
    }
    return most;
}

static fm_status hash_notes(struct fm__sha256 *hash, const struct fm__checkpoint *c, struct fm_error *err)
{
    FM_TRY(fm__sha256_update(hash, c->settings, strlen(c->settings), err));
    for (int i = 0; i < N_NUMBERS; i++)
        FM_TRY(fm__sha256_update(hash, (const char *)c + numbers[i].offset, sizeof(uint64_t), err));
    return FM_OK;
}

// --- writing ---

static fm_status declare(struct fm_safetensors_writer *w, const struct fm__states *states,
                         const struct fm__checkpoint *c, struct fm_error *err)
{
    char text[24];
    FM_TRY(fm_safetensors_writer_metadata(w, str("format"), str(FORMAT), err));
    FM_TRY(fm_safetensors_writer_metadata(w, str("settings"), str(c->settings), err));
    for (int i = 0; i < N_NUMBERS; i++) {
        uint64_t bits;
        memcpy(&bits, (const char *)c + numbers[i].offset, sizeof bits);
        snprintf(text, sizeof text, "%" PRIx64, bits);
        FM_TRY(fm_safetensors_writer_metadata(w, str(numbers[i].name), str(text), err));
    }
    for (int i = 0; i < states->n; i++)
        if (states->items[i].kept)
            FM_TRY(fm_safetensors_writer_tensor(w, str(states->items[i].name), &states->items[i].tensor, err));
    const struct fm_tensor hash = {.dtype = FM_I8, .rank = 1, .dims = {FM__SHA256_BYTES}};
    return fm_safetensors_writer_tensor(w, str(HASH_NAME), &hash, err);
}

static fm_status write_data(struct fm_safetensors_writer *w, const struct fm__states *states, struct fm__sha256 *hash,
                            void *space, struct fm_error *err)
{
    uint8_t digest[FM__SHA256_BYTES];
    for (int i = 0; i < states->n; i++) {
        const struct fm__state *s = &states->items[i];
        const size_t bytes = fm_tensor_bytes(&s->tensor);
        if (!s->kept) continue;
        FM_TRY(fm__states_collect(states, s, space, err));
        FM_TRY(fm__sha256_update(hash, space, bytes, err));
        FM_TRY(fm_safetensors_writer_data(w, space, bytes, err));
    }
    FM_TRY(fm__sha256_final(hash, digest, err));
    FM_TRY(fm_safetensors_writer_data(w, digest, sizeof digest, err));
    return fm_safetensors_writer_finish(w, err);
}

// What the others do while rank 0 writes.
static fm_status hand_over(const struct fm__states *states, struct fm_error *err)
{
    void *space = fm__malloc(largest_state(states));
    fm_status status = space ? FM_OK : fm__fail_nomem(err, "checkpoint", largest_state(states));
    for (int i = 0; status == FM_OK && i < states->n; i++)
        if (states->items[i].kept) status = fm__states_collect(states, &states->items[i], space, err);
    fm__free(space);
    return status;
}

fm_status fm__checkpoint_save(const char *path, const struct fm__states *states, const struct fm__checkpoint *c,
                              struct fm_error *err)
{
    struct fm_safetensors_writer *w;
    if (fm__comm_rank(states->comm) != 0) return hand_over(states, err);
    FM_TRY(fm_safetensors_writer_new(path, &w, err));
    void *space = fm__malloc(largest_state(states));
    struct fm__sha256 *hash = fm__sha256_new();
    fm_status status = space && hash ? FM_OK : fm__fail_nomem(err, "checkpoint", largest_state(states));
    if (status == FM_OK) status = declare(w, states, c, err);
    if (status == FM_OK) status = hash_notes(hash, c, err);
    if (status == FM_OK) status = write_data(w, states, hash, space, err);
    fm_safetensors_writer_free(w);
    fm__sha256_free(hash);
    fm__free(space);
    return status;
}

// --- reading ---

static fm_status read_number(const struct fm_safetensors *file, const char *name, void *to, struct fm_error *err)
{
    struct fm_str value;
    char text[24] = "", *end;
    if (!fm_safetensors_get(file, name, &value) || value.n == 0 || value.n > 16)
        return fm__fail(err, FM_E_FORMAT, "%s: missing or no number in the metadata", name);
    memcpy(text, value.p, value.n);
    const uint64_t bits = strtoull(text, &end, 16);
    if (*end) return fm__fail(err, FM_E_FORMAT, "%s: \"%s\" is no hexadecimal number", name, text);
    memcpy(to, &bits, sizeof bits);
    return FM_OK;
}

static fm_status read_notes(const struct fm_safetensors *file, struct fm__checkpoint *c, struct fm_error *err)
{
    struct fm_str value;
    if (!fm_safetensors_get(file, "format", &value) || value.n != strlen(FORMAT) ||
        memcmp(value.p, FORMAT, value.n) != 0)
        return fm__fail(err, FM_E_FORMAT, "no checkpoint: its format is \"%.*s\", want \"%s\"",
                        value.p ? (int)(value.n < 40 ? value.n : 40) : 0, value.p ? value.p : "", FORMAT);
    if (!fm_safetensors_get(file, "settings", &value) || value.n >= sizeof c->settings)
        return fm__fail(err, FM_E_FORMAT, "settings: missing or too long in the metadata");
    memcpy(c->settings, value.p, value.n);
    for (int i = 0; i < N_NUMBERS; i++) FM_TRY(read_number(file, numbers[i].name, (char *)c + numbers[i].offset, err));
    return FM_OK;
}

static fm_status compare_notes(const struct fm__checkpoint *found, const struct fm__checkpoint *want,
                               struct fm_error *err)
{
    if (found->model != want->model)
        return fm__fail(err, FM_E_ARG, "a checkpoint of another model: fingerprint %016" PRIx64 ", want %016" PRIx64,
                        found->model, want->model);
    if (found->data != want->data)
        return fm__fail(err, FM_E_ARG, "a checkpoint of other data: fingerprint %016" PRIx64 ", want %016" PRIx64,
                        found->data, want->data);
    if (strcmp(found->settings, want->settings) != 0)
        return fm__fail(err, FM_E_ARG, "a checkpoint of other settings: hash %s, want %s", found->settings,
                        want->settings);
    return FM_OK;
}

static fm_status compare_tensors(const struct fm_safetensors *file, const struct fm__states *states,
                                 struct fm_error *err)
{
    uint64_t n = 1; // the hash
    for (int i = 0; i < states->n; i++) {
        const struct fm__state *s = &states->items[i];
        if (!s->kept) continue;
        const struct fm_safetensors_tensor *t = fm_safetensors_find_tensor(file, s->name);
        if (!t) return fm__fail(err, FM_E_NOT_FOUND, "%s: not in the checkpoint", s->name);
        bool same = t->view.dtype == s->tensor.dtype && t->view.rank == s->tensor.rank;
        for (int d = 0; same && d < s->tensor.rank; d++) same = t->view.dims[d] == s->tensor.dims[d];
        if (!same)
            return fm__fail(err, FM_E_SHAPE,
                            "%s: %s of rank %d and %zu bytes in the checkpoint, want %s of rank %d and %zu", s->name,
                            fm_dtype_info(t->view.dtype)->name, t->view.rank, t->bytes,
                            fm_dtype_info(s->tensor.dtype)->name, s->tensor.rank, fm_tensor_bytes(&s->tensor));
        n++;
    }
    if (fm_safetensors_n_tensors(file) != n)
        return fm__fail(err, FM_E_SHAPE, "%" PRIu64 " tensors in the checkpoint, want %" PRIu64,
                        fm_safetensors_n_tensors(file), n);
    const struct fm_safetensors_tensor *hash = fm_safetensors_find_tensor(file, HASH_NAME);
    if (!hash || hash->bytes != FM__SHA256_BYTES)
        return fm__fail(err, FM_E_FORMAT, HASH_NAME ": missing, or not of %d bytes", FM__SHA256_BYTES);
    return FM_OK;
}

// Reads every state's bytes, in the order they were written; to the hash, or to the states.
static fm_status read_data(const struct fm_safetensors *file, const struct fm__states *states, struct fm__sha256 *hash,
                           void *space, struct fm_error *err)
{
    for (uint64_t i = 0; i < fm_safetensors_n_tensors(file); i++) {
        const struct fm_safetensors_tensor *t = fm_safetensors_tensor_at(file, i);
        char name[sizeof states->items->name];
        if (t->name.n >= sizeof name) continue; // the hash's name is short, and so are all of states
        memcpy(name, t->name.p, t->name.n);
        name[t->name.n] = 0;
        const struct fm__state *s = fm__states_find(states, name);
        if (!s) continue;
        FM_TRY(fm_safetensors_read(file, t, 0, space, t->bytes, err));
        if (hash)
            FM_TRY(fm__sha256_update(hash, space, t->bytes, err));
        else if (fm__states_here(states, s))
            FM_TRY(fm__states_write(states, s, space, err));
    }
    return FM_OK;
}

static fm_status check_hash(const struct fm_safetensors *file, const struct fm__states *states,
                            const struct fm__checkpoint *c, void *space, struct fm_error *err)
{
    uint8_t found[FM__SHA256_BYTES] = {0}, want[FM__SHA256_BYTES];
    struct fm__sha256 *hash = fm__sha256_new();
    if (!hash) return fm__fail_nomem(err, "hash", sizeof found);
    fm_status status = hash_notes(hash, c, err);
    if (status == FM_OK) status = read_data(file, states, hash, space, err);
    if (status == FM_OK) status = fm__sha256_final(hash, found, err);
    fm__sha256_free(hash);
    FM_TRY(status);
    FM_TRY(fm_safetensors_read(file, fm_safetensors_find_tensor(file, HASH_NAME), 0, want, sizeof want, err));
    if (memcmp(found, want, sizeof want) != 0)
        return fm__fail(err, FM_E_VERIFY, "damaged: its data do not have the SHA-256 that they were written with");
    return FM_OK;
}

fm_status fm__checkpoint_load(const char *path, const struct fm__states *states, const struct fm__checkpoint *want,
                              struct fm__checkpoint *out, struct fm_error *err)
{
    struct fm_safetensors *file;
    struct fm__checkpoint c = {0};
    FM_TRY(fm_safetensors_open(path, &file, err));
    void *space = fm__malloc(largest_state(states));
    fm_status status = space ? FM_OK : fm__fail_nomem(err, "checkpoint", largest_state(states));
    if (status == FM_OK) status = read_notes(file, &c, err);
    if (status == FM_OK) status = compare_notes(&c, want, err);
    if (status == FM_OK) status = compare_tensors(file, states, err);
    if (status == FM_OK) status = check_hash(file, states, &c, space, err);
    if (status == FM_OK) status = read_data(file, states, NULL, space, err);
    fm__free(space);
    fm_safetensors_close(file);
    if (status != FM_OK) return fm__error_prefix(err, status, "%s", path);
    *out = c;
    return FM_OK;
}
