// SPDX-License-Identifier: MIT
// Time, memory, operations, joules of a command.
#include "cli_stats.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "cli_out.h"
#include "cli_reply.h"
#include "model/model.h"

void fm__cli_stats_reply(struct fm_cli_stats *s, const struct fm_cli_reply *r)
{
    s->prompt_tokens += r->n_prompt;
    s->attended += r->attended;
    if (r->n_made == 0) return;
    s->prompt_seconds += r->first - r->begun; // of replies that ran together these overlap: rates are a reply's
    s->made_seconds += r->last - r->first;
    s->made_tokens += r->n_made - 1; // the first came with the prompt
    if (s->conversation)
        s->first_token = r->first - r->begun;
    else if (s->first_token <= 0)
        s->first_token = r->first - s->begun;
}

static bool read_number(const char *format, int i, uint64_t *out)
{
    char path[96];
    snprintf(path, sizeof path, format, i);
    FILE *f = fopen(path, "r");
    if (!f) return false;
    bool ok = fscanf(f, "%" SCNu64, out) == 1;
    fclose(f);
    return ok;
}

// Packages only: cores and memory controllers are inside them or absent.
static int read_rapl(uint64_t uj[FM_CLI_MAX_RAPL])
{
    int n = 0;
    while (n < FM_CLI_MAX_RAPL && read_number("/sys/class/powercap/intel-rapl:%d/energy_uj", n, &uj[n])) n++;
    return n;
}

void fm__cli_stats_begin(struct fm_cli_stats *s)
{
    s->begun = fm__seconds();
    s->n_rapl = s->on ? read_rapl(s->rapl_uj) : 0;
}

// The product that makes logits: output.weight, or the tied token_embd.weight.
static bool is_head(const struct fm_gguf *g, const char *name)
{
    return strcmp(name, fm_gguf_find_tensor(g, "output.weight") ? "output.weight" : "token_embd.weight") == 0;
}

double fm__cli_row_operations(const struct fm_model *model)
{
    const struct fm_gguf *g = fm_model_gguf(model);
    double elements = 0;
    for (uint64_t i = 0; i < fm_gguf_n_tensors(g); i++) {
        const struct fm_gguf_tensor *t = fm_gguf_tensor_at(g, i);
        bool looked_up = strcmp(t->name.p, "position_embd.weight") == 0 || strcmp(t->name.p, "token_embd.weight") == 0;
        if (t->view.rank == 2 && !looked_up && !is_head(g, t->name.p)) elements += (double)fm_tensor_elements(&t->view);
    }
    return 2 * elements;
}

double fm__cli_head_operations(const struct fm_model *model)
{
    const struct fm_gguf *g = fm_model_gguf(model);
    for (uint64_t i = 0; i < fm_gguf_n_tensors(g); i++) {
        const struct fm_gguf_tensor *t = fm_gguf_tensor_at(g, i);
        if (is_head(g, t->name.p)) return 2 * (double)fm_tensor_elements(&t->view);
    }
    return 0;
}

double fm__cli_attention_operations(const struct fm_model *model)
{
    const struct fm__hparams *hp = fm__model_hparams(model);
    return 2.0 * (double)(hp->n_layers * hp->n_heads * (hp->head_k + hp->head_v));
}

void fm__cli_stats_end(struct fm_cli_stats *s, const struct fm_cli_engine *engine)
{
    struct rusage usage;
    s->seconds = fm__seconds() - s->begun;
    if (getrusage(RUSAGE_SELF, &usage) == 0) s->peak_bytes = (uint64_t)usage.ru_maxrss * 1024;
    if (engine) s->load_seconds = engine->load_seconds;
    if (engine && engine->batcher) {
        struct fm_batcher_stats b;
        fm_batcher_get_stats(engine->batcher, &b);
        s->kv_used_bytes = b.kv_bytes_most;
        s->kv_reserved_bytes = b.kv_bytes_reserved;
        s->operations = (double)b.n_rows * fm__cli_row_operations(engine->model) +
                        (double)b.n_rows_logits * fm__cli_head_operations(engine->model) +
                        s->attended * fm__cli_attention_operations(engine->model);
    }
    uint64_t uj[FM_CLI_MAX_RAPL], range;
    s->joules = -1;
    if (!s->on || s->n_rapl == 0 || read_rapl(uj) != s->n_rapl) return;
    s->joules = 0;
    for (int i = 0; i < s->n_rapl; i++) {
        if (!read_number("/sys/class/powercap/intel-rapl:%d/max_energy_range_uj", i, &range)) range = 0;
        uint64_t used = uj[i] >= s->rapl_uj[i] ? uj[i] - s->rapl_uj[i] : uj[i] + range - s->rapl_uj[i]; // it wraps
        s->joules += (double)used * 1e-6;
    }
}

static double rate(int64_t n, double seconds)
{
    return seconds > 0 ? (double)n / seconds : 0;
}

void fm__cli_stats_print(const struct fm_cli_stats *s)
{
    if (!s->on) return;
    char peak[24], used[24], reserved[24];
    if (s->load_seconds > 0) fprintf(stderr, "load          %9.3f s\n", s->load_seconds);
    if (s->first_token > 0)
        fprintf(stderr, "first token   %9.3f s after the %s\n", s->first_token, s->conversation ? "question" : "start");
    if (s->prompt_tokens)
        fprintf(stderr, "prompt        %9" PRId64 " tokens, %.1f tokens/s\n", s->prompt_tokens,
                rate(s->prompt_tokens, s->prompt_seconds));
    if (s->made_tokens)
        fprintf(stderr, "generated     %9" PRId64 " tokens, %.1f tokens/s\n", s->made_tokens,
                rate(s->made_tokens, s->made_seconds));
    fprintf(stderr, "total         %9.3f s\n", s->seconds);
    fprintf(stderr, "peak memory   %9s\n", fm__cli_bytes(peak, s->peak_bytes));
    if (s->kv_reserved_bytes > 0)
        fprintf(stderr, "key/values    %9s used of %s reserved\n", fm__cli_bytes(used, s->kv_used_bytes),
                fm__cli_bytes(reserved, s->kv_reserved_bytes));
    if (s->operations > 0)
        fprintf(stderr, "operations    %9.3g, %.1f GOP/s\n", s->operations, s->operations / s->seconds * 1e-9);
    if (s->joules < 0) {
        fprintf(stderr, "energy        not available (no readable RAPL counter)\n");
    } else {
        fprintf(stderr, "energy        %9.2f J, %.3g operations/s per watt\n", s->joules,
                s->joules > 0 ? s->operations / s->joules : 0);
    }
}

void fm__cli_stats_json(const struct fm_cli_stats *s, json_t *to)
{
    if (!s->on || !to) return;
    json_t *all = json_pack("{s:f, s:f, s:I, s:f, s:I, s:f, s:I, s:I, s:I, s:f}", "load_s", s->load_seconds, "total_s",
                            s->seconds, "prompt_tokens", (json_int_t)s->prompt_tokens, "prompt_tokens_per_s",
                            rate(s->prompt_tokens, s->prompt_seconds), "generated_tokens", (json_int_t)s->made_tokens,
                            "generated_tokens_per_s", rate(s->made_tokens, s->made_seconds), "peak_bytes",
                            (json_int_t)s->peak_bytes, "kv_used_bytes", (json_int_t)s->kv_used_bytes,
                            "kv_reserved_bytes", (json_int_t)s->kv_reserved_bytes, "operations", s->operations);
    json_object_set_new(all, "first_token_s", s->first_token > 0 ? json_real(s->first_token) : json_null());
    json_object_set_new(all, "joules", s->joules < 0 ? json_string("not available") : json_real(s->joules));
    json_object_set_new(all, "operations_per_joule",
                        s->joules > 0 && s->operations > 0 ? json_real(s->operations / s->joules)
                                                           : json_string("not available"));
    json_object_set_new(to, "stats", all);
}

void fm__cli_stats_show(struct fm_cli_stats *s, const struct fm_cli_engine *engine, bool json)
{
    if (!s->on) return;
    fm__cli_stats_end(s, engine);
    if (!json) {
        fm__cli_stats_print(s);
        return;
    }
    json_t *line = json_object();
    fm__cli_stats_json(s, line);
    fm__cli_json(line);
}
