// SPDX-License-Identifier: MIT
// The public face of the template interpreter: owns the parsed tree, makes the variables a template sees and the bounds
// of a run. Everything of a run lies in one arena, freed at its end whatever happened.
#include <string.h>

#include "base/alloc.h"
#include "fathom/chat.h"
#include "text/jinja_run.h"
#include "text/jinja_unicode.h"

struct fm_chat_template {
    struct fm__arena arena;
    struct fm__jnode *root;
};

enum { DEFAULT_STEPS = 20000000, DEFAULT_OUTPUT = 16 << 20, DEFAULT_MEMORY = 256 << 20 };

fm_status fm_chat_template_new(const char *text, size_t n, struct fm_chat_template **out, struct fm_error *err)
{
    *out = NULL;
    if (!text || !n) return fm__fail(err, FM_E_NOT_FOUND, "the model has no chat template");
    struct fm_chat_template *tmpl = fm__calloc(1, sizeof *tmpl);
    if (!tmpl) return fm__fail_nomem(err, "chat template", sizeof *tmpl);
    fm_status status = fm__jinja_parse(text, n, &tmpl->arena, &tmpl->root, err);
    if (status != FM_OK) {
        fm_chat_template_free(tmpl);
        return status;
    }
    *out = tmpl;
    return FM_OK;
}

void fm_chat_template_free(struct fm_chat_template *tmpl)
{
    if (!tmpl) return;
    fm__arena_deinit(&tmpl->arena);
    fm__free(tmpl);
}

void fm_chat_text_free(char *text)
{
    fm__free(text);
}

static fm_status set_variable(struct fm__jrun *run, const char *name, struct fm__jv value)
{
    struct fm__jv key;
    FM_TRY(fm__jv_text(run, name, &key));
    return fm__j_scope_set(run, run->scope, key.str, value);
}

static fm_status checked_text(struct fm__jrun *run, const char *what, const char *p, size_t n, struct fm__jv *out)
{
    size_t bad = fm__utf8_bad_at(p, n);
    if (bad < n) return fm__fail(run->err, FM_E_FORMAT, "%s: byte %zu is not UTF-8", what, bad);
    return fm__jv_str(run, p, n, out);
}

static fm_status set_pair(struct fm__jrun *run, struct fm__jv map, const char *key, struct fm__jv value)
{
    struct fm__jv name;
    FM_TRY(fm__jv_text(run, key, &name));
    return fm__jv_map_set(run, map.map, name, value);
}

static fm_status make_messages(struct fm__jrun *run, const struct fm_chat_args *args, struct fm__jv *out)
{
    FM_TRY(fm__jv_list(run, J_PLAIN, 0, out));
    for (size_t i = 0; i < args->n_messages; i++) {
        const struct fm_chat_message *m = &args->messages[i];
        struct fm__jv message, text;
        if (!m->role || (!m->content && m->n_content))
            return fm__fail(run->err, FM_E_ARG, "message %zu: role or content is NULL", i);
        FM_TRY(fm__jv_map(run, &message));
        FM_TRY(checked_text(run, "message role", m->role, strlen(m->role), &text));
        FM_TRY(set_pair(run, message, "role", text));
        FM_TRY(checked_text(run, "message content", m->content ? m->content : "", m->n_content, &text));
        FM_TRY(set_pair(run, message, "content", text));
        FM_TRY(fm__jv_push(run, out->list, message));
    }
    return FM_OK;
}

static fm_status set_overrides(struct fm__jrun *run, const char *json)
{
    struct fm__jv v;
    FM_TRY(fm__jv_from_json(run, "template variables", json, strlen(json), &v));
    if (v.kind != J_MAP)
        return fm__fail(run->err, FM_E_FORMAT, "template variables: found %s, want a JSON object", fm__jv_type(v));
    for (int64_t i = 0; i < v.map->n; i++)
        FM_TRY(fm__j_scope_set(run, run->scope, v.map->e[i].key.str, v.map->e[i].value));
    return FM_OK;
}

// What transformers gives a template: tools and documents are there, as none, when there are none.
static fm_status set_variables(struct fm__jrun *run, const struct fm_chat_args *args)
{
    struct fm__jv v;
    if (args->messages_json) {
        FM_TRY(fm__jv_from_json(run, "messages", args->messages_json, strlen(args->messages_json), &v));
        if (v.kind != J_LIST)
            return fm__fail(run->err, FM_E_FORMAT, "messages: found %s, want a JSON array", fm__jv_type(v));
    } else {
        FM_TRY(make_messages(run, args, &v));
    }
    FM_TRY(set_variable(run, "messages", v));
    FM_TRY(set_variable(run, "tools", fm__jv_none()));
    FM_TRY(set_variable(run, "documents", fm__jv_none()));
    FM_TRY(set_variable(run, "add_generation_prompt", fm__jv_bool(args->add_generation_prompt)));
    const char *bos = args->bos_token ? args->bos_token : "", *eos = args->eos_token ? args->eos_token : "";
    FM_TRY(checked_text(run, "bos_token", bos, strlen(bos), &v));
    FM_TRY(set_variable(run, "bos_token", v));
    FM_TRY(checked_text(run, "eos_token", eos, strlen(eos), &v));
    FM_TRY(set_variable(run, "eos_token", v));
    return args->variables_json ? set_overrides(run, args->variables_json) : FM_OK;
}

static fm_status apply(struct fm__jrun *run, const struct fm_chat_template *tmpl, const struct fm_chat_args *args)
{
    FM_TRY(fm__j_scope_new(run, NULL, &run->scope));
    FM_TRY(set_variables(run, args));
    FM_TRY(fm__j_exec(run, &tmpl->root->body));
    return fm__j_write(run, "", 1); // the zero at the end
}

fm_status fm_chat_apply(const struct fm_chat_template *tmpl, const struct fm_chat_args *args, char **out, size_t *n,
                        struct fm_error *err)
{
    *out = NULL, *n = 0;
    if (!tmpl || !args || (args->n_messages && !args->messages))
        return fm__fail(err, FM_E_ARG, "fm_chat_apply: template, args or messages is NULL");
    const struct fm_chat_limits *limits = &args->limits;
    struct fm__jrun run = {
        .err = err,
        .steps_left = limits->max_steps ? limits->max_steps : DEFAULT_STEPS,
        .memory_left = limits->max_memory ? limits->max_memory : DEFAULT_MEMORY,
        .max_out = (limits->max_output ? limits->max_output : DEFAULT_OUTPUT) + 1,
        .line = 1,
        .pending_caller = {.kind = J_MISSING},
        .unix_time = args->unix_time,
    };
    fm_status status = apply(&run, tmpl, args);
    if (status == FM_OK) {
        *out = run.out;
        *n = run.n_out - 1;
    } else {
        fm__free(run.out);
    }
    fm__arena_deinit(&run.arena);
    return status;
}
