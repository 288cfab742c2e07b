// SPDX-License-Identifier: MIT
// The chat template of a model or a file, applied and tokenised.
#include "cli_template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"

enum { MAX_TEMPLATE = 1 << 20 };

fm_status fm__cli_template(const struct fm_cli_engine *e, const char *path, struct fm_chat_template **out,
                           struct fm_error *err)
{
    *out = NULL;
    struct fm_str text = {NULL, 0};
    if (!path) {
        if (!fm_gguf_get_str(fm_model_gguf(e->model), "tokenizer.chat_template", &text))
            return fm__fail(
                err, FM_E_UNSUPPORTED,
                "%s: has no chat template: a model that continues texts (fathom generate) and was not taught "
                "to answer; --chat-template-file FILE gives it one",
                e->path);
        fm_status status = fm_chat_template_new(text.p, text.n, out, err);
        return status == FM_OK ? status : fm__error_prefix(err, status, "%s", e->path);
    }
    char *file;
    size_t n;
    FM_TRY(fm__file_read_all(path, MAX_TEMPLATE, &file, &n, err));
    fm_status status = fm_chat_template_new(file, n, out, err);
    free(file);
    return status == FM_OK ? status : fm__error_prefix(err, status, "%s", path);
}

// The text of a token with a role, as the template wants it; "" where the model has none. `buf` holds it.
static const char *role_text(const struct fm_tokenizer *tok, fm_token_role role, char *buf, size_t size)
{
    struct fm_str text = fm_tokenizer_token_text(tok, fm_tokenizer_role(tok, role));
    snprintf(buf, size, "%.*s", (int)text.n, text.p ? text.p : "");
    return buf;
}

fm_status fm__cli_chat_ids(const struct fm_cli_engine *e, const struct fm_chat_template *tmpl,
                           const struct fm_chat_args *talk, int32_t **ids, int *n_ids, struct fm_error *err)
{
    char bos[256], eos[256], *text;
    size_t n;
    struct fm_chat_args args = *talk;
    args.bos_token = role_text(e->tok, FM_TOKEN_BOS, bos, sizeof bos);
    args.eos_token = role_text(e->tok, FM_TOKEN_EOS, eos, sizeof eos);
    args.add_generation_prompt = true;
    FM_TRY(fm_chat_apply(tmpl, &args, &text, &n, err));
    // a template that writes the BOS itself must not get a second one
    unsigned flags = FM_ENCODE_PARSE_SPECIAL;
    bool has_bos = bos[0] && strncmp(text, bos, strlen(bos)) == 0;
    if (!has_bos) flags |= FM_ENCODE_ADD_SPECIAL;
    fm_status status =
        fm__cli_encode(e->tok, &(struct fm_encode_args){.text = text, .n = n, .flags = flags}, ids, n_ids, err);
    fm_chat_text_free(text);
    if (status != FM_OK) return status;
    // and an answer goes on from here: no EOS at the end
    if (!has_bos && fm_tokenizer_adds_eos(e->tok) && *n_ids > 0) (*n_ids)--;
    return FM_OK;
}
