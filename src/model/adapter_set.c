// SPDX-License-Identifier: MIT
// Gathering the matrices of several adapters, weight by weight, into tensors on the model's device.
#include "model/adapter_set.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/sha256.h"
#include "device/device.h"
#include "model/adapter_file.h"
#include "model/model.h"
#include "tensor/blocks.h"
#include "tensor/buffer.h"

enum { LORA_A, LORA_B, LORA_SPANS, LORA_GAIN, N_KINDS };
static const char *const kinds[N_KINDS] = {".lora_a", ".lora_b", ".lora_spans", ".lora_gain"};
enum { MAX_RANKS = 16384 }; // of one weight, all choices together: what a kernel's scratch holds

// What all choices do to one weight.
struct group {
    char *name; // "blk.0.attn_q.weight"
    int64_t O, K, R;
    bool dora;
    struct fm_tensor tensors[N_KINDS]; // dtype FM_DTYPE_COUNT: there is none
};

struct fm_adapter_set {
    struct fm_device *device;
    struct group *groups;
    int n_groups, n_choices;
    uint8_t (*ids)[FM__ADAPTER_ID];
    struct fm_buffer *buffer;
};

// Gathering: what is being made, and of what.
struct gather {
    struct fm_adapter_set *set;
    const struct fm_model *model;
    const struct fm_adapter_choice *choices;
};

static const struct group *find_group(const struct fm_adapter_set *set, const char *name, size_t n)
{
    for (int i = 0; set && i < set->n_groups; i++)
        if (strlen(set->groups[i].name) == n && !memcmp(set->groups[i].name, name, n)) return &set->groups[i];
    return NULL;
}

bool fm__adapter_set_has(const struct fm_adapter_set *set, const char *name)
{
    return find_group(set, name, strlen(name)) != NULL;
}

int fm_adapter_set_size(const struct fm_adapter_set *set)
{
    return set ? set->n_choices : 0;
}

void fm__adapter_set_id(const struct fm_adapter_set *set, int i, uint8_t id[FM__ADAPTER_ID])
{
    if (i < 0)
        memset(id, 0, FM__ADAPTER_ID);
    else
        memcpy(id, set->ids[i], FM__ADAPTER_ID);
}

void fm_adapter_set_free(struct fm_adapter_set *set)
{
    if (!set) return;
    for (int i = 0; i < set->n_groups; i++) fm__free(set->groups[i].name);
    fm__free(set->groups);
    fm__free(set->ids);
    fm_buffer_unref(set->buffer);
    fm__free(set);
}

// --- graphs ---

bool fm__adapter_set_bind(const struct fm_adapter_set *set, const char *leaf, struct fm_tensor *out)
{
    const char *end = strstr(leaf, ".lora_");
    const struct group *group = end ? find_group(set, leaf, (size_t)(end - leaf)) : NULL;
    for (int i = 0; group && i < N_KINDS; i++) {
        if (strcmp(end, kinds[i])) continue;
        *out = group->tensors[i];
        return true;
    }
    return false;
}

static fm__val leaf(struct fm__graph *g, const struct group *group, int kind)
{
    char name[192];
    const struct fm_tensor *t = &group->tensors[kind];
    if (t->dtype == FM_DTYPE_COUNT) return FM__NONE;
    snprintf(name, sizeof name, "%s%s", group->name, kinds[kind]);
    return fm__graph_leaf(g, FM__WEIGHT, name, t->dtype, t->rank, t->dims);
}

fm__val fm__adapter_set_apply(const struct fm_adapter_set *set, struct fm__graph *g, const struct fm__adapt_args *args)
{
    const struct group *group = find_group(set, args->name, strlen(args->name));
    if (!group) return args->y;
    fm__val in[8] = {args->y, args->x, args->rows};
    in[3] = leaf(g, group, LORA_SPANS);
    in[5] = leaf(g, group, LORA_A);
    if (fm__adapter_is_embedding(group->name)) { // the rows of b that belong to the tokens, then a turned
        in[1] = fm__graph_add(g, FM__OP_EMBED, 2, (fm__val[]){leaf(g, group, LORA_B), args->x}, NULL);
        in[4] = in[5];
        in[5] = FM__NONE;
    } else {
        in[4] = leaf(g, group, LORA_B);
    }
    in[6] = leaf(g, group, LORA_GAIN);
    in[7] = group->dora ? args->bias : FM__NONE;
    return fm__graph_add(g, FM__OP_ADAPT, 8, in, NULL);
}

// --- gathering ---

static int64_t whole_ranks(int64_t r)
{
    return (r + 15) / 16 * 16;
}

// Ranks that choice i has on this weight.
static int64_t ranks_of(const struct fm_adapter_choice *choice, const char *name)
{
    int64_t r = 0;
    for (int i = 0; i < choice->n_uses; i++) {
        const struct fm_adapter_target *t = fm_adapter_find(choice->uses[i].adapter, name);
        if (t) r += t->r;
    }
    return r;
}

static fm_status add_group(struct gather *gt, const struct fm_adapter_target *t, struct fm_error *err)
{
    struct fm_adapter_set *set = gt->set;
    struct group *more = fm__realloc(set->groups, (size_t)(set->n_groups + 1) * sizeof *more);
    if (!more) return fm__fail_nomem(err, "adapters", sizeof *more);
    set->groups = more;
    struct group group = {.O = t->n_out, .K = t->n_in};
    for (int i = 0; i < set->n_choices; i++) {
        group.R += whole_ranks(ranks_of(&gt->choices[i], t->name));
        for (int k = 0; k < gt->choices[i].n_uses; k++) {
            const struct fm_adapter_target *same = fm_adapter_find(gt->choices[i].uses[k].adapter, t->name);
            group.dora |= same && same->magnitude;
        }
    }
    if (group.R > MAX_RANKS)
        return fm__fail(err, FM_E_LIMIT, "adapters: %s: ranks of %lld together, want at most %d", t->name,
                        (long long)group.R, MAX_RANKS);
    group.name = fm__strdup(t->name);
    if (!group.name) return fm__fail_nomem(err, "adapters", strlen(t->name));
    set->groups[set->n_groups++] = group;
    return FM_OK;
}

static fm_status list_groups(struct gather *gt, struct fm_error *err)
{
    for (int i = 0; i < gt->set->n_choices; i++)
        for (int k = 0; k < gt->choices[i].n_uses; k++) {
            const struct fm_adapter *adapter = gt->choices[i].uses[k].adapter;
            FM_TRY(fm_adapter_check(adapter, fm_model_gguf(gt->model), err));
            if (adapter->n_tensors)
                return fm__fail(err, FM_E_UNSUPPORTED,
                                "adapter: it replaces the whole tensor %s: `fathom merge` makes a model of it",
                                adapter->tensors[0].name);
            for (int t = 0; t < adapter->n_targets; t++)
                if (!fm__adapter_set_has(gt->set, adapter->targets[t].name))
                    FM_TRY(add_group(gt, &adapter->targets[t], err));
        }
    return FM_OK;
}

static void describe(struct group *group, int n_choices)
{
    const bool embedding = fm__adapter_is_embedding(group->name);
    struct fm_tensor *t = group->tensors;
    t[LORA_A] = (struct fm_tensor){.dtype = FM_F32, .rank = 2, .dims = {group->R, group->K}};
    if (embedding) t[LORA_A].dims[0] = group->K, t[LORA_A].dims[1] = group->R; // a turned, [D, R]
    t[LORA_B] = (struct fm_tensor){.dtype = FM_F32, .rank = 2, .dims = {group->O, group->R}};
    t[LORA_SPANS] = (struct fm_tensor){.dtype = FM_I32, .rank = 2, .dims = {n_choices, 2}};
    t[LORA_GAIN] = (struct fm_tensor){.dtype = FM_F32, .rank = 2, .dims = {n_choices, group->O}};
    if (!group->dora) t[LORA_GAIN] = (struct fm_tensor){.dtype = FM_DTYPE_COUNT};
}

static fm_status place(struct fm_adapter_set *set, struct fm_error *err)
{
    struct fm_device_props props;
    fm_device_get_props(set->device, &props);
    const size_t alignment = props.alignment > 64 ? props.alignment : 64;
    size_t total = 0;
    for (int i = 0; i < set->n_groups; i++) {
        describe(&set->groups[i], set->n_choices);
        for (int k = 0; k < N_KINDS; k++) {
            struct fm_tensor *t = &set->groups[i].tensors[k];
            if (t->dtype == FM_DTYPE_COUNT) continue;
            fm_tensor_set_contiguous(t);
            if (k == LORA_A || k == LORA_B) t->layout = fm__device_weight_layout(set->device, t);
            t->offset = total;
            total += fm__align_up(fm__device_weight_bytes(set->device, t), alignment);
        }
    }
    if (!total) return FM_OK;
    FM_TRY(set->device->v->alloc(set->device, total, &set->buffer, err));
    for (int i = 0; i < set->n_groups; i++)
        for (int k = 0; k < N_KINDS; k++) {
            struct fm_tensor *t = &set->groups[i].tensors[k];
            t->buffer = set->buffer;
            t->data = props.host_visible ? (char *)set->buffer->host + t->offset : NULL;
        }
    return FM_OK;
}

// Host copies of a group's tensors, zeroed.
struct host {
    float *a, *b, *gain;
    int32_t *spans;
};

static void host_deinit(struct host *h)
{
    fm__free(h->a);
    fm__free(h->b);
    fm__free(h->gain);
    fm__free(h->spans);
}

static fm_status host_init(struct host *h, const struct group *group, int n_choices, struct fm_error *err)
{
    h->a = fm__calloc((size_t)(group->R * group->K), sizeof *h->a);
    h->b = fm__calloc((size_t)(group->O * group->R), sizeof *h->b);
    h->gain = fm__calloc(group->dora ? (size_t)(n_choices * group->O) : 1, sizeof *h->gain);
    h->spans = fm__calloc((size_t)n_choices * 2, sizeof *h->spans);
    if (h->a && h->b && h->gain && h->spans) return FM_OK;
    return fm__fail_nomem(err, group->name, (size_t)(group->R * (group->K + group->O)) * sizeof *h->a);
}

// g of each output: m / |row of W + s B A|, in double.
static fm_status dora_gains(const struct fm_model *model, const struct fm_adapter_target *t, float s, float *gains,
                            struct fm_error *err)
{
    const struct fm_gguf_tensor *w = fm_gguf_find_tensor(fm_model_gguf(model), t->name);
    if (!w) w = fm_gguf_find_tensor(fm_model_gguf(model), "token_embd.weight"); // tied: checked to be there
    const size_t row_bytes = fm_dtype_row_bytes(w->view.dtype, t->n_in);
    char *raw = fm__malloc(row_bytes);
    float *row = fm__malloc((size_t)t->n_in * sizeof *row);
    fm_status status = raw && row ? FM_OK : fm__fail_nomem(err, t->name, row_bytes);
    for (int64_t o = 0; status == FM_OK && o < t->n_out; o++) {
        double squares = 0;
        status = fm_gguf_read(fm_model_gguf(model), w, (size_t)o * row_bytes, raw, row_bytes, err);
        if (status != FM_OK) break;
        fm__dequantise_row(w->view.dtype, raw, t->n_in, row);
        fm__adapter_add_row(t, s, o, row);
        for (int64_t k = 0; k < t->n_in; k++) squares += (double)row[k] * (double)row[k];
        if (!(squares > 0))
            status = fm__fail(err, FM_E_VERIFY, "adapter: %s: row %lld of the changed weight is zero: it has no length",
                              t->name, (long long)o);
        gains[o] = (float)((double)t->magnitude[o] / sqrt(squares));
    }
    fm__free(raw);
    fm__free(row);
    return status;
}

// Where a target's ranks go: columns [at, at + r) of group's b and rows of a.
struct spot {
    const struct group *group;
    int choice;
    int64_t at;
};

static fm_status add_target(const struct gather *gt, const struct fm_adapter_use *use,
                            const struct fm_adapter_target *t, const struct spot *spot, const struct host *h,
                            struct fm_error *err)
{
    const struct group *group = spot->group;
    const float s = fm_adapter_scale(use->adapter, t) * use->scale;
    float *gains = NULL;
    if (t->magnitude) {
        gains = fm__malloc((size_t)t->n_out * sizeof *gains);
        if (!gains) return fm__fail_nomem(err, t->name, (size_t)t->n_out * sizeof *gains);
        fm_status status = dora_gains(gt->model, t, s, gains, err);
        if (status != FM_OK) {
            fm__free(gains);
            return status;
        }
    }
    memcpy(h->a + spot->at * t->n_in, t->a, (size_t)(t->r * t->n_in) * sizeof *t->a);
    for (int64_t o = 0; o < t->n_out; o++) {
        const float factor = gains ? s * gains[o] : s;
        for (int64_t j = 0; j < t->r; j++) h->b[o * group->R + spot->at + j] = factor * t->b[o * t->r + j];
        if (gains) h->gain[spot->choice * t->n_out + o] += gains[o] - 1;
    }
    fm__free(gains);
    return FM_OK;
}

static fm_status write_group(struct fm_adapter_set *set, const struct group *group, struct host *h,
                             struct fm_error *err)
{
    const struct fm_tensor *t = group->tensors;
    if (fm__adapter_is_embedding(group->name)) {
        float *turned = fm__malloc((size_t)(group->R * group->K) * sizeof *turned);
        if (!turned) return fm__fail_nomem(err, group->name, (size_t)(group->R * group->K) * sizeof *turned);
        fm__adapter_turn(h->a, group->R, group->K, turned);
        fm__free(h->a);
        h->a = turned;
    }
    FM_TRY(fm__device_weight_write(set->device, &t[LORA_A], 0, t[LORA_A].dims[0], h->a, err));
    FM_TRY(fm__device_weight_write(set->device, &t[LORA_B], 0, t[LORA_B].dims[0], h->b, err));
    FM_TRY(fm__device_weight_write(set->device, &t[LORA_SPANS], 0, t[LORA_SPANS].dims[0], h->spans, err));
    return group->dora ? fm__device_weight_write(set->device, &t[LORA_GAIN], 0, t[LORA_GAIN].dims[0], h->gain, err)
                       : FM_OK;
}

static fm_status fill_group(const struct gather *gt, const struct group *group, struct fm_error *err)
{
    struct host h = {0};
    int64_t at = 0;
    fm_status status = host_init(&h, group, gt->set->n_choices, err);
    for (int i = 0; status == FM_OK && i < gt->set->n_choices; i++) {
        const struct fm_adapter_choice *choice = &gt->choices[i];
        int64_t end = at;
        for (int k = 0; status == FM_OK && k < choice->n_uses; k++) {
            const struct fm_adapter_target *t = fm_adapter_find(choice->uses[k].adapter, group->name);
            if (!t) continue;
            status = add_target(gt, &choice->uses[k], t, &(struct spot){group, i, end}, &h, err);
            end += t->r;
        }
        h.spans[2 * i] = (int32_t)at;
        h.spans[2 * i + 1] = (int32_t)end;
        at += whole_ranks(end - at);
    }
    if (status == FM_OK) status = write_group(gt->set, group, &h, err);
    host_deinit(&h);
    return status;
}

static fm_status make_ids(const struct gather *gt, struct fm_error *err)
{
    for (int i = 0; i < gt->set->n_choices; i++) {
        const struct fm_adapter_choice *choice = &gt->choices[i];
        struct fm__sha256 *hash = fm__sha256_new();
        fm_status status = hash ? FM_OK : fm__fail_nomem(err, "adapter hash", 0);
        for (int k = 0; status == FM_OK && k < choice->n_uses; k++) {
            char hex[FM_ADAPTER_HASH];
            status = fm_adapter_hash(choice->uses[k].adapter, hex, err);
            if (status == FM_OK) status = fm__sha256_update(hash, hex, sizeof hex, err);
            if (status == FM_OK) status = fm__sha256_update(hash, &choice->uses[k].scale, sizeof(float), err);
        }
        if (status == FM_OK) status = fm__sha256_final(hash, gt->set->ids[i], err);
        fm__sha256_free(hash);
        FM_TRY(status);
    }
    return FM_OK;
}

static fm_status gather(struct gather *gt, struct fm_error *err)
{
    FM_TRY(list_groups(gt, err));
    FM_TRY(make_ids(gt, err));
    FM_TRY(place(gt->set, err));
    for (int i = 0; i < gt->set->n_groups; i++) FM_TRY(fill_group(gt, &gt->set->groups[i], err));
    return FM_OK;
}

fm_status fm_adapter_set_new(const struct fm_model *model, const struct fm_adapter_choice *choices, int n,
                             struct fm_adapter_set **out, struct fm_error *err)
{
    *out = NULL;
    if (n < 1 || n > FM_ADAPTER_MAX_CHOICES)
        return fm__fail(err, FM_E_LIMIT, "adapters: %d choices, want 1 to %d", n, FM_ADAPTER_MAX_CHOICES);
    struct gather gt = {.set = fm__calloc(1, sizeof *gt.set), .model = model, .choices = choices};
    if (!gt.set) return fm__fail_nomem(err, "adapters", sizeof *gt.set);
    gt.set->device = fm__model_device(model);
    gt.set->n_choices = n;
    gt.set->ids = fm__calloc((size_t)n, sizeof *gt.set->ids);
    fm_status status = gt.set->ids ? gather(&gt, err) : fm__fail_nomem(err, "adapters", sizeof *gt.set->ids);
    if (status != FM_OK) {
        fm_adapter_set_free(gt.set);
        return status;
    }
    *out = gt.set;
    return FM_OK;
}
