// SPDX-License-Identifier: MIT
// A training run from its options to its result.
#include "train_run.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/sha256.h"
#include "cli_out.h"
#include "train/export.h"
#include "train/loop.h"
#include "train_log.h"

struct run {
    struct fm_train_run *asked;
    struct fm_finetune_opts *o;
    struct fm_cli_engine engine;
    struct fm__dataset *data, *valid_data;
    struct fm__loader *loader, *valid;
    struct fm__trainer *trainer;
    struct fm_train_log log;
    struct fm__comm *comm;   // the processes of mpirun; else one
    char *folder, *log_path; // owned, where they were not given
    const char **label_names;
};

// --- data ---

static struct fm__data_opts data_opts(const struct run *c, struct fm_str template, const char *cache)
{
    return (struct fm__data_opts){.kind = (enum fm__data_kind)c->o->kind,
                                  .tok = c->engine.tok,
                                  .chat_template = template.p,
                                  .n_chat_template = template.n,
                                  .length = c->o->length,
                                  .skip_bad = c->o->skip_bad,
                                  .seed = (uint64_t)c->o->seed,
                                  .cache = cache};
}

// Of several processes the first one talks.
static bool speaks(const struct run *c)
{
    return fm__comm_rank(c->comm) == 0;
}

static void say_counts(const struct run *c, const struct fm__dataset *data, const char *what)
{
    if (!speaks(c)) return;
    const struct fm__data_counts *n = fm__dataset_counts(data);
    fprintf(stderr, "%s: %lld rows, %lld used, %lld tokens, %lld to be predicted", what, (long long)n->rows,
            (long long)n->used, (long long)n->tokens, (long long)n->targets);
    if (n->truncated) fprintf(stderr, ", %lld cut to %lld tokens", (long long)n->truncated, (long long)c->o->length);
    for (int i = 0; i < FM__SKIP_COUNT; i++)
        if (n->skipped[i])
            fprintf(stderr, ", %lld skipped (%s)", (long long)n->skipped[i], fm__data_skip_text((enum fm__data_skip)i));
    if (n->turns_lost) fprintf(stderr, ", %lld answers that the template does not show", (long long)n->turns_lost);
    fprintf(stderr, "\n%s: %s\n", what, fm__dataset_note(data));
    for (int i = 0; fm__dataset_bad_row(data, i); i++) fprintf(stderr, "  %s\n", fm__dataset_bad_row(data, i));
}

static fm_status keep_labels(struct run *c, struct fm_error *err)
{
    const int32_t n = fm__dataset_n_labels(c->data);
    c->label_names = fm__calloc((size_t)n + 1, sizeof *c->label_names);
    if (!c->label_names) return fm__fail_nomem(err, "labels", (size_t)n * sizeof *c->label_names);
    for (int32_t i = 0; i < n; i++) c->label_names[i] = fm__dataset_label(c->data, i);
    return FM_OK;
}

static fm_status open_data(struct run *c, struct fm_error *err)
{
    struct fm_str template = {NULL, 0};
    char *cache = NULL;
    fm_gguf_get_str(fm_model_gguf(c->engine.model), "tokenizer.chat_template", &template);
    FM_TRY(fm__data_cache_folder(&cache, err));
    struct fm__data_opts opts = data_opts(c, template, cache);
    opts.paths = c->o->files;
    opts.n_paths = c->o->positionals.n;
    opts.validation = c->o->valid_list.n ? 0 : c->o->validation;
    fm_status status = fm__dataset_open(&opts, &c->data, err);
    if (status == FM_OK) say_counts(c, c->data, "training data");
    if (status == FM_OK) status = keep_labels(c, err);
    if (status == FM_OK && c->o->valid_list.n) {
        opts.paths = c->o->valid_files;
        opts.n_paths = c->o->valid_list.n;
        opts.labels = c->o->kind == FM__DATA_CLASSIFY ? c->label_names : NULL;
        opts.n_labels = c->o->kind == FM__DATA_CLASSIFY ? (size_t)fm__dataset_n_labels(c->data) : 0;
        status = fm__dataset_open(&opts, &c->valid_data, err);
        if (status == FM_OK) say_counts(c, c->valid_data, "validation data");
    }
    fm__free(cache);
    return status;
}

static fm_status open_loaders(struct run *c, struct fm_error *err)
{
    const bool part = !c->o->valid_list.n && c->o->validation > 0;
    struct fm__loader_opts opts = {.part = part ? FM__DATA_TRAIN : FM__DATA_ALL,
                                   .order = c->o->kind == FM__DATA_TEXT ? FM__ORDER_SHUFFLED : FM__ORDER_BUCKETED,
                                   .rows = c->o->rows,
                                   .batch = c->o->batch,
                                   .seed = (uint64_t)c->o->seed,
                                   .rank = fm__comm_rank(c->comm),
                                   .n_ranks = fm__comm_size(c->comm),
                                   .balance = c->o->balance};
    FM_TRY(fm__loader_new(c->data, &opts, &c->loader, err));
    if (!part && !c->valid_data) return FM_OK;
    opts = (struct fm__loader_opts){.part = part ? FM__DATA_VALID : FM__DATA_ALL,
                                    .order = FM__ORDER_SEQUENTIAL,
                                    .rows = c->o->rows,
                                    .rank = fm__comm_rank(c->comm),
                                    .n_ranks = fm__comm_size(c->comm),
                                    .batch = 1 << 20}; // packed as full as can be
    return fm__loader_new(part ? c->data : c->valid_data, &opts, &c->valid, err);
}

// --- the trainer ---

static enum fm__task task_of(int kind)
{
    return kind == FM__DATA_CLASSIFY ? FM__TASK_CLASSIFY : kind == FM__DATA_REGRESS ? FM__TASK_REGRESS : FM__TASK_LM;
}

static fm_status open_trainer(struct run *c, struct fm_error *err)
{
    const struct fm__trainer_opts opts = {
        .model = c->engine.model,
        .comm = c->comm,
        .task = task_of(c->o->kind),
        .n_classes = fm__dataset_n_labels(c->data),
        .n_rows = c->o->rows,
        .lora = {.rank = c->o->rank,
                 .alpha = (float)(c->o->alpha > 0 ? c->o->alpha : 2 * c->o->rank),
                 .dropout = (float)c->o->lora_dropout,
                 .rank_stabilised = c->o->rs_lora,
                 .targets = c->o->targets},
        .dropout = c->o->rank ? 0 : (float)c->o->dropout,
        .seed = (uint64_t)c->o->seed,
        .bf16 = c->o->precision == 1,
        .optimiser = {.kind = (enum fm__optimiser_kind)c->o->optimiser, .weight_decay = c->o->decay},
        .arena_budget = (size_t)c->o->activations << 20};
    return fm__trainer_new(&opts, &c->trainer, err);
}

static struct fm__schedule schedule_of(const struct run *c)
{
    return (struct fm__schedule){.kind = (enum fm__schedule_kind)c->o->schedule,
                                 .max = c->o->rate,
                                 .min = c->o->schedule == FM__SCHEDULE_CONSTANT ? 0 : c->o->rate_min,
                                 .n_steps = c->o->steps,
                                 .n_warmup = c->o->warmup,
                                 .n_decay = c->o->steps / 5};
}

// What a run that goes on must have in common with the one that was stopped.
static fm_status settings_hash(const struct run *c, char hash[17], struct fm_error *err)
{
    uint8_t digest[FM__SHA256_BYTES];
    char hex[FM__SHA256_HEX], text[512];
    const int n = snprintf(
        text, sizeof text,
        "%d %d %a %a %d %.200s | %a %a | %lld %lld %lld %lld | %d %a %a %lld %lld | %d %a %a %lld %d %d", c->o->kind,
        c->o->rank, c->o->alpha, c->o->lora_dropout, c->o->rs_lora, c->o->targets, c->o->decay, c->o->dropout,
        (long long)c->o->length, (long long)c->o->rows, (long long)c->o->batch, (long long)c->o->seed, c->o->schedule,
        c->o->rate, c->o->rate_min, (long long)c->o->steps, (long long)c->o->warmup, c->o->optimiser, c->o->clip,
        c->o->validation, (long long)c->o->skip_bad, c->o->balance, c->o->precision);
    FM_TRY(fm__sha256_bytes(text, (size_t)n, digest, err));
    fm__sha256_hex(digest, hex);
    memcpy(hash, hex, 16);
    hash[16] = 0;
    return FM_OK;
}

// --- the run ---

static volatile sig_atomic_t stop;

static void on_signal(int signal)
{
    if (stop) _exit(128 + signal); // a second one does not wait for the step's end
    stop = 1;
}

static void on_step(void *context, const struct fm__loop_step *step)
{
    fm__train_log_step(context, step);
}

static void on_note(void *context, const char *text)
{
    fm__train_log_note(context, text);
}

static fm_status train(struct run *c, struct fm__loop_result *result, struct fm_error *err)
{
    struct fm__loop_opts opts = {.trainer = c->trainer,
                                 .comm = c->comm,
                                 .loader = c->loader,
                                 .valid = c->valid,
                                 .n_rows = c->o->rows,
                                 .schedule = schedule_of(c),
                                 .n_steps = (uint64_t)c->o->steps,
                                 .clip = c->o->clip,
                                 .skip_nonfinite = c->o->skip_nonfinite,
                                 .eval_every = (uint64_t)c->o->eval_every,
                                 .save_every = (uint64_t)c->o->save_every,
                                 .patience = (uint64_t)c->o->patience,
                                 .folder = c->o->folder,
                                 .keep = (int)c->o->keep,
                                 .resume = c->o->resume,
                                 .stop = &stop,
                                 .on_step = on_step,
                                 .on_note = on_note,
                                 .context = &c->log};
    opts.identity.model = fm__model_fingerprint(c->engine.model);
    opts.identity.data = fm__loader_position(c->loader).data;
    FM_TRY(fm__schedule_check(&opts.schedule, err));
    FM_TRY(settings_hash(c, opts.identity.settings, err));
    const struct sigaction action = {.sa_handler = on_signal};
    // mpirun passes USR1 on and waits, where it ends the job a second after INT and TERM
    static const int signals[] = {SIGINT, SIGTERM, SIGUSR1};
    const size_t n = fm__comm_size(c->comm) > 1 ? 3 : 2;
    struct sigaction old[3];
    for (size_t i = 0; i < n; i++) sigaction(signals[i], &action, &old[i]);
    const fm_status status = fm__loop_run(&opts, result, err);
    for (size_t i = 0; i < n; i++) sigaction(signals[i], &old[i], NULL);
    return status;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), k = strlen(end);
    return n >= k && !strcmp(text + n - k, end);
}

static fm_status write_result(struct run *c, struct fm_error *err)
{
    const char *const *labels = c->o->kind == FM__DATA_CLASSIFY ? c->label_names : NULL;
    if (!c->o->rank) return fm__export_gguf(c->trainer, c->o->out, c->o->type ? FM_F32 : FM_F16, labels, err);
    struct fm_adapter *adapter;
    FM_TRY(fm__export_adapter(c->trainer, c->engine.path, labels, &adapter, err));
    const struct fm_gguf *base = fm_model_gguf(c->engine.model);
    const fm_status status = ends_with(c->o->out, ".gguf") ? fm_adapter_write_gguf(adapter, base, c->o->out, err)
                                                           : fm_adapter_write_peft(adapter, base, c->o->out, err);
    fm_adapter_free(adapter);
    return status;
}

static int report(struct run *c, const struct fm__loop_result *r)
{
    static const char *const ends[] = {"done", "stopped", "no better"};
    const int stopped = fm_status_exit_code(FM_E_CANCELLED);
    if (c->asked->json) {
        json_t *all =
            json_pack("{s:s, s:s, s:I, s:s}", "end", ends[r->end], "out", r->end == FM__LOOP_STOPPED ? "" : c->o->out,
                      "steps", (json_int_t)r->steps, "checkpoint", r->checkpoint);
        if (r->best_step) {
            json_object_set_new(all, "best_step", json_integer((json_int_t)r->best_step));
            json_object_set_new(all, "best_loss", json_real(r->best));
        }
        const int code = fm__cli_json(all);
        fm__cli_stats_show(&c->asked->stats, NULL, true);
        return r->end == FM__LOOP_STOPPED && !code ? stopped : code;
    }
    if (r->end == FM__LOOP_STOPPED) {
        printf("stopped after step %llu; the same command with --resume goes on\n", (unsigned long long)r->steps);
    } else {
        printf("%s: trained for %llu steps\n", c->o->out, (unsigned long long)r->steps);
        if (r->best_step)
            printf("best validation loss %.4f after step %llu\n", r->best, (unsigned long long)r->best_step);
    }
    fm__cli_stats_show(&c->asked->stats, NULL, false);
    return r->end == FM__LOOP_STOPPED ? stopped : 0;
}

// Defaults that depend on other options.
static fm_status settle(struct run *c, struct fm_error *err)
{
    if (c->o->rate == 0) c->o->rate = c->o->rank ? 1e-4 : 1e-5;
    if (c->o->rate_min < 0) c->o->rate_min = c->o->rate / 10;
    if (c->o->length == 0) c->o->length = c->engine.info.n_ctx_train < 512 ? c->engine.info.n_ctx_train : 512;
    if (c->o->rows == 0) c->o->rows = c->o->length > 512 ? c->o->length : 512;
    if (c->o->rows < c->o->length)
        return fm__fail(err, FM_E_ARG, "--rows %lld: a sample may have %lld (--length)", (long long)c->o->rows,
                        (long long)c->o->length);
    return FM_OK;
}

static fm_status make_paths(struct run *c, struct fm_error *err)
{
    if (!c->o->out) return fm__fail(err, FM_E_ARG, "-o: where the result goes is missing");
    if (!c->o->folder && asprintf(&c->folder, "%s.run", c->o->out) > 0) c->o->folder = c->folder;
    if (!c->o->folder) return fm__fail_nomem(err, "path", strlen(c->o->out) + 8);
    if (mkdir(c->o->folder, 0777) != 0 && errno != EEXIST)
        return fm__fail(err, FM_E_IO, "%s: cannot make it: %s", c->o->folder, strerror(errno));
    if (!c->o->log_path && asprintf(&c->log_path, "%s/log.jsonl", c->o->folder) > 0) c->o->log_path = c->log_path;
    if (!c->o->log_path) return fm__fail_nomem(err, "path", strlen(c->o->folder) + 16);
    return c->asked->prepare ? c->asked->prepare(c->asked->context, c->o->folder, speaks(c), err) : FM_OK;
}

static fm_status open_model(struct run *c, struct fm_error *err)
{
    const int threads = fm__comm_take_cpus(c->comm);
    if (threads && !c->asked->args.threads) c->asked->args.threads = threads;
    FM_TRY(fm__cli_engine_open(&c->engine, &c->asked->args, err));
    return settle(c, err);
}

static fm_status open_all(struct run *c, struct fm_error *err)
{
    FM_TRY(open_loaders(c, err));
    const int64_t a_pass = fm__loader_n_steps(c->loader, 0);
    if (c->o->steps == 0) c->o->steps = a_pass * c->o->epochs;
    FM_TRY(open_trainer(c, err));
    const int size = fm__comm_size(c->comm);
    if (size > 1 && speaks(c))
        fprintf(stderr, "%d processes, this one on %d thread%s\n", size, c->engine.props.threads,
                c->engine.props.threads > 1 ? "s" : "");
    return speaks(c) ? fm__train_log_begin(&c->log, c->o->log_path, c->o->resume, err) : FM_OK;
}

// Does what makes files: the first rank, then the others, who find them. All return the same.
static fm_status in_turn(struct run *c, fm_status (*part)(struct run *c, struct fm_error *err), struct fm_error *err)
{
    fm_status status = speaks(c) ? part(c, err) : FM_OK;
    FM_TRY(fm__comm_agree(c->comm, status, err));
    if (!speaks(c)) status = part(c, err);
    return fm__comm_agree(c->comm, status, err);
}

static fm_status all(struct run *c, struct fm__loop_result *result, struct fm_error *err)
{
    FM_TRY(in_turn(c, make_paths, err));
    FM_TRY(fm__comm_agree(c->comm, open_model(c, err), err));
    FM_TRY(in_turn(c, open_data, err));
    FM_TRY(fm__comm_agree(c->comm, open_all(c, err), err));
    fm_status status = train(c, result, err);
    const fm_status logged = fm__train_log_end(&c->log, status == FM_OK ? err : NULL);
    if (status == FM_OK) status = logged;
    if (status != FM_OK || result->end == FM__LOOP_STOPPED) return status;
    fm__trainer_rest(c->trainer); // the result needs memory of its own
    return fm__comm_agree(c->comm, speaks(c) ? write_result(c, err) : FM_OK, err);
}

// Others are told of an error by rank 0, or ended where they cannot know of it.
static int failed(struct run *c, struct fm_error *err)
{
    int code = fm_status_exit_code(err->code);
    if (!fm__comm_agreed(c->comm)) fm__error_prefix(err, err->code, "rank %d", fm__comm_rank(c->comm));
    if (fm__comm_speaks(c->comm)) {
        code = fm__cli_error(c->asked->name, err, c->asked->json);
        if (!fm__comm_agreed(c->comm) && c->o->folder)
            fprintf(stderr, "fathom: all processes end; the last checkpoint in %s is whole, --resume goes on from it\n",
                    c->o->folder);
    }
    if (fm__comm_agreed(c->comm)) return code;
    fflush(NULL);
    fm__comm_abort(c->comm, code);
    return code;
}

int fm__train_run(struct fm_train_run *asked)
{
    struct run run = {.asked = asked, .o = &asked->opts}, *c = &run;
    struct fm_error err = {0};
    struct fm__loop_result result = {0};
    fm__cli_stats_begin(&c->asked->stats);
    c->log.json = asked->json;
    c->asked->args.for_training = true;
    fm_status status = fm__comm_open(&c->comm, &err);
    if (status == FM_OK) status = all(c, &result, &err);
    const int stopped = fm_status_exit_code(FM_E_CANCELLED);
    const int code = status != FM_OK                  ? failed(c, &err)
                     : speaks(c)                      ? report(c, &result)
                     : result.end == FM__LOOP_STOPPED ? stopped
                                                      : 0;
    fm__trainer_free(c->trainer);
    fm__loader_free(c->loader);
    fm__loader_free(c->valid);
    fm__dataset_close(c->data);
    fm__dataset_close(c->valid_data);
    fm__free(c->label_names);
    fm__cli_engine_close(&c->engine);
    fm__comm_close(c->comm);
    free(c->folder);
    free(c->log_path);
    return code;
}
