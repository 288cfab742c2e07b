// SPDX-License-Identifier: MIT
// Loaders, by random datasets and options: every sample exactly once an epoch, no document cut, masks and positions
// right, packing within its bound; the same micro-batches again and after a restore at any place; ranks get disjoint
// parts of every step that make up the whole; parts, class weights, buckets, packed text.
#include "support/train_data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "train/data_order.h"

static struct fm_tokenizer *tok;

static int setup(void **state)
{
    (void)state;
    tok = test_byte_tokenizer();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fm_tokenizer_free(tok);
    return 0;
}

enum { MAX_SAMPLES = 400, MAX_ROWS = 200 };

// n rows of text: row i is its number in three letters, then up to `spread` bytes more.
static struct fm__dataset *dataset_of(enum fm__data_kind kind, int n, int spread, struct fm__rng *rng,
                                      const struct fm__data_opts *more)
{
    static char text[MAX_SAMPLES * (MAX_ROWS + 40)];
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        char word[MAX_ROWS];
        int length = 3 + (int)fm__rng_below(rng, (uint64_t)spread + 1);
        snprintf(word, sizeof word, "%c%c%c", 'a' + i % 16, 'a' + i / 16 % 16, 'a' + i / 256);
        for (int k = 3; k < length; k++) word[k] = (char)('q' + fm__rng_below(rng, 8));
        word[length] = '\0';
        if (kind == FM__DATA_CLASSIFY)
            at += (size_t)snprintf(text + at, sizeof text - at, "%s,%c\n", word, "xyyz"[i % 4]);
        else if (kind == FM__DATA_PREFERENCE)
            at += (size_t)snprintf(text + at, sizeof text - at,
                                   "{\"prompt\": \"%.3s\", \"chosen\": \"%s\", \"rejected\": \"\u2212%d\"}\n", word,
                                   word + 1, i);
        else
            at += (size_t)snprintf(text + at, sizeof text - at, "%s\n", word);
    }
    char name[32]; // one of its own for each length, as data sets live side by side
    snprintf(name, sizeof name, "r%d.%s", n % 16,
             kind == FM__DATA_CLASSIFY ? "csv"
             : kind == FM__DATA_TEXT   ? "txt"
                                       : "jsonl");
    const char *path = test_write(name, text, at);
    struct fm__data_opts opts = {0};
    if (more) opts = *more;
    opts.kind = kind, opts.paths = &path, opts.n_paths = 1, opts.tok = tok;
    if (!opts.length) opts.length = MAX_ROWS;
    opts.unit = FM__UNIT_LINE;
    struct fm__dataset *data;
    struct fm_error err = {0};
    assert_ok(fm__dataset_open(&opts, &data, &err), err);
    return data;
}

// The number a document's text begins with.
static int number_of(const int32_t *tokens)
{
    return tokens[0] - 'a' + 16 * (tokens[1] - 'a') + 256 * (tokens[2] - 'a');
}

// What holds for every micro-batch of documents.
static void check_rows(const struct fm__microbatch *mb, int64_t most, bool judged)
{
    assert_true(mb->n_rows <= most);
    int64_t n_targets = 0, row = 0;
    double weight = 0;
    for (int64_t d = 0; d < mb->n_documents; d++) {
        assert_true(mb->ends[d] > row);
        for (int32_t pos = 0; row < mb->ends[d]; row++, pos++) {
            const int32_t *place = mb->rows + 4 * row;
            assert_int_equal(place[0], d), assert_int_equal(place[1], pos);
            assert_int_equal(place[2], -1), assert_int_equal(place[3], row);
            bool last = row + 1 == mb->ends[d], loss = mb->targets[row] >= 0;
            if (judged) assert_int_equal(loss, last);
            if (!judged && loss && !last) assert_int_equal(mb->targets[row], mb->tokens[row + 1]);
            assert_int_equal(mb->weights[row] != 0, loss);
            n_targets += loss, weight += (double)mb->weights[row];
        }
    }
    assert_int_equal(row, mb->n_rows);
    assert_int_equal(n_targets, mb->n_targets);
    assert_true(weight == mb->weight);
}

// One epoch of every rank: counts samples, checks that steps end together. seen[sample] counts.
static void walk_epoch(struct fm__loader **ranks, int n_ranks, const struct fm__loader_opts *o, int *seen, bool judged)
{
    struct fm__microbatch mb = test_microbatch(o->rows, 0);
    struct fm_error err = {0};
    bool ends_epoch = false;
    for (int64_t left = fm__loader_n_steps(ranks[0], fm__loader_position(ranks[0]).epoch); left > 0; left--) {
        int64_t samples = 0;
        for (int r = 0; r < n_ranks; r++) {
            do {
                assert_ok(fm__loader_next(ranks[r], &mb, &err), err);
                check_rows(&mb, o->rows, judged);
                for (int64_t d = 0; d < mb.n_documents; d++) {
                    assert_true(mb.samples[d] >= 0 && mb.samples[d] < MAX_SAMPLES);
                    if (d == 0 || mb.samples[d] != mb.samples[d - 1]) seen[mb.samples[d]]++;
                    if (judged) assert_int_equal(number_of(mb.tokens + (d ? mb.ends[d - 1] : 0)), mb.samples[d]);
                }
                samples += mb.n_samples;
            } while (!mb.ends_step);
            ends_epoch = mb.ends_epoch;
        }
        assert_true(left == 1 ? samples <= o->batch && samples > 0 : samples == o->batch);
        assert_int_equal(ends_epoch, left == 1);
    }
    test_microbatch_deinit(&mb);
}

static void every_sample_once(void **state)
{
    (void)state;
    struct fm__rng rng = fm__rng_new(11, 0);
    static const enum fm__data_kind kinds[] = {FM__DATA_CLASSIFY, FM__DATA_PREFERENCE, FM__DATA_TEXT};
    for (int round = 0; round < 60; round++) {
        enum fm__data_kind kind = kinds[round % 3];
        int n = 1 + (int)fm__rng_below(&rng, 300), spread = (int)fm__rng_below(&rng, 60), n_ranks = 1 + round % 4;
        struct fm__data_opts more = {
            .whole = true, .validation = n > 1 && round % 2 ? 0.3 : 0, .seed = (uint64_t)round};
        struct fm__dataset *data = dataset_of(kind, n, spread, &rng, &more);
        int64_t longest = fm__dataset_counts(data)->longest;
        int seen[MAX_SAMPLES] = {0};
        struct fm_error err = {0};
        enum fm__data_part parts[2] = {more.validation > 0 ? FM__DATA_TRAIN : FM__DATA_ALL, FM__DATA_VALID};
        for (int p = 0; p < (more.validation > 0 ? 2 : 1); p++) {
            struct fm__loader *ranks[4];
            struct fm__loader_opts o = {.part = parts[p],
                                        .order = (enum fm__data_order)(round / 3 % 3),
                                        .rows = longest + (int64_t)fm__rng_below(&rng, 100),
                                        .batch = 1 + (int64_t)fm__rng_below(&rng, 40),
                                        .seed = (uint64_t)round,
                                        .n_ranks = n_ranks};
            for (o.rank = 0; o.rank < n_ranks; o.rank++) assert_ok(fm__loader_new(data, &o, &ranks[o.rank], &err), err);
            walk_epoch(ranks, n_ranks, &o, seen, kind == FM__DATA_CLASSIFY);
            for (int r = 0; r < n_ranks; r++) fm__loader_free(ranks[r]);
        }
        for (int i = 0; i < MAX_SAMPLES; i++)
            if (seen[i] != (i < n)) fail_msg("round %d: sample %d of %d came %d times", round, i, n, seen[i]);
        fm__dataset_close(data);
    }
}

// A hash of what a call gave.
static uint64_t digest(const struct fm__microbatch *mb)
{
    uint64_t h = (uint64_t)mb->n_rows * 31 + (uint64_t)mb->ends_step * 2 + mb->ends_epoch + (uint64_t)mb->epoch * 7;
    for (int64_t r = 0; r < mb->n_rows; r++)
        h = (h ^ (uint32_t)mb->tokens[r] ^ (uint64_t)(uint32_t)mb->targets[r] << 32) * 0x100000001b3u +
            (uint64_t)(uint32_t)mb->rows[4 * r];
    return h;
}

static void a_restored_position_goes_on(void **state)
{
    (void)state;
    struct fm__rng rng = fm__rng_new(12, 0);
    struct fm_error err = {0};
    for (int round = 0; round < 24; round++) {
        enum { CALLS = 120 };
        bool packed = round % 4 == 3;
        struct fm__data_opts more = {.whole = !packed, .length = packed ? 50 : MAX_ROWS};
        struct fm__dataset *data = dataset_of(packed ? FM__DATA_TEXT : FM__DATA_CLASSIFY, 90, 40, &rng, &more);
        struct fm__loader_opts o = {.order = (enum fm__data_order)(round % 3),
                                    .rows = 64,
                                    .batch = 7,
                                    .seed = 3,
                                    .shift = true,
                                    .rank = round % 2,
                                    .n_ranks = 2};
        struct fm__loader *loader, *other;
        struct fm__microbatch mb = test_microbatch(o.rows, 0);
        struct fm__data_position positions[CALLS];
        uint64_t digests[CALLS];
        assert_ok(fm__loader_new(data, &o, &loader, &err), err);
        for (int i = 0; i < CALLS; i++) {
            positions[i] = fm__loader_position(loader);
            assert_ok(fm__loader_next(loader, &mb, &err), err);
            digests[i] = digest(&mb);
        }
        assert_true(mb.epoch > 1); // epochs were crossed
        assert_true(digests[0] != digests[1]);
        for (int k = 0; k < 12; k++) {
            int i = (int)fm__rng_below(&rng, CALLS - 20);
            assert_ok(fm__loader_new(data, &o, &other, &err), err);
            assert_ok(fm__loader_seek(other, &positions[i], &err), err);
            for (int j = i; j < i + 20; j++) {
                assert_ok(fm__loader_next(other, &mb, &err), err);
                assert_true(digest(&mb) == digests[j]);
            }
            assert_ok(fm__loader_seek(other, &positions[i], &err), err); // backwards too
            assert_ok(fm__loader_next(other, &mb, &err), err);
            assert_true(digest(&mb) == digests[i]);
            fm__loader_free(other);
        }
        fm__loader_free(loader);
        fm__dataset_close(data);
        test_microbatch_deinit(&mb);
    }
}

static void positions_of_others_are_refused(void **state)
{
    (void)state;
    struct fm__rng rng = fm__rng_new(13, 0);
    struct fm__data_opts more = {.whole = true};
    struct fm__dataset *data = dataset_of(FM__DATA_TEXT, 20, 9, &rng, &more),
                       *longer = dataset_of(FM__DATA_TEXT, 21, 9, &rng, &more);
    struct fm__loader *loader, *other;
    struct fm_error err = {0};
    struct fm__loader_opts o = {.rows = 64, .batch = 8, .seed = 3}, changed;
    assert_ok(fm__loader_new(data, &o, &loader, &err), err);
    struct fm__data_position at = fm__loader_position(loader), wrong;
    for (int i = 0; i < 5; i++) {
        changed = o;
        if (i == 0) changed.seed = 4;
        if (i == 1) changed.batch = 4;
        if (i == 2) changed.order = FM__ORDER_BUCKETED;
        if (i == 3) changed.part = FM__DATA_TRAIN;
        assert_ok(fm__loader_new(i == 4 ? longer : data, &changed, &other, &err), err);
        assert_int_equal(fm__loader_seek(other, &at, &err), FM_E_VERIFY);
        fm__loader_free(other);
    }
    // other ranks and rows: at the end of a step only
    changed = o, changed.rows = 32, changed.n_ranks = 2;
    assert_ok(fm__loader_new(data, &changed, &other, &err), err);
    assert_ok(fm__loader_seek(other, &at, &err), err);
    wrong = at, wrong.micro = 1;
    assert_int_equal(fm__loader_seek(other, &wrong, &err), FM_E_VERIFY);
    fm__loader_free(other);
    wrong = at, wrong.micro = 99;
    assert_int_equal(fm__loader_seek(loader, &wrong, &err), FM_E_ARG);
    wrong = at, wrong.sample = 3;
    assert_int_equal(fm__loader_seek(loader, &wrong, &err), FM_E_ARG);
    wrong = at, wrong.sample = 24;
    assert_int_equal(fm__loader_seek(loader, &wrong, &err), FM_E_ARG);
    wrong = at, wrong.epoch = -1;
    assert_int_equal(fm__loader_seek(loader, &wrong, &err), FM_E_ARG);
    wrong = fm__loader_position(loader);
    assert_memory_equal(&wrong, &at, sizeof at);
    fm__loader_free(loader);
    fm__dataset_close(data), fm__dataset_close(longer);
}

static void loaders_that_cannot_be(void **state)
{
    (void)state;
    struct fm__rng rng = fm__rng_new(14, 0);
    struct fm__data_opts more = {.validation = 0.5};
    struct fm__dataset *data = dataset_of(FM__DATA_CLASSIFY, 8, 30, &rng, &more);
    struct fm__loader *loader;
    struct fm_error err = {0};
    static const float three[3] = {1, 2, 3};
    const struct {
        struct fm__loader_opts opts;
        const char *why;
    } cases[] = {
        {{.rows = 3, .batch = 1}, "a micro-batch of 3 rows: the longest sample ("},
        {{.rows = 64}, "batch 0"},
        {{.rows = 0, .batch = 1}, "of 0 rows"},
        {{.rows = 64, .batch = 1, .rank = 2, .n_ranks = 2}, "rank 2 of 2"},
        {{.rows = 64, .batch = 1, .class_weights = three, .n_class_weights = 2}, "2 class weights for 3 classes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(fm__loader_new(data, &cases[i].opts, &loader, &err), FM_E_ARG);
        assert_null(loader);
        if (!strstr(err.text, cases[i].why)) fail_msg("\"%s\" lacks \"%s\"", err.text, cases[i].why);
    }
    struct fm__loader_opts good = {.rows = 64, .batch = 1};
    struct fm__microbatch mb = test_microbatch(63, 0);
    assert_ok(fm__loader_new(data, &good, &loader, &err), err);
    assert_int_equal(fm__loader_next(loader, &mb, &err), FM_E_ARG);
    test_microbatch_deinit(&mb);
    fm__loader_free(loader);
    fm__dataset_close(data);
    more.validation = 0;
    data = dataset_of(FM__DATA_CLASSIFY, 8, 30, &rng, &more);
    good.part = FM__DATA_VALID;
    assert_int_equal(fm__loader_new(data, &good, &loader, &err), FM_E_ARG);
    assert_non_null(strstr(err.text, "no sample in the validation part"));
    fm__dataset_close(data);
}

static void classes_are_weighed(void **state)
{
    (void)state;
    struct fm__rng rng = fm__rng_new(15, 0);
    struct fm__dataset *data = dataset_of(FM__DATA_CLASSIFY, 40, 5, &rng, NULL); // x 10, y 20, z 10
    struct fm__loader *loader;
    struct fm_error err = {0};
    static const float weights[3] = {1, 1, 3};
    struct fm__loader_opts o = {
        .rows = 1000, .batch = 40, .class_weights = weights, .n_class_weights = 3, .balance = true};
    struct fm__microbatch mb = test_microbatch(1000, 0);
    assert_ok(fm__loader_new(data, &o, &loader, &err), err);
    assert_ok(fm__loader_next(loader, &mb, &err), err);
    for (int64_t d = 0; d < mb.n_documents; d++) {
        float want[3] = {(float)(40.0 / 30), (float)(40.0 / 60), (float)(3 * 40.0 / 30)};
        assert_true(mb.weights[mb.ends[d] - 1] == want[mb.targets[mb.ends[d] - 1]]);
    }
    assert_int_equal(fm__dataset_label_count(data, FM__DATA_TRAIN, 1), 20);
    fm__loader_free(loader);
    fm__dataset_close(data);
    test_microbatch_deinit(&mb);
}

// --- packed text ---

// Every row of the stream exactly once an epoch, whatever the shift; documents begin where they do.
static void packed_text_covers_the_stream(void **state)
{
    (void)state;
    struct fm__rng rng = fm__rng_new(16, 0);
    struct fm_error err = {0};
    for (int round = 0; round < 12; round++) {
        struct fm__data_opts more = {.length = 1 + (int64_t)fm__rng_below(&rng, 60),
                                     .validation = round % 2 ? 0.25 : 0};
        struct fm__dataset *data = dataset_of(FM__DATA_TEXT, 60, 20, &rng, &more);
        int64_t n = fm__dataset_counts(data)->tokens;
        static int seen[MAX_SAMPLES * MAX_ROWS];
        for (int p = 0; p < 1 + round % 2; p++) {
            struct fm__loader_opts o = {.part = round % 2 ? (p ? FM__DATA_VALID : FM__DATA_TRAIN) : FM__DATA_ALL,
                                        .rows = 64,
                                        .batch = 3,
                                        .shift = round % 3 > 0,
                                        .seed = 9};
            struct fm__loader *loader;
            struct fm__microbatch mb = test_microbatch(o.rows, 0);
            assert_ok(fm__loader_new(data, &o, &loader, &err), err);
            for (int epoch = 0; epoch < 3; epoch++) {
                int64_t samples = 0, rows = 0;
                memset(seen, 0, sizeof seen);
                do {
                    assert_ok(fm__loader_next(loader, &mb, &err), err);
                    check_rows(&mb, o.rows, false);
                    samples += mb.n_samples, rows += mb.n_rows;
                    for (int64_t d = 0, row = 0, offset = 0; d < mb.n_documents; d++) {
                        if (d && mb.samples[d] != mb.samples[d - 1]) offset = 0; // a sample says its first token
                        for (; row < mb.ends[d]; row++) seen[mb.samples[d] + offset++]++;
                    }
                } while (!mb.ends_epoch);
                int64_t from = o.part == FM__DATA_VALID ? n - (int64_t)floor(0.25 * (double)n + 0.5) : 0;
                int64_t to = o.part == FM__DATA_TRAIN ? n - (int64_t)floor(0.25 * (double)n + 0.5) : n;
                for (int64_t i = 0; i < n; i++)
                    if (seen[i] != (i >= from && i < to - 1))
                        fail_msg("round %d: token %d came %d times", round, (int)i, seen[i]);
                assert_int_equal(rows, to - from - 1);
                if (!o.shift) assert_int_equal(samples, fm__dataset_n_samples(data, o.part));
            }
            fm__loader_free(loader);
            test_microbatch_deinit(&mb);
        }
        fm__dataset_close(data);
    }
}

// --- order and packing ---

static void epochs_differ_and_seeds_decide(void **state)
{
    (void)state;
    struct fm__rng rng = fm__rng_new(17, 0);
    struct fm__data_opts more = {.whole = true};
    struct fm__dataset *data = dataset_of(FM__DATA_TEXT, 100, 3, &rng, &more);
    struct fm__microbatch mb = test_microbatch(1000, 0);
    struct fm_error err = {0};
    int64_t orders[4][100];
    for (int i = 0; i < 4; i++) {
        struct fm__loader_opts o = {.rows = 1000, .batch = 1, .seed = i == 2 ? 8 : 7};
        struct fm__loader *loader;
        assert_ok(fm__loader_new(data, &o, &loader, &err), err);
        for (int k = 0; k < (i == 3 ? 200 : 100); k++) {
            assert_ok(fm__loader_next(loader, &mb, &err), err);
            orders[i][k % 100] = mb.samples[0];
        }
        fm__loader_free(loader);
    }
    assert_memory_equal(orders[0], orders[1], sizeof orders[0]);
    assert_memory_not_equal(orders[0], orders[2], sizeof orders[0]); // another seed
    assert_memory_not_equal(orders[0], orders[3], sizeof orders[0]); // another epoch
    int at_home = 0;
    for (int k = 0; k < 100; k++) at_home += orders[0][k] == k;
    assert_true(at_home < 12); // 1 is expected; 12 has probability 1e-9
    fm__dataset_close(data);
    test_microbatch_deinit(&mb);
}

static void buckets_hold_like_lengths(void **state)
{
    (void)state;
    enum { N = 2005, BATCH = 10 };
    static uint32_t ids[N], rows[N];
    static uint64_t keys[N];
    struct fm__rng rng = fm__rng_new(18, 0);
    for (int i = 0; i < N; i++) rows[i] = 1 + (uint32_t)fm__rng_below(&rng, 500);
    fm__data_permutation(ids, N, 1, 2);
    struct fm__bucket_args args = {.ids = ids, .n = N, .batch = BATCH, .rows = rows, .keys = keys, .seed = 4};
    fm__data_bucket(&args);
    static bool seen[N];
    double within = 0, between = 0, mean = 0;
    for (int i = 0; i < N; i++) {
        assert_false(seen[ids[i]]);
        seen[ids[i]] = true;
        mean += rows[i] / (double)N;
    }
    for (int s = 0; s < N / BATCH; s++) {
        double m = 0;
        for (int k = 0; k < BATCH; k++) m += rows[ids[s * BATCH + k]] / (double)BATCH;
        for (int k = 0; k < BATCH; k++) within += pow(rows[ids[s * BATCH + k]] - m, 2);
        between += BATCH * pow(m - mean, 2);
    }
    assert_true(within < 0.01 * between); // sorted runs of 320: a step spans about 1/32 of the range
    bool rising = true;
    for (int s = 1; s < 20; s++) rising = rising && rows[ids[s * BATCH]] >= rows[ids[(s - 1) * BATCH]];
    assert_false(rising); // steps are shuffled
}

// The same by the plain definition: the longest first (equal ones in order), each into the first bin that holds it.
static void check_first_fit(const struct fm__packer *p, const uint32_t *rows, int n, int64_t most)
{
    int64_t fill[512] = {0};
    bool done[512] = {false};
    for (;;) {
        int next = -1;
        for (int i = 0; i < n; i++)
            if (!done[i] && p->bin[i] != FM__NO_BIN && (next < 0 || rows[i] > rows[next])) next = i;
        if (next < 0) return;
        uint32_t bin = 0;
        while (fill[bin] + rows[next] > most) bin++;
        assert_int_equal(p->bin[next], bin);
        fill[bin] += rows[next];
        done[next] = true;
    }
}

static void packing_wastes_little_and_deals_evenly(void **state)
{
    (void)state;
    enum { N = 512, MOST = 256, RANKS = 3 };
    struct fm__rng rng = fm__rng_new(19, 0);
    for (int round = 0; round < 20; round++) {
        uint32_t rows[N];
        int64_t total = 0, loads[RANKS];
        int owners[N] = {0};
        for (int i = 0; i < N; i++) total += rows[i] = 1 + (uint32_t)fm__rng_below(&rng, 100);
        for (int r = 0; r < RANKS; r++) {
            struct fm__packer p = {0};
            struct fm_error err = {0};
            int64_t fill[N] = {0};
            assert_ok(fm__pack(&p, &(struct fm__pack_args){rows, N, MOST, r, RANKS}, &err), err);
            loads[r] = 0;
            for (size_t b = 0; b < p.n_bins; b++)
                for (uint32_t k = p.start[b]; k < p.start[b + 1]; k++) {
                    uint32_t i = p.member[k];
                    assert_int_equal(p.bin[i], b);
                    assert_true(k == p.start[b] || i > p.member[k - 1]);
                    fill[b] += rows[i], loads[r] += rows[i], owners[i]++;
                }
            check_first_fit(&p, rows, N, MOST);
            for (size_t b = 0; b < p.n_bins; b++) assert_true(fill[b] > 0 && fill[b] <= MOST);
            // first-fit decreasing needs at most 11/9 of the bins and one more (Johnson 1973)
            assert_true((double)p.n_bins <= 11.0 / 9 * ceil((double)loads[r] / MOST) + 1);
            fm__packer_deinit(&p);
        }
        for (int i = 0; i < N; i++) assert_int_equal(owners[i], 1);
        for (int r = 0; r < RANKS; r++) assert_true(llabs(loads[r] - total / RANKS) <= 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_sample_once),
        cmocka_unit_test(a_restored_position_goes_on),
        cmocka_unit_test(positions_of_others_are_refused),
        cmocka_unit_test(loaders_that_cannot_be),
        cmocka_unit_test(classes_are_weighed),
        cmocka_unit_test(packed_text_covers_the_stream),
        cmocka_unit_test(epochs_differ_and_seeds_decide),
        cmocka_unit_test(buckets_hold_like_lengths),
        cmocka_unit_test(packing_wastes_little_and_deals_evenly),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
