// SPDX-License-Identifier: MIT
// Conversations: rendered by the model's own template, with a loss on what the assistant says.
//
// Which part of the rendered text an assistant's turn is, only the template knows. It is found by rendering more:
//   start  what precedes the turn, rendered with the request for an answer ("generation prompt"), begins the whole
//   text; end    the conversation up to the turn, rendered, begins the whole text.
// Where a template looks ahead (thoughts kept in the last turn only) or asks for an answer in words that the finished
// conversation lacks, one of the two does not fit. Then the turn's content is replaced by another and the two texts are
// compared: what they do not share at the front and at the back is the content. A turn that shows by neither way (the
// template drops it) teaches nothing and is counted.
//
// Bytes become tokens by comparing too: the tokens of the whole text that those of the part begin with. A token that
// straddles a start is to be predicted, one that straddles an end is not. What follows the token that ends generation
// (a newline, with most templates) is not to be predicted: it never is when the model answers.
#include "train/data_chat.h"

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "fathom/chat.h"

// A fixed day, so that templates which print the date give the same tokens every day: 2024-07-26 12:00 UTC, the date
// that Llama 3's template falls back to.
static const int64_t DAY = 1721995200;

struct text {
    char *p;
    size_t n;
};

static size_t shared_prefix(struct text a, struct text b)
{
    size_t n = a.n < b.n ? a.n : b.n, i = 0;
    while (i < n && a.p[i] == b.p[i]) i++;
    return i;
}

static size_t shared_suffix(struct text a, struct text b, size_t most)
{
    size_t i = 0;
    while (i < most && a.p[a.n - 1 - i] == b.p[b.n - 1 - i]) i++;
    return i;
}

static bool begins(struct text whole, struct text part)
{
    return part.n <= whole.n && memcmp(whole.p, part.p, part.n) == 0;
}

// Renders the first n messages. A refusal marks the row as bad.
static fm_status render(struct fm__builder *b, const struct fm__talk *talk, size_t n, bool ask, struct text *out,
                        struct fm_error *err)
{
    *out = (struct text){0};
    json_t *part = json_array();
    bool ok = part != NULL;
    for (size_t i = 0; ok && i < n; i++) ok = json_array_append(part, json_array_get(talk->messages, i)) == 0;
    char *messages = ok ? json_dumps(part, JSON_COMPACT) : NULL;
    char *variables = ok && talk->variables ? json_dumps(talk->variables, JSON_COMPACT) : NULL;
    json_decref(part);
    fm_status status = messages && (variables || !talk->variables) ? FM_OK : fm__fail_nomem(err, "messages", n);
    if (status == FM_OK) {
        struct fm_chat_args args = {.messages_json = messages,
                                    .variables_json = variables,
                                    .bos_token = b->bos,
                                    .eos_token = b->eos,
                                    .add_generation_prompt = ask,
                                    .unix_time = DAY};
        status = fm_chat_apply(b->tmpl, &args, &out->p, &out->n, err);
        if (status != FM_OK && status != FM_E_NOMEM) b->skip = FM__SKIP_TEMPLATE;
    }
    fm__free(messages);
    fm__free(variables);
    return status;
}

// As render, but a refusal gives no text and FM_OK: the caller has another way.
static fm_status try_render(struct fm__builder *b, const struct fm__talk *talk, size_t n, bool ask, struct text *out,
                            struct fm_error *err)
{
    fm_status status = render(b, talk, n, ask, out, err);
    if (status == FM_OK || status == FM_E_NOMEM) return status;
    b->skip = FM__SKIP_NONE;
    return FM_OK;
}

// The whole conversation with another content in message i; no text where that cannot be.
static fm_status render_replaced(struct fm__builder *b, const struct fm__talk *talk, size_t i, struct text *out,
                                 struct fm_error *err)
{
    // its ends occur in no ordinary text, so that the comparison stops where the content begins and ends
    json_t *messages = json_copy(talk->messages), *message = json_copy(json_array_get(talk->messages, i));
    json_t *content = json_string("\xef\xbf\xbc another answer \xef\xbf\xbc");
    bool ok = messages && message && content && json_object_set(message, "content", content) == 0 &&
              json_array_set(messages, i, message) == 0;
    struct fm__talk other = {.messages = messages, .variables = talk->variables};
    fm_status status = ok ? try_render(b, &other, json_array_size(messages), false, out, err)
                          : fm__fail_nomem(err, "messages", json_array_size(talk->messages));
    json_decref(content);
    json_decref(message);
    json_decref(messages);
    return status;
}

// A byte of a character that is not its first.
static bool is_inside(struct text text, size_t at)
{
    return at < text.n && ((unsigned char)text.p[at] & 0xc0) == 0x80;
}

struct span {
    size_t from, to; // bytes of the whole text; empty: the turn does not show
    bool closed;     // what ends the turn is inside
};

// The span of message i by replacing its content.
static fm_status find_by_replacing(struct fm__builder *b, const struct fm__talk *talk, size_t i, struct text whole,
                                   struct span *span, struct fm_error *err)
{
    struct text other;
    *span = (struct span){0};
    FM_TRY(render_replaced(b, talk, i, &other, err));
    if (other.p) {
        size_t front = shared_prefix(whole, other), shorter = whole.n < other.n ? whole.n : other.n;
        size_t back = shared_suffix(whole, other, shorter - front);
        if (front + back < whole.n) *span = (struct span){.from = front, .to = whole.n - back};
        while (span->from > 0 && is_inside(whole, span->from)) span->from--; // bytes of one character may be alike
        while (span->to < whole.n && is_inside(whole, span->to)) span->to++;
    }
    fm_chat_text_free(other.p);
    return FM_OK;
}

static fm_status find_span(struct fm__builder *b, const struct fm__talk *talk, size_t i, struct text whole,
                           struct span *span, struct fm_error *err)
{
    struct text before = {0}, up_to = {0};
    *span = (struct span){0};
    fm_status status = try_render(b, talk, i, true, &before, err);
    if (status == FM_OK) status = try_render(b, talk, i + 1, false, &up_to, err);
    bool starts = before.p && begins(whole, before), ends = up_to.p && begins(whole, up_to);
    if (status == FM_OK && starts && ends && before.n < up_to.n)
        *span = (struct span){before.n, up_to.n, true};
    else if (status == FM_OK) {
        status = find_by_replacing(b, talk, i, whole, span, err);
        if (span->from < span->to && starts && before.n <= span->from) span->from = before.n;
        if (span->from < span->to && ends && up_to.n >= span->to) span->to = up_to.n, span->closed = true;
    }
    fm_chat_text_free(before.p);
    fm_chat_text_free(up_to.p);
    return status;
}

// How many of b->ids the tokens of the text's first n bytes begin with.
static fm_status tokens_of_prefix(struct fm__builder *b, struct text whole, size_t n, unsigned flags, size_t *out,
                                  struct fm_error *err)
{
    b->more.n = 0;
    FM_TRY(fm__build_encode(b, (struct fm_str){whole.p, n}, flags, &b->more, err));
    size_t most = b->more.n < b->ids.n ? b->more.n : b->ids.n;
    for (*out = 0; *out < most && b->more.p[*out] == FM__TOKEN_ID(b->ids.p[*out]);) ++*out;
    return FM_OK;
}

// Where the control tokens that stand at ids[at …] end generation: behind the one that does, or `at` if none of them
// does.
static size_t behind_end(const struct fm__builder *b, size_t at)
{
    const struct fm_tokenizer *tok = b->opts->tok;
    for (size_t i = at; i < b->ids.n; i++) {
        int32_t id = FM__TOKEN_ID(b->ids.p[i]);
        if (fm_tokenizer_is_eog(tok, id)) return i + 1;
        if (fm_tokenizer_token_type(tok, id) != FM_TOKEN_CONTROL) break;
    }
    return at;
}

// Marks the tokens of a span. *n_marked 0: none are left of it.
static fm_status mark(struct fm__builder *b, struct text whole, const struct span *span, unsigned flags,
                      size_t *n_marked, struct fm_error *err)
{
    size_t from, to;
    FM_TRY(tokens_of_prefix(b, whole, span->from, flags, &from, err));
    FM_TRY(tokens_of_prefix(b, whole, span->to, flags, &to, err));
    if (!span->closed) to = behind_end(b, to);
    *n_marked = 0;
    for (size_t i = from > 0 ? from : 1; i < to; i++) {
        b->ids.p[i] |= FM__TOKEN_PREDICTED;
        ++*n_marked;
        if (fm_tokenizer_is_eog(b->opts->tok, FM__TOKEN_ID(b->ids.p[i]))) break; // nothing is said behind it
    }
    return FM_OK;
}

static bool wants_loss(const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    const json_t *weight = json_object_get(message, "weight");
    return role && strcmp(role, "assistant") == 0 && !(json_is_number(weight) && json_number_value(weight) == 0);
}

static fm_status mark_turns(struct fm__builder *b, const struct fm__talk *talk, struct text whole, unsigned flags,
                            struct fm_error *err)
{
    size_t n = json_array_size(talk->messages), n_turns = 0, n_found = 0;
    for (size_t i = 0; i < n; i++) {
        struct span span = {0};
        size_t n_marked = 0;
        if (i < talk->from || !wants_loss(json_array_get(talk->messages, i))) continue;
        n_turns++;
        FM_TRY(find_span(b, talk, i, whole, &span, err));
        if (span.from < span.to) FM_TRY(mark(b, whole, &span, flags, &n_marked, err));
        n_found += n_marked > 0;
    }
    if (!n_turns) return fm__bad(b, FM__SKIP_NO_TARGET, err, "no message of the assistant to learn from");
    if (!n_found)
        return fm__bad(b, FM__SKIP_TEMPLATE, err,
                       "the chat template's text does not show which part the assistant says (%zu turns tried)",
                       n_turns);
    b->n_turns += (int64_t)n_found;
    b->n_turns_lost += (int64_t)(n_turns - n_found);
    return FM_OK;
}

fm_status fm__chat_tokens(struct fm__builder *b, const struct fm__talk *talk, struct fm_error *err)
{
    struct text whole;
    FM_TRY(render(b, talk, json_array_size(talk->messages), false, &whole, err));
    // as `fathom chat` does it: a template that writes the BOS itself must not get a second one
    unsigned flags = FM_ENCODE_PARSE_SPECIAL;
    if (!b->bos[0] || strncmp(whole.p, b->bos, strlen(b->bos)) != 0) flags |= FM_ENCODE_ADD_SPECIAL;
    b->ids.n = 0;
    fm_status status = fm__build_encode(b, (struct fm_str){whole.p, whole.n}, flags, &b->ids, err);
    if (status == FM_OK) status = mark_turns(b, talk, whole, flags, err);
    fm_chat_text_free(whole.p);
    return status;
}

// --- messages ---

// A control token written in a text would open or close turns: such a row teaches the model to do so.
static fm_status check_control(struct fm__builder *b, size_t i, const json_t *content, struct fm_error *err)
{
    const char *p = json_string_value(content);
    size_t n = json_string_length(content), at = 0;
    while (at < n && !b->control_first[(unsigned char)p[at]]) at++;
    if (at == n) return FM_OK;
    b->more.n = 0;
    FM_TRY(fm__build_encode(b, (struct fm_str){p, n}, FM_ENCODE_PARSE_SPECIAL, &b->more, err));
    for (size_t k = 0; k < b->more.n; k++) {
        if (fm_tokenizer_token_type(b->opts->tok, b->more.p[k]) != FM_TOKEN_CONTROL) continue;
        struct fm_str text = fm_tokenizer_token_text(b->opts->tok, b->more.p[k]);
        return fm__bad(b, FM__SKIP_CONTROL, err, "message %zu holds the control token \"%.*s\"", i + 1,
                       text.n > 60 ? 60 : (int)text.n, text.p);
    }
    return FM_OK;
}

static fm_status check_message(struct fm__builder *b, size_t i, const json_t *message, struct fm_error *err)
{
    const json_t *content = json_object_get(message, "content");
    if (!json_is_object(message)) return fm__bad(b, FM__SKIP_FIELD, err, "message %zu is no object", i + 1);
    if (!json_is_string(json_object_get(message, "role")))
        return fm__bad(b, FM__SKIP_FIELD, err, "message %zu has no \"role\" that is a string", i + 1);
    if (json_is_string(content)) return check_control(b, i, content, err);
    if (json_is_array(content) || json_object_get(message, "tool_calls")) return FM_OK;
    return fm__bad(b, FM__SKIP_FIELD, err, "message %zu has no \"content\" that is a string", i + 1);
}

static fm_status check_messages(struct fm__builder *b, const json_t *messages, const char *name, struct fm_error *err)
{
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return fm__bad(b, FM__SKIP_FIELD, err, "\"%s\" is %s, want an array of messages", name,
                       messages ? "no array, or empty" : "missing");
    for (size_t i = 0; i < json_array_size(messages); i++)
        FM_TRY(check_message(b, i, json_array_get(messages, i), err));
    return FM_OK;
}

// {"from", "value"} → {"role", "content"}. *out is a new reference.
static fm_status convert_turn(struct fm__builder *b, size_t i, const json_t *turn, json_t **out, struct fm_error *err)
{
    static const char *const roles[][2] = {{"human", "user"},          {"user", "user"},         {"gpt", "assistant"},
                                           {"assistant", "assistant"}, {"chatgpt", "assistant"}, {"model", "assistant"},
                                           {"bot", "assistant"},       {"system", "system"},     {"tool", "tool"},
                                           {"function", "tool"},       {"observation", "tool"}};
    const char *from = json_string_value(json_object_get(turn, "from"));
    json_t *value = json_object_get(turn, "value");
    if (!from || !json_is_string(value))
        return fm__bad(b, FM__SKIP_FIELD, err, "turn %zu has no \"from\" and \"value\" that are strings", i + 1);
    for (size_t r = 0; r < sizeof roles / sizeof *roles; r++) {
        if (strcmp(roles[r][0], from) != 0) continue;
        *out = json_pack("{s:s, s:O}", "role", roles[r][1], "content", value);
        return *out ? FM_OK : fm__fail_nomem(err, "messages", 0);
    }
    return fm__bad(b, FM__SKIP_FIELD, err, "turn %zu is from \"%.40s\", want human, gpt, system or tool", i + 1, from);
}

static fm_status convert_turns(struct fm__builder *b, const json_t *turns, json_t **out, struct fm_error *err)
{
    *out = NULL;
    if (!json_is_array(turns)) return fm__bad(b, FM__SKIP_FIELD, err, "\"conversations\" is no array");
    json_t *messages = json_array();
    fm_status status = messages ? FM_OK : fm__fail_nomem(err, "messages", 0);
    for (size_t i = 0; status == FM_OK && i < json_array_size(turns); i++) {
        json_t *message = NULL;
        status = convert_turn(b, i, json_array_get(turns, i), &message, err);
        if (status == FM_OK && json_array_append_new(messages, message)) status = fm__fail_nomem(err, "messages", i);
    }
    if (status == FM_OK)
        *out = messages;
    else
        json_decref(messages);
    return status;
}

// What a row says to the template besides its messages; NULL: nothing. A new reference.
static fm_status variables_of(const json_t *row, json_t **out, struct fm_error *err)
{
    static const char *const names[] = {"tools", "documents", "chat_template_kwargs"};
    *out = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        json_t *value = json_object_get(row, names[i]);
        if (!value || json_is_null(value)) continue;
        if (!*out) *out = json_object();
        bool ok = *out != NULL;
        if (ok && i == 2)
            ok = !json_is_object(value) || json_object_update(*out, value) == 0;
        else
            ok = ok && json_object_set(*out, names[i], value) == 0;
        if (ok) continue;
        json_decref(*out);
        *out = NULL;
        return fm__fail_nomem(err, "variables of a template", 0);
    }
    return FM_OK;
}

fm_status fm__chat_talk(struct fm__builder *b, const json_t *row, const char *name, struct fm__talk *talk,
                        struct fm_error *err)
{
    *talk = (struct fm__talk){0};
    json_t *messages = json_object_get(row, name), *turns = json_object_get(row, "conversations");
    if (!messages && turns && strcmp(name, "messages") == 0) {
        FM_TRY(convert_turns(b, turns, &talk->messages, err));
    } else {
        talk->messages = json_incref(messages);
    }
    fm_status status = check_messages(b, talk->messages, name, err);
    if (status == FM_OK) status = variables_of(row, &talk->variables, err);
    if (status != FM_OK) fm__chat_talk_deinit(talk);
    return status;
}

void fm__chat_talk_deinit(struct fm__talk *talk)
{
    json_decref(talk->messages);
    json_decref(talk->variables);
    *talk = (struct fm__talk){0};
}

fm_status fm__chat_fit(struct fm__builder *b, struct fm__ids *ids, const char *what, struct fm_error *err)
{
    size_t most = (size_t)b->data->length + 1, n = ids->n < most ? ids->n : most, i = 0;
    while (i < n && !(ids->p[i] & FM__TOKEN_PREDICTED)) i++;
    if (i == n && (i == ids->n || !b->opts->refuse_long))
        return fm__bad(b, FM__SKIP_NO_TARGET, err, "no token of %s within the first %zu", what, n);
    return fm__build_fit(b, ids, most, err);
}

static fm_status conversation(struct fm__builder *b, struct fm_str line, struct fm_error *err)
{
    json_t *row;
    struct fm__talk talk;
    FM_TRY(fm__build_object(b, line, &row, err));
    fm_status status = fm__chat_talk(b, row, "messages", &talk, err);
    json_decref(row);
    if (status != FM_OK) return status;
    status = fm__chat_tokens(b, &talk, err);
    fm__chat_talk_deinit(&talk);
    if (status == FM_OK) status = fm__chat_fit(b, &b->ids, "the assistant", err);
    return status == FM_OK ? fm__build_emit(b, &(struct fm__sample){0}, false, err) : status;
}

fm_status fm__read_chat(struct fm__builder *b, const char *path, struct fm_error *err)
{
    return fm__build_each(b, path, fm__rows_line, conversation, err);
}
