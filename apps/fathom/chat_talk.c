// SPDX-License-Identifier: MIT
// Messages in order: an optional system prompt, then user and assistant in turn.
#include "chat_talk.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/file.h"
#include "cli_out.h"
#include "cli_template.h"

static const size_t max_file = (size_t)64 << 20;

static void free_messages(struct fm_chat_message *messages, size_t from, size_t n)
{
    for (size_t i = from; i < n; i++) {
        free((void *)(uintptr_t)messages[i].role);
        free((void *)(uintptr_t)messages[i].content);
    }
}

void fm__chat_talk_free(struct fm_chat_talk *talk)
{
    free_messages(talk->messages, 0, talk->n);
    free(talk->messages);
    talk->messages = NULL;
    talk->n = talk->cap = 0;
}

static bool has_system(const struct fm_chat_talk *talk)
{
    return talk->n > 0 && strcmp(talk->messages[0].role, "system") == 0;
}

static void truncate_to(struct fm_chat_talk *talk, size_t n)
{
    free_messages(talk->messages, n, talk->n);
    talk->n = n;
}

void fm__chat_talk_reset(struct fm_chat_talk *talk)
{
    truncate_to(talk, has_system(talk));
}

static fm_status insert(struct fm_chat_talk *talk, size_t at, const char *role, struct fm_str content,
                        struct fm_error *err)
{
    if (talk->n == talk->cap) {
        size_t cap = 2 * talk->cap + 16;
        struct fm_chat_message *more = realloc(talk->messages, cap * sizeof *more);
        if (!more) return fm__fail_nomem(err, "messages", cap * sizeof *more);
        talk->messages = more;
        talk->cap = cap;
    }
    char *name = strdup(role), *text = malloc(content.n + 1);
    if (!name || !text) {
        free(name);
        free(text);
        return fm__fail_nomem(err, "message", content.n);
    }
    if (content.n) memcpy(text, content.p, content.n);
    text[content.n] = 0;
    memmove(talk->messages + at + 1, talk->messages + at, (talk->n - at) * sizeof *talk->messages);
    talk->messages[at] = (struct fm_chat_message){.role = name, .content = text, .n_content = content.n};
    talk->n++;
    return FM_OK;
}

static void drop(struct fm_chat_talk *talk, size_t at, size_t n)
{
    free_messages(talk->messages, at, at + n);
    memmove(talk->messages + at, talk->messages + at + n, (talk->n - at - n) * sizeof *talk->messages);
    talk->n -= n;
}

fm_status fm__chat_talk_system(struct fm_chat_talk *talk, const char *text, size_t n, struct fm_error *err)
{
    bool had = has_system(talk);
    if (n) FM_TRY(insert(talk, 0, "system", (struct fm_str){text, n}, err));
    if (had) drop(talk, n != 0, 1);
    return FM_OK;
}

// The prompt's ids, after dropping the oldest turns where they would leave the answer less than an eighth of the
// context.
static fm_status prompt_ids(struct fm_chat_talk *talk, int32_t **ids, int *n_ids, struct fm_error *err)
{
    size_t first = has_system(talk), dropped = 0;
    for (;;) {
        struct fm_chat_args args = {.messages = talk->messages, .n_messages = talk->n};
        FM_TRY(fm__cli_chat_ids(talk->engine, talk->tmpl, &args, ids, n_ids, err));
        bool fits = *n_ids <= talk->engine->n_ctx - talk->engine->n_ctx / 8;
        if (fits || talk->n <= first + 2) break;
        free(*ids);
        drop(talk, first, 2); // a question and its answer
        dropped += 2;
    }
    if (dropped)
        fprintf(stderr, "fathom: the context of %d tokens is full: the first %zu messages are forgotten\n",
                talk->engine->n_ctx, dropped);
    return FM_OK;
}

fm_status fm__chat_talk_ask(struct fm_chat_talk *talk, const char *text, size_t n, struct fm_cli_reply *reply,
                            struct fm_error *err)
{
    int32_t *ids = NULL;
    int n_ids = 0;
    *reply = (struct fm_cli_reply){0};
    FM_TRY(insert(talk, talk->n, "user", (struct fm_str){text, n}, err));
    fm_status status = prompt_ids(talk, &ids, &n_ids, err);
    if (status == FM_OK)
        status = fm__cli_reply_begin(reply, talk->engine, talk->session, talk->sampler, &talk->reply, err);
    if (status == FM_OK) status = fm__cli_reply_prompt(reply, ids, n_ids, err);
    if (status == FM_OK) status = fm__cli_reply_run(reply, talk->trace, err);
    if (status == FM_OK) {
        fm__cli_stats_reply(talk->stats, reply);
        status = insert(talk, talk->n, "assistant", (struct fm_str){reply->text.p, reply->text.n}, err);
    }
    free(ids);
    if (status != FM_OK) truncate_to(talk, talk->n - 1);
    return status;
}

fm_status fm__chat_talk_save(struct fm_chat_talk *talk, const char *path, struct fm_error *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < talk->n; i++) {
        const struct fm_chat_message *m = &talk->messages[i];
        json_array_append_new(
            list, json_pack("{s:s, s:o}", "role", m->role, "content", fm__cli_text(m->content, m->n_content)));
    }
    json_t *all =
        json_pack("{s:i, s:s, s:o}", "fathom_conversation", 1, "model", talk->engine->info.name, "messages", list);
    char *text = all ? json_dumps(all, JSON_INDENT(1)) : NULL;
    json_decref(all);
    if (!text) return fm__fail_nomem(err, path, 0);
    fm_status status = fm__file_write_all(path, text, strlen(text), err);
    free(text);
    // an answer that was stopped left its last token pending
    while (status == FM_OK && fm_session_pending(talk->session))
        status = fm_batcher_step(talk->engine->batcher, NULL, err);
    if (status != FM_OK) return status;
    char *kv;
    if (asprintf(&kv, "%s.kv", path) < 0) return fm__fail_nomem(err, path, strlen(path));
    status = fm_session_save(talk->session, kv, err);
    free(kv);
    return status;
}

static fm_status read_messages(struct fm_chat_talk *to, const char *path, const char *text, size_t n,
                               struct fm_error *err)
{
    json_error_t why;
    json_t *all = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
    if (!all) return fm__fail(err, FM_E_FORMAT, "%s: %s (line %d)", path, why.text, why.line);
    json_t *list = json_object_get(all, "messages");
    fm_status status = FM_OK;
    if (!json_is_array(list) || json_integer_value(json_object_get(all, "fathom_conversation")) != 1)
        status = fm__fail(err, FM_E_FORMAT,
                          "%s: not a saved conversation (want \"fathom_conversation\": 1, \"messages\")", path);
    for (size_t i = 0; status == FM_OK && i < json_array_size(list); i++) {
        json_t *message = json_array_get(list, i), *content = json_object_get(message, "content");
        const char *role = json_string_value(json_object_get(message, "role"));
        if (!role || !json_is_string(content)) {
            status = fm__fail(err, FM_E_FORMAT, "%s: message %zu has no \"role\" and \"content\"", path, i);
        } else {
            struct fm_str str = {json_string_value(content), json_string_length(content)};
            status = insert(to, to->n, role, str, err);
        }
    }
    json_decref(all);
    return status;
}

fm_status fm__chat_talk_load(struct fm_chat_talk *talk, const char *path, struct fm_error *err)
{
    char *text, *kv;
    size_t n;
    struct fm_chat_talk fresh = {0};
    FM_TRY(fm__file_read_all(path, max_file, &text, &n, err));
    fm_status status = read_messages(&fresh, path, text, n, err);
    fm__free(text);
    if (status != FM_OK) {
        fm__chat_talk_free(&fresh);
        return status;
    }
    fm__chat_talk_free(talk);
    talk->messages = fresh.messages;
    talk->n = fresh.n;
    talk->cap = fresh.cap;
    if (asprintf(&kv, "%s.kv", path) < 0) return FM_OK;
    struct fm_error why = {0};
    if (fm_session_load(talk->session, kv, &why) != FM_OK)
        fprintf(stderr, "fathom: %s; the conversation is evaluated again\n", why.text);
    free(kv);
    return FM_OK;
}
