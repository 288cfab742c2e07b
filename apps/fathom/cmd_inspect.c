// SPDX-License-Identifier: MIT
// fathom inspect: what is in a model file; and with --plan what a step of the model does, op by op, with the bound of
// each and, after some runs, its share.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cli_engine.h"
#include "cli_out.h"
#include "cli_stats.h"
#include "commands.h"
#include "inspect_plan.h"

struct command {
    bool json, plan, dump, template, tensors, metadata;
    int rows, depth, reps;
    struct fm_cli_engine_args args;
    struct fm_cli_stats stats;
};

static void print_text(struct fm_str text, size_t most)
{
    for (size_t i = 0; i < text.n && i < most; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (c == '\n')
            fputs("\\n", stdout);
        else if (c < 0x20 || c == 0x7f)
            printf("\\x%02x", c);
        else
            putchar(c);
    }
    if (text.n > most) fputs("…", stdout);
}

static const char *type_name(fm_gguf_type type)
{
    static const char *const names[] = {"u8",   "i8",  "u16",  "i16", "u32", "i32", "f32",
                                        "bool", "str", "list", "u64", "i64", "f64"};
    return (size_t)type < sizeof names / sizeof *names ? names[type] : "?";
}

static bool is_real(fm_gguf_type type)
{
    return type == FM_GGUF_F32 || type == FM_GGUF_F64;
}

static void print_element(const struct fm_gguf_kv *kv, fm_gguf_type type, uint64_t i)
{
    struct fm_str text;
    int64_t whole;
    double number;
    if (type == FM_GGUF_STRING && fm_gguf_kv_str_at(kv, i, &text))
        print_text(text, 60);
    else if (!is_real(type) && fm_gguf_kv_i64_at(kv, i, &whole))
        printf("%" PRId64, whole);
    else if (fm_gguf_kv_f64_at(kv, i, &number))
        printf("%.9g", number);
}

static void print_kv(const struct fm_gguf_kv *kv)
{
    bool list = kv->type == FM_GGUF_ARRAY;
    fm_gguf_type type = list ? kv->array_type : kv->type;
    printf("%-44.*s %-4s ", (int)kv->key.n, kv->key.p, type_name(type));
    if (list) printf("[%" PRIu64 "] ", kv->n);
    for (uint64_t i = 0; i < kv->n && i < (list ? 8 : 1); i++) {
        if (i) fputs(", ", stdout);
        print_element(kv, type, i);
    }
    puts(list && kv->n > 8 ? ", …" : "");
}

static json_t *element_json(const struct fm_gguf_kv *kv, fm_gguf_type type, uint64_t i)
{
    struct fm_str text;
    int64_t whole;
    double number;
    if (type == FM_GGUF_STRING && fm_gguf_kv_str_at(kv, i, &text)) return fm__cli_text(text.p, text.n);
    if (type == FM_GGUF_BOOL && fm_gguf_kv_i64_at(kv, i, &whole)) return json_boolean(whole);
    if (!is_real(type) && fm_gguf_kv_i64_at(kv, i, &whole)) return json_integer(whole);
    if (fm_gguf_kv_f64_at(kv, i, &number) && number - number == 0) return json_real(number); // JSON has no infinity
    return json_null();
}

static json_t *kv_json(const struct fm_gguf_kv *kv)
{
    if (kv->type != FM_GGUF_ARRAY) return element_json(kv, kv->type, 0);
    json_t *list = json_array();
    for (uint64_t i = 0; i < kv->n; i++) json_array_append_new(list, element_json(kv, kv->array_type, i));
    return list;
}

static json_t *tensor_json(const struct fm_gguf_tensor *t)
{
    json_t *dims = json_array();
    for (int d = 0; d < t->view.rank; d++) json_array_append_new(dims, json_integer(t->view.dims[d]));
    return json_pack("{s:o, s:s, s:o, s:I, s:i, s:I}", "name", fm__cli_text(t->name.p, t->name.n), "type",
                     fm_dtype_info(t->view.dtype)->name, "dims", dims, "bytes", (json_int_t)t->bytes, "shard", t->shard,
                     "offset", (json_int_t)t->file_offset);
}

static void print_tensor(const struct fm_gguf_tensor *t)
{
    char dims[96], size[24];
    int n = 0;
    for (int d = 0; d < t->view.rank; d++)
        n += snprintf(dims + n, sizeof dims - (size_t)n, "%s%" PRId64, d ? " × " : "", t->view.dims[d]);
    printf("%-36.*s %-8s %-20s %10s\n", (int)t->name.n, t->name.p, fm_dtype_info(t->view.dtype)->name, dims,
           fm__cli_bytes(size, t->bytes));
}

static void summary(const struct fm_gguf *g, const char *path)
{
    uint64_t elements = 0, bytes = 0;
    char size[24];
    struct fm_str arch = {"?", 1};
    for (uint64_t i = 0; i < fm_gguf_n_tensors(g); i++) {
        elements += (uint64_t)fm_tensor_elements(&fm_gguf_tensor_at(g, i)->view);
        bytes += fm_gguf_tensor_at(g, i)->bytes;
    }
    fm_gguf_get_str(g, "general.architecture", &arch);
    printf("%s: %.*s, %" PRIu64 " metadata entries, %" PRIu64 " tensors, %" PRIu64 " weights in %s\n", path,
           (int)arch.n, arch.p, fm_gguf_n_kv(g), fm_gguf_n_tensors(g), elements, fm__cli_bytes(size, bytes));
}

static void show_json(struct command *c, const struct fm_gguf *g, const char *path)
{
    json_t *metadata = json_object(), *tensors = json_array();
    for (uint64_t i = 0; i < fm_gguf_n_kv(g); i++) {
        const struct fm_gguf_kv *kv = fm_gguf_kv_at(g, i);
        json_object_setn_new(metadata, kv->key.p, kv->key.n, kv_json(kv));
    }
    for (uint64_t i = 0; i < fm_gguf_n_tensors(g); i++)
        json_array_append_new(tensors, tensor_json(fm_gguf_tensor_at(g, i)));
    json_t *all = json_pack("{s:o, s:o, s:o}", "path", fm__cli_text(path, strlen(path)), "metadata", metadata,
                            "tensors", tensors);
    fm__cli_stats_end(&c->stats, NULL);
    fm__cli_stats_json(&c->stats, all);
    fm__cli_json(all);
}

static fm_status show_template(const struct fm_gguf *g, const char *path, struct fm_error *err)
{
    struct fm_str text;
    if (!fm_gguf_get_str(g, "tokenizer.chat_template", &text))
        return fm__fail(err, FM_E_NOT_FOUND, "%s: no chat template", path);
    fwrite(text.p, 1, text.n, stdout);
    putchar('\n');
    return FM_OK;
}

static fm_status show_file(struct command *c, struct fm_error *err)
{
    char *path;
    struct fm_gguf *g;
    fm_status status = fm__cli_open_vocab(&c->args, &path, &g, NULL, err);
    bool all = !c->tensors && !c->metadata;
    if (status == FM_OK && c->template) {
        status = show_template(g, path, err);
    } else if (status == FM_OK && c->json) {
        show_json(c, g, path);
    } else if (status == FM_OK) {
        summary(g, path);
        for (uint64_t i = 0; (all || c->metadata) && i < fm_gguf_n_kv(g); i++) print_kv(fm_gguf_kv_at(g, i));
        for (uint64_t i = 0; (all || c->tensors) && i < fm_gguf_n_tensors(g); i++)
            print_tensor(fm_gguf_tensor_at(g, i));
    }
    if (status == FM_OK && (c->template || !c->json)) fm__cli_stats_show(&c->stats, NULL, false);
    fm_gguf_close(g);
    free(path);
    return status;
}

int fm_cmd_inspect(int argc, char **argv)
{
    struct command c = {.rows = 1, .reps = 5};
    const char *words[1];
    struct fm_cli_list positionals = {words, 1, 0};
    struct fm_cli_opt model_opts[FM_CLI_MODEL_OPTS], run_opts[FM_CLI_RUN_OPTS];
    fm__cli_engine_defaults(&c.args);
    struct fm_cli_opt opts[] = {
        {.names = "--metadata", .type = FM_CLI_FLAG, .out = &c.metadata, .help = "only metadata"},
        {.names = "--tensors", .type = FM_CLI_FLAG, .out = &c.tensors, .help = "only tensors"},
        {.names = "--template", .type = FM_CLI_FLAG, .out = &c.template, .help = "only the chat template, as it is"},
    };
    struct fm_cli_opt plan_opts[] = {
        {.names = "--plan",
         .type = FM_CLI_FLAG,
         .out = &c.plan,
         .help = "op by op: kernel, shapes, bytes, operations, bound, measured share"},
        {.names = "--dump", .type = FM_CLI_FLAG, .out = &c.dump, .help = "the plan's own text: stages, places, memory"},
        {.names = "--rows",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &c.rows,
         .min = 1,
         .max = 8192,
         .help = "rows of the step [1]"},
        {.names = "--depth",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &c.depth,
         .max = 1 << 22,
         .help = "tokens before them [0]"},
        {.names = "--reps",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &c.reps,
         .max = 1000,
         .help = "runs that are measured; 0 none [5]"},
    };
    struct fm_cli_spec spec = {
        .name = "inspect",
        .summary = "what is in a model file; what a step of the model does",
        .args = "[MODEL]",
        .examples = "  fathom inspect model.gguf --tensors\n  fathom inspect --plan --rows 512\n"
                    "  fathom inspect gemma3 --template\n",
        .groups = {{"File", opts, FM_CLI_N(opts)},
                   {"Plan", plan_opts, FM_CLI_N(plan_opts)},
                   {"Model", model_opts, fm__cli_model_opts(&c.args, model_opts)},
                   {"Run", run_opts, fm__cli_run_opts(&c.args, run_opts)}},
        .json = &c.json,
        .stats = &c.stats.on,
        .positionals = &positionals,
    };
    int code;
    if (!fm__cli_parse(&spec, argc, argv, &code)) return code;
    struct fm_error err = {0};
    fm_status status = FM_OK;
    if (positionals.n && c.args.model)
        status = fm__fail(&err, FM_E_ARG, "two models: \"%s\" and -m \"%s\"", words[0], c.args.model);
    if (positionals.n) c.args.model = words[0];
    fm__cli_stats_begin(&c.stats);
    struct fm_inspect_plan plan = {
        .stats = &c.stats, .json = c.json, .dump = c.dump, .rows = c.rows, .depth = c.depth, .reps = c.reps};
    if (status == FM_OK) status = c.plan || c.dump ? fm__inspect_plan(&plan, &c.args, &err) : show_file(&c, &err);
    return status == FM_OK ? 0 : fm__cli_error("inspect", &err, c.json);
}
