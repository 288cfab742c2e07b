// SPDX-License-Identifier: MIT
// Prompts with what follows them: a completion, or a chosen and a rejected answer (two documents of one sample). Texts,
// or for pairs also lists of messages, which the chat template renders.
#include <string.h>

#include "base/error.h"
#include "train/data_chat.h"

// Tokens of prompt + answer into b->ids, the answer's marked: those that the tokens of the prompt alone do not begin
// with, so that a token which straddles the border is predicted. `joined` is the two texts together.
static fm_status answer_tokens(struct fm__builder *b, struct fm_str prompt, struct fm_str joined, struct fm_error *err)
{
    b->ids.n = b->more.n = 0;
    FM_TRY(fm__build_encode(b, joined, FM_ENCODE_ADD_SPECIAL, &b->ids, err));
    FM_TRY(fm__build_encode(b, prompt, FM_ENCODE_ADD_SPECIAL, &b->more, err));
    if (b->end >= 0) FM_TRY(fm__ids_push(&b->ids, b->end, err));
    size_t from = 0;
    while (from < b->more.n && from < b->ids.n && b->more.p[from] == b->ids.p[from]) from++;
    for (size_t i = from > 0 ? from : 1; i < b->ids.n; i++) b->ids.p[i] |= FM__TOKEN_PREDICTED;
    return FM_OK;
}

static fm_status field(struct fm__builder *b, const json_t *row, const char *name, struct fm_str *out,
                       struct fm_error *err)
{
    const json_t *value = json_object_get(row, name);
    if (!json_is_string(value))
        return fm__bad(b, FM__SKIP_FIELD, err, "\"%s\" is %s, want a string", name, value ? "no string" : "missing");
    *out = (struct fm_str){json_string_value(value), json_string_length(value)};
    return FM_OK;
}

// The document row.prompt + row[name]; no prompt is an empty one.
static fm_status text_document(struct fm__builder *b, const json_t *row, const char *name, struct fm_error *err)
{
    struct fm_str prompt = {"", 0}, answer;
    if (json_object_get(row, "prompt")) FM_TRY(field(b, row, "prompt", &prompt, err));
    FM_TRY(field(b, row, name, &answer, err));
    if (!answer.n) return fm__bad(b, FM__SKIP_EMPTY, err, "\"%s\" is empty", name);
    json_t *joined = json_sprintf("%s%s", prompt.p, answer.p); // neither holds a zero: JSON's reader refuses them
    if (!joined) return fm__fail_nomem(err, "prompt and answer", prompt.n + answer.n);
    fm_status status =
        answer_tokens(b, prompt, (struct fm_str){json_string_value(joined), json_string_length(joined)}, err);
    json_decref(joined);
    return status == FM_OK ? fm__chat_fit(b, &b->ids, name, err) : status;
}

static fm_status completion(struct fm__builder *b, struct fm_str line, struct fm_error *err)
{
    json_t *row;
    FM_TRY(fm__build_object(b, line, &row, err));
    fm_status status = json_object_get(row, "prompt")
                           ? text_document(b, row, "completion", err)
                           : fm__bad(b, FM__SKIP_FIELD, err, "\"prompt\" is missing, want a string");
    json_decref(row);
    return status == FM_OK ? fm__build_emit(b, &(struct fm__sample){0}, false, err) : status;
}

fm_status fm__read_completion(struct fm__builder *b, const char *path, struct fm_error *err)
{
    return fm__build_each(b, path, fm__rows_line, completion, err);
}

// --- pairs ---

// The messages that both answers begin with.
static size_t shared_messages(const json_t *a, const json_t *b)
{
    size_t n = 0;
    while (n < json_array_size(a) && n < json_array_size(b) && json_equal(json_array_get(a, n), json_array_get(b, n)))
        n++;
    return n;
}

// The document of messages row.prompt (where there is one) + row[name].
static fm_status talk_document(struct fm__builder *b, const json_t *row, const char *name, struct fm_error *err)
{
    struct fm__talk talk, prompt = {0};
    if (!b->tmpl)
        return fm__bad(b, FM__SKIP_TEMPLATE, err, "\"%s\" is messages, but the model has no chat template", name);
    FM_TRY(fm__chat_talk(b, row, name, &talk, err));
    fm_status status = FM_OK;
    talk.from = shared_messages(json_object_get(row, "chosen"), json_object_get(row, "rejected"));
    if (json_object_get(row, "prompt")) {
        status = fm__chat_talk(b, row, "prompt", &prompt, err);
        talk.from += json_array_size(prompt.messages);
        json_t *all = status == FM_OK ? json_copy(prompt.messages) : NULL;
        if (status == FM_OK && (!all || json_array_extend(all, talk.messages)))
            status = fm__fail_nomem(err, "messages", 0);
        if (status == FM_OK) {
            json_decref(talk.messages);
            talk.messages = all;
        } else {
            json_decref(all);
        }
        fm__chat_talk_deinit(&prompt);
    }
    if (status == FM_OK) status = fm__chat_tokens(b, &talk, err);
    fm__chat_talk_deinit(&talk);
    return status == FM_OK ? fm__chat_fit(b, &b->ids, name, err) : status;
}

static fm_status document(struct fm__builder *b, const json_t *row, const char *name, struct fm_error *err)
{
    return json_is_array(json_object_get(row, name)) ? talk_document(b, row, name, err)
                                                     : text_document(b, row, name, err);
}

// Both documents, the chosen one in b->ids, the rejected one in b->more; `first` is scratch.
static fm_status both_documents(struct fm__builder *b, const json_t *row, struct fm__ids *first, struct fm_error *err)
{
    FM_TRY(document(b, row, "chosen", err));
    struct fm__ids swap = *first;
    *first = b->ids, b->ids = swap;
    FM_TRY(document(b, row, "rejected", err));
    if (first->n == b->ids.n && memcmp(first->p, b->ids.p, first->n * sizeof *first->p) == 0)
        return fm__bad(b, FM__SKIP_NO_TARGET, err, "\"chosen\" and \"rejected\" are the same%s",
                       first->n > (size_t)b->data->length ? " up to the length" : "");
    swap = b->more;
    b->more = b->ids, b->ids = *first, *first = swap;
    return fm__build_emit(b, &(struct fm__sample){0}, true, err);
}

static fm_status pair(struct fm__builder *b, struct fm_str line, struct fm_error *err)
{
    json_t *row;
    struct fm__ids first = {0};
    FM_TRY(fm__build_object(b, line, &row, err));
    fm_status status = both_documents(b, row, &first, err);
    fm__ids_deinit(&first);
    json_decref(row);
    return status;
}

fm_status fm__read_preference(struct fm__builder *b, const char *path, struct fm_error *err)
{
    return fm__build_each(b, path, fm__rows_line, pair, err);
}
