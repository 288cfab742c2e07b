// SPDX-License-Identifier: MIT
#include "text/tok_hash.h"

#include "text/tok_internal.h"

struct hasher {
    struct fm__sha256 *sha;
    struct fm_error *err;
};

// The length goes before the bytes, so that no two lists of fields give the same stream.
static fm_status add(const struct hasher *h, const void *p, size_t n)
{
    uint64_t length = n;
    FM_TRY(fm__sha256_update(h->sha, &length, sizeof length, h->err));
    return fm__sha256_update(h->sha, p, n, h->err);
}

static fm_status add_strings(const struct hasher *h, const struct fm__strtab *strings)
{
    FM_TRY(add(h, strings->bytes, strings->n_bytes));
    return add(h, strings->len, strings->n * sizeof *strings->len);
}

static fm_status add_all(const struct hasher *h, const struct fm_tokenizer *tok)
{
    const int32_t flags[] = {(int32_t)tok->style, tok->n_vocab,          tok->add_bos,
                             tok->add_eos,        tok->lowercase,        tok->strip_accents,
                             tok->ignore_merges,  tok->add_space_prefix, tok->merge_spaces};
    size_t n = (size_t)tok->n_vocab;
    FM_TRY(add(h, flags, sizeof flags));
    FM_TRY(add(h, tok->roles, sizeof tok->roles));
    FM_TRY(add_strings(h, &tok->text));
    FM_TRY(add_strings(h, &tok->key));
    FM_TRY(add(h, tok->score, n * sizeof *tok->score));
    FM_TRY(add(h, tok->attr, n * sizeof *tok->attr));
    FM_TRY(add(h, tok->pre_name, tok->pre_name ? strlen(tok->pre_name) : 0));
    FM_TRY(add(h, tok->pairs, tok->n_pairs * sizeof *tok->pairs)); // filled in the order of the merges
    FM_TRY(add(h, tok->charsmap, tok->n_charsmap * sizeof *tok->charsmap));
    return add(h, tok->replacements, tok->n_replacements);
}

fm_status fm__tokenizer_hash(const struct fm_tokenizer *tok, uint8_t digest[FM__SHA256_BYTES], struct fm_error *err)
{
    struct hasher h = {fm__sha256_new(), err};
    if (!h.sha) return fm__fail_nomem(err, "hash of the tokenizer", FM__SHA256_BYTES);
    fm_status status = add_all(&h, tok);
    if (status == FM_OK) status = fm__sha256_final(h.sha, digest, err);
    fm__sha256_free(h.sha);
    return status;
}
