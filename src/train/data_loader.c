// SPDX-License-Identifier: MIT
// Loaders: the walk over a part's samples. What a call gives is a function of the position (epoch, first sample of the
// step, micro-batch) and the options; the order of the epoch and the packing of the step are kept only to spare work.
#include <inttypes.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/rng.h"
#include "train/data_order.h"

enum { FILES_A_STEP = 8 }; // data files looked at each step, in turn

struct fm__loader {
    const struct fm__dataset *data;
    struct fm__loader_opts opts;
    struct fm__data_position at;
    struct fm__stamp *seen; // of each data file
    float *label_weight;    // [labels]
    float feature[256];     // of each byte of a pixel
    // the epoch's order; epoch -1: none yet
    int64_t epoch, shift;
    uint32_t *order;
    size_t n_order, cap_order;
    uint32_t *rows; // bucketed: by id, and scratch
    uint64_t *keys;
    // the step's packing; packed_at -1: none yet
    int64_t packed_epoch, packed_at;
    uint32_t *step_rows;
    size_t n_step, cap_step;
    struct fm__packer packer;
    void *payload; // of the sample in hand
    size_t cap_payload;
};

// --- samples ---

static int64_t rows_of_document(const struct fm__dataset *data, uint32_t n)
{
    bool whole = data->kind == FM__DATA_CLASSIFY || data->kind == FM__DATA_REGRESS;
    return data->kind == FM__DATA_IMAGES ? 1 : whole ? n : (int64_t)n - 1;
}

static int64_t rows_of_sample(const struct fm__loader *l, uint32_t id)
{
    const struct fm__dataset *data = l->data;
    if (data->packed) {
        int64_t first, rows;
        fm__stream_sample(data, l->opts.part, l->shift, id, &first, &rows);
        return rows;
    }
    const struct fm__sample *s = &data->index[id];
    return rows_of_document(data, s->n[0]) + (s->n[1] ? rows_of_document(data, s->n[1]) : 0);
}

// Sample ids of the part in the order of the files; NULL: all numbers from 0.
static const uint32_t *part_ids(const struct fm__loader *l)
{
    const struct fm__dataset *data = l->data;
    if (data->packed || l->opts.part == FM__DATA_ALL) return NULL;
    return data->part[l->opts.part == FM__DATA_VALID];
}

static int64_t shift_of(const struct fm__loader *l, int64_t epoch)
{
    if (!l->data->packed || !l->opts.shift) return 0;
    struct fm__rng rng = fm__rng_new(l->opts.seed, FM__STREAM_SHIFT + (uint64_t)epoch);
    return (int64_t)fm__rng_below(&rng, (uint64_t)l->data->length);
}

static int64_t samples_of_epoch(const struct fm__loader *l, int64_t epoch)
{
    if (l->data->packed) return fm__stream_samples(l->data, l->opts.part, shift_of(l, epoch));
    return fm__dataset_n_samples(l->data, l->opts.part);
}

// --- opening ---

static fm_status check_longest(const struct fm__loader *l, struct fm_error *err)
{
    const struct fm__dataset *data = l->data;
    const uint32_t *ids = part_ids(l);
    int64_t n = data->packed ? 0 : fm__dataset_n_samples(data, l->opts.part), most = 0;
    uint32_t longest = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t id = ids ? ids[i] : (uint32_t)i;
        if (rows_of_sample(l, id) > most) most = rows_of_sample(l, id), longest = id;
    }
    if (data->packed) most = data->length; // whatever the shift
    if (most <= l->opts.rows) return FM_OK;
    char where[256];
    fm__dataset_where(data, longest, where, sizeof where);
    return fm__fail(err, FM_E_ARG, "a micro-batch of %" PRId64 " rows: the longest sample (%s) has %" PRId64,
                    l->opts.rows, where, most);
}

static fm_status check_opts(const struct fm__loader *l, struct fm_error *err)
{
    const struct fm__loader_opts *o = &l->opts;
    if (o->batch < 1 || o->batch > UINT32_MAX)
        return fm__fail(err, FM_E_ARG, "batch %" PRId64 ", want 1 or more", o->batch);
    if (o->rows < 1 || o->rows > INT32_MAX) return fm__fail(err, FM_E_ARG, "micro-batch of %" PRId64 " rows", o->rows);
    if (o->n_ranks < 1 || o->rank < 0 || o->rank >= o->n_ranks)
        return fm__fail(err, FM_E_ARG, "rank %d of %d", o->rank, o->n_ranks);
    if (o->class_weights && o->n_class_weights != l->data->labels.n)
        return fm__fail(err, FM_E_ARG, "%zu class weights for %u classes", o->n_class_weights, l->data->labels.n);
    if (o->image_shift < 0 || o->image_shift > 1 << 14)
        return fm__fail(err, FM_E_ARG, "images moved by up to %d pixels", o->image_shift);
    if (samples_of_epoch(l, 0) < 1)
        return fm__fail(err, FM_E_ARG, "no sample in the %s part",
                        o->part == FM__DATA_VALID ? "validation" : "training");
    return check_longest(l, err);
}

static fm_status weigh_labels(struct fm__loader *l, struct fm_error *err)
{
    uint32_t n = l->data->labels.n;
    int64_t all = 0, classes = 0;
    l->label_weight = fm__malloc(n * sizeof *l->label_weight);
    if (!l->label_weight) return fm__fail_nomem(err, "class weights", n * sizeof *l->label_weight);
    for (uint32_t i = 0; i < n; i++) {
        int64_t count = fm__dataset_label_count(l->data, l->opts.part, (int32_t)i);
        all += count, classes += count > 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        int64_t count = fm__dataset_label_count(l->data, l->opts.part, (int32_t)i);
        double weight = l->opts.class_weights ? (double)l->opts.class_weights[i] : 1;
        if (l->opts.balance && count) weight *= (double)all / ((double)classes * (double)count);
        l->label_weight[i] = (float)weight;
    }
    return FM_OK;
}

// Numbers of two structs in one: what a position depends on.
static uint64_t mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * 0xff51afd7ed558ccdu;
    return h ^ h >> 32;
}

static void identify(struct fm__loader *l)
{
    const struct fm__loader_opts *o = &l->opts;
    uint64_t h = mix(l->data->fingerprint, (uint64_t)o->part << 32 | (uint64_t)o->order << 1 | o->shift);
    l->at.data = mix(mix(mix(h, (uint64_t)o->batch), o->seed), (uint64_t)o->image_shift);
    l->at.share = mix(mix(mix(1, (uint64_t)o->rank), (uint64_t)o->n_ranks), (uint64_t)o->rows);
}

static fm_status loader_init(struct fm__loader *l, struct fm_error *err)
{
    FM_TRY(check_opts(l, err));
    FM_TRY(weigh_labels(l, err));
    size_t n = l->data->n_files;
    l->seen = fm__calloc(n, sizeof *l->seen);
    if (!l->seen) return fm__fail_nomem(err, "stamps of the data files", n * sizeof *l->seen);
    for (size_t i = 0; i < n; i++) l->seen[i] = l->data->files[i].then;
    float std = l->opts.feature_std != 0 ? l->opts.feature_std : 1;
    for (int i = 0; i < 256; i++) l->feature[i] = ((float)i / 255 - l->opts.feature_mean) / std;
    identify(l);
    return FM_OK;
}

fm_status fm__loader_new(const struct fm__dataset *data, const struct fm__loader_opts *opts, struct fm__loader **out,
                         struct fm_error *err)
{
    *out = NULL;
    struct fm__loader *l = fm__calloc(1, sizeof *l);
    if (!l) return fm__fail_nomem(err, "loader", sizeof *l);
    l->data = data, l->opts = *opts, l->epoch = -1, l->packed_at = -1;
    if (!l->opts.n_ranks) l->opts.n_ranks = 1;
    fm_status status = loader_init(l, err);
    l->opts.class_weights = NULL; // the caller's, read by now
    if (status == FM_OK)
        *out = l;
    else
        fm__loader_free(l);
    return status;
}

void fm__loader_free(struct fm__loader *l)
{
    if (!l) return;
    fm__free(l->seen);
    fm__free(l->label_weight);
    fm__free(l->order);
    fm__free(l->rows);
    fm__free(l->keys);
    fm__free(l->step_rows);
    fm__packer_deinit(&l->packer);
    fm__free(l->payload);
    fm__free(l);
}

// --- the order of an epoch ---

// Room for n entries of `size` bytes; what was there is lost.
static fm_status renew(void *p, size_t n, size_t size, struct fm_error *err)
{
    void **block = p;
    fm__free(*block);
    *block = fm__calloc(n, size);
    return *block ? FM_OK : fm__fail_nomem(err, "order of the samples", n * size);
}

static fm_status bucket(struct fm__loader *l, int64_t epoch, struct fm_error *err)
{
    const struct fm__dataset *data = l->data;
    size_t n_ids = data->packed ? l->n_order : data->n_index;
    FM_TRY(renew(&l->rows, n_ids, sizeof *l->rows, err));
    FM_TRY(renew(&l->keys, l->n_order, sizeof *l->keys, err));
    for (size_t i = 0; i < l->n_order; i++) l->rows[l->order[i]] = (uint32_t)rows_of_sample(l, l->order[i]);
    fm__data_bucket(&(struct fm__bucket_args){.ids = l->order,
                                              .n = l->n_order,
                                              .batch = (size_t)l->opts.batch,
                                              .rows = l->rows,
                                              .keys = l->keys,
                                              .seed = l->opts.seed,
                                              .epoch = (uint64_t)epoch});
    return FM_OK;
}

static fm_status prepare_epoch(struct fm__loader *l, int64_t epoch, struct fm_error *err)
{
    if (l->epoch == epoch) return FM_OK;
    int64_t n = samples_of_epoch(l, epoch);
    if (n > UINT32_MAX) return fm__fail(err, FM_E_LIMIT, "%" PRId64 " samples", n);
    l->epoch = -1, l->packed_at = -1;
    if ((size_t)n > l->cap_order) {
        l->cap_order = 0;
        FM_TRY(renew(&l->order, (size_t)n, sizeof *l->order, err));
        l->cap_order = (size_t)n;
    }
    l->n_order = (size_t)n, l->shift = shift_of(l, epoch);
    const uint32_t *ids = part_ids(l);
    for (size_t i = 0; i < l->n_order; i++) l->order[i] = ids ? ids[i] : (uint32_t)i;
    if (l->opts.order != FM__ORDER_SEQUENTIAL)
        fm__data_shuffle(l->order, l->n_order, l->opts.seed, FM__STREAM_EPOCH + (uint64_t)epoch);
    if (l->opts.order == FM__ORDER_BUCKETED) FM_TRY(bucket(l, epoch, err));
    l->epoch = epoch;
    return FM_OK;
}

// --- a step ---

static fm_status check_files(struct fm__loader *l, struct fm_error *err)
{
    const struct fm__dataset *data = l->data;
    size_t n = data->n_files, step = (size_t)(l->at.sample / l->opts.batch);
    for (size_t k = 0; k < FILES_A_STEP && k < n; k++) {
        size_t i = (step * FILES_A_STEP + k) % n;
        FM_TRY(fm__data_file_unchanged(&data->files[i], &l->seen[i], err));
    }
    return fm__store_unchanged(data->store, err);
}

static fm_status prepare_step(struct fm__loader *l, struct fm_error *err)
{
    FM_TRY(prepare_epoch(l, l->at.epoch, err));
    if (l->packed_at == l->at.sample && l->packed_epoch == l->at.epoch) return FM_OK;
    FM_TRY(check_files(l, err));
    size_t left = l->n_order - (size_t)l->at.sample;
    l->packed_at = -1;
    l->n_step = left < (size_t)l->opts.batch ? left : (size_t)l->opts.batch;
    if (l->n_step > l->cap_step) {
        l->cap_step = 0;
        FM_TRY(renew(&l->step_rows, l->n_step, sizeof *l->step_rows, err));
        l->cap_step = l->n_step;
    }
    for (size_t i = 0; i < l->n_step; i++)
        l->step_rows[i] = (uint32_t)rows_of_sample(l, l->order[(size_t)l->at.sample + i]);
    struct fm__pack_args args = {l->step_rows, l->n_step, l->opts.rows, l->opts.rank, l->opts.n_ranks};
    FM_TRY(fm__pack(&l->packer, &args, err));
    l->packed_at = l->at.sample, l->packed_epoch = l->at.epoch;
    return FM_OK;
}

// --- a micro-batch ---

static fm_status read_payload(struct fm__loader *l, uint64_t at, size_t n, struct fm_error *err)
{
    if (n > l->cap_payload) {
        l->cap_payload = 0;
        FM_TRY(renew(&l->payload, n + n / 2, 1, err));
        l->cap_payload = n + n / 2;
    }
    return fm__store_read(l->data->store, at, l->payload, n, err);
}

// A row without a loss.
static int64_t add_row(struct fm__microbatch *mb, int32_t token, int32_t pos)
{
    int64_t r = mb->n_rows++;
    if (mb->tokens) mb->tokens[r] = token;
    if (mb->targets) mb->targets[r] = -1;
    if (mb->values) mb->values[r] = 0;
    if (mb->weights) mb->weights[r] = 0;
    if (mb->rows) {
        const int32_t row[4] = {(int32_t)(mb->n_documents - 1), pos, -1, (int32_t)r};
        memcpy(mb->rows + 4 * r, row, sizeof row);
    }
    if (mb->ends) mb->ends[mb->n_documents - 1] = (int32_t)r + 1;
    return r;
}

static void begin_document(struct fm__microbatch *mb, int64_t sample)
{
    if (mb->samples) mb->samples[mb->n_documents] = sample;
    mb->n_documents++;
}

static void set_loss(struct fm__microbatch *mb, int64_t r, int32_t target, float weight)
{
    if (mb->targets) mb->targets[r] = target;
    if (mb->weights) mb->weights[r] = weight;
    mb->n_targets++;
    mb->weight += (double)weight;
}

// n tokens, each but the last a row whose target is the next where that is marked. `split`: a token without the mark
// begins a document.
static void add_predicted(struct fm__microbatch *mb, const int32_t *ids, size_t n, int64_t sample, bool split)
{
    int32_t pos = 0;
    for (size_t i = 0; i + 1 < n; i++) {
        if (i == 0 || (split && !(ids[i] & FM__TOKEN_PREDICTED))) {
            begin_document(mb, sample);
            pos = 0;
        }
        int64_t r = add_row(mb, FM__TOKEN_ID(ids[i]), pos++);
        if (ids[i + 1] & FM__TOKEN_PREDICTED) set_loss(mb, r, FM__TOKEN_ID(ids[i + 1]), 1);
    }
}

// n tokens; what is said of them belongs to the last.
static void add_judged(const struct fm__loader *l, struct fm__microbatch *mb, const struct fm__sample *s,
                       int64_t sample)
{
    const int32_t *ids = l->payload;
    int64_t r = 0;
    begin_document(mb, sample);
    for (uint32_t i = 0; i < s->n[0]; i++) r = add_row(mb, FM__TOKEN_ID(ids[i]), (int32_t)i);
    bool number = l->data->kind == FM__DATA_REGRESS;
    if (number && mb->values) mb->values[r] = s->value;
    set_loss(mb, r, number ? -1 : s->label, number ? 1 : l->label_weight[s->label]);
}

// How far the image of a sample is moved in this epoch, by at most `most` each way.
static void move_of(const struct fm__loader *l, int64_t sample, int64_t most, int64_t move[2])
{
    struct fm__rng rng = fm__rng_new(l->opts.seed, FM__STREAM_IMAGES + (uint64_t)l->at.epoch);
    rng.next = (uint64_t)sample * 16;
    for (int i = 0; i < 2; i++) move[i] = most ? (int64_t)fm__rng_below(&rng, 2 * (uint64_t)most + 1) - most : 0;
}

static void add_features(const struct fm__loader *l, float *to, int64_t sample)
{
    const int64_t *shape = l->data->shape;
    const uint8_t *pixels = l->payload;
    int64_t move[2];
    move_of(l, sample, l->opts.image_shift, move);
    for (int64_t c = 0; c < shape[0]; c++)
        for (int64_t y = 0; y < shape[1]; y++)
            for (int64_t x = 0; x < shape[2]; x++) {
                int64_t from_y = y - move[0], from_x = x - move[1];
                bool inside = from_y >= 0 && from_y < shape[1] && from_x >= 0 && from_x < shape[2];
                *to++ = l->feature[inside ? pixels[(c * shape[1] + from_y) * shape[2] + from_x] : 0];
            }
}

static void add_image(const struct fm__loader *l, struct fm__microbatch *mb, const struct fm__sample *s, int64_t sample)
{
    begin_document(mb, sample);
    int64_t r = add_row(mb, 0, 0);
    if (mb->features) add_features(l, mb->features + r * (int64_t)s->n[0], sample);
    set_loss(mb, r, s->label, l->label_weight[s->label]);
}

// Of a sample of the index: two hashes for pairs, as data_build.c made them.
static fm_status check_payload(const struct fm__loader *l, const struct fm__sample *s, uint32_t id, size_t unit,
                               struct fm_error *err)
{
    const char *p = l->payload;
    size_t n = s->n[0] * unit;
    uint32_t check = fm__hash_bytes(p, n);
    if (s->n[1]) check ^= 31 * fm__hash_bytes(p + n, s->n[1] * unit);
    if (check == s->check) return FM_OK;
    char where[256];
    fm__dataset_where(l->data, id, where, sizeof where);
    return fm__fail(err, FM_E_IO, "the stored sample of %s is not what was written: delete the cache and resume",
                    where);
}

static fm_status add_sample(struct fm__loader *l, struct fm__microbatch *mb, uint32_t id, struct fm_error *err)
{
    const struct fm__dataset *data = l->data;
    if (data->packed) {
        int64_t first, rows;
        fm__stream_sample(data, l->opts.part, l->shift, id, &first, &rows);
        size_t n = (size_t)rows + 1;
        FM_TRY(read_payload(l, (uint64_t)first * sizeof(int32_t), n * sizeof(int32_t), err));
        add_predicted(mb, l->payload, n, first, true);
        return FM_OK;
    }
    const struct fm__sample *s = &data->index[id];
    size_t unit = data->kind == FM__DATA_IMAGES ? 1 : sizeof(int32_t), n = (size_t)s->n[0] + s->n[1];
    FM_TRY(read_payload(l, s->at, n * unit, err));
    FM_TRY(check_payload(l, s, id, unit, err));
    if (data->kind == FM__DATA_IMAGES) {
        add_image(l, mb, s, id);
    } else if (data->kind == FM__DATA_CLASSIFY || data->kind == FM__DATA_REGRESS) {
        add_judged(l, mb, s, id);
    } else {
        add_predicted(mb, l->payload, s->n[0], id, false);
        if (s->n[1]) add_predicted(mb, (const int32_t *)l->payload + s->n[0], s->n[1], id, false);
    }
    return FM_OK;
}

static void empty(struct fm__microbatch *mb)
{
    mb->n_rows = mb->n_documents = mb->n_samples = mb->n_targets = 0;
    mb->weight = 0;
    mb->ends_step = mb->ends_epoch = false;
}

fm_status fm__loader_next(struct fm__loader *l, struct fm__microbatch *mb, struct fm_error *err)
{
    empty(mb);
    if (mb->cap < l->opts.rows)
        return fm__fail(err, FM_E_ARG, "arrays of %" PRId64 " rows for micro-batches of %" PRId64, mb->cap,
                        l->opts.rows);
    FM_TRY(prepare_step(l, err));
    const struct fm__packer *p = &l->packer;
    size_t first = p->n_bins ? p->start[l->at.micro] : 0, end = p->n_bins ? p->start[l->at.micro + 1] : 0;
    for (size_t i = first; i < end; i++) {
        fm_status status = add_sample(l, mb, l->order[(size_t)l->at.sample + p->member[i]], err);
        if (status != FM_OK) {
            l->packed_at = -1; // the next call looks at the files anew
            empty(mb);
            return status;
        }
        mb->n_samples++;
    }
    mb->epoch = l->at.epoch;
    mb->ends_step = (size_t)++l->at.micro >= l->packer.n_bins;
    if (!mb->ends_step) return FM_OK;
    l->at.micro = 0;
    l->at.sample += (int64_t)l->n_step;
    mb->ends_epoch = (size_t)l->at.sample >= l->n_order;
    if (mb->ends_epoch) l->at.sample = 0, l->at.epoch++;
    return FM_OK;
}

int64_t fm__loader_n_steps(const struct fm__loader *l, int64_t epoch)
{
    return (samples_of_epoch(l, epoch) + l->opts.batch - 1) / l->opts.batch;
}

struct fm__data_position fm__loader_position(const struct fm__loader *l)
{
    return l->at;
}

fm_status fm__loader_seek(struct fm__loader *l, const struct fm__data_position *to, struct fm_error *err)
{
    if (to->data != l->at.data)
        return fm__fail(err, FM_E_VERIFY, "the position was saved with other data, or another batch, order or seed");
    if (to->micro && to->share != l->at.share)
        return fm__fail(err, FM_E_VERIFY, "the position is inside a step of other ranks or micro-batches");
    if (to->epoch < 0 || to->micro < 0 || to->sample < 0 || to->sample % l->opts.batch ||
        to->sample >= samples_of_epoch(l, to->epoch))
        return fm__fail(err, FM_E_ARG, "no position: epoch %" PRId64 ", sample %" PRId64 ", micro-batch %" PRId64,
                        to->epoch, to->sample, to->micro);
    struct fm__data_position before = l->at;
    l->at.epoch = to->epoch, l->at.sample = to->sample, l->at.micro = to->micro;
    fm_status status = prepare_step(l, err);
    if (status == FM_OK && to->micro && (size_t)to->micro >= l->packer.n_bins)
        status = fm__fail(err, FM_E_ARG, "no position: the step has %zu micro-batches", l->packer.n_bins);
    if (status != FM_OK) l->at = before;
    return status;
}
