// SPDX-License-Identifier: MIT
// Merging until the vocabulary is full. Each distinct piece is a word of symbols with its count. A pair of neighbours
// knows how often it occurs and in which words; a heap yields the one that occurs most. A merge touches only the words
// of its pair: the pairs around each joined place lose an occurrence, the new ones get one.
//
// Heap entries are never changed: a pair whose count fell is found out when it comes up and goes back with the count it
// has now; one whose count grew is pushed again. So the top entry that is still true is the greatest of all.
//
// Time O(S log S) for S symbols in distinct words; memory about 4 bytes a symbol, 8 a symbol for the lists, 40 a pair.
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "text/tok_internal.h"
#include "text/tok_train.h"

enum { NO_NODE = -1, REPORT_EVERY = 64 };

struct pair {
    int64_t count;
    int32_t left, right;
    int32_t words;  // first node of its list, NO_NODE
    int32_t rounds; // the merge in which it last grew, from 1
};

struct node { // a word that has (or had) the pair
    int32_t word, next;
};

struct candidate {
    int64_t count;
    int32_t left, right, pair;
};

struct word {
    uint32_t at, n; // symbols of the pool; n shrinks
};

struct training {
    struct fm__tok_trainer *t;
    struct fm_error *err;
    int32_t *symbols; // all words, one after the other
    struct word *words;
    struct pair *pairs;
    size_t n_pairs, cap_pairs;
    int32_t *slots; // hash from (left, right) to pair + 1
    size_t n_slots; // a power of two
    struct node *nodes;
    size_t n_nodes, cap_nodes;
    struct candidate *heap;
    size_t n_heap, cap_heap;
    int32_t *grown; // pairs that grew in this merge
    size_t n_grown, cap_grown;
    int32_t round;
};

static fm_status grow(struct training *s, void *pointer, size_t *cap, size_t element)
{
    size_t more = 2 * *cap + 4096, bytes;
    void *old, *new;
    memcpy(&old, pointer, sizeof old);
    if (more > INT32_MAX || !fm__mul_size(more, element, &bytes))
        return fm__fail(s->err, FM_E_LIMIT, "training text has too many different pieces");
    new = fm__realloc(old, bytes);
    if (!new) return fm__fail_nomem(s->err, "pairs", bytes);
    memcpy(pointer, &new, sizeof new);
    *cap = more;
    return FM_OK;
}

// --- the heap: greatest count first, then the smaller ids ---

static bool before(const struct candidate *a, const struct candidate *b)
{
    if (a->count != b->count) return a->count > b->count;
    return a->left != b->left ? a->left < b->left : a->right < b->right;
}

static fm_status push(struct training *s, int32_t pair)
{
    if (s->n_heap == s->cap_heap) FM_TRY(grow(s, &s->heap, &s->cap_heap, sizeof *s->heap));
    const struct pair *p = &s->pairs[pair];
    struct candidate item = {p->count, p->left, p->right, pair};
    size_t i = s->n_heap++;
    for (; i && before(&item, &s->heap[(i - 1) / 2]); i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = item;
    return FM_OK;
}

static struct candidate pop(struct training *s)
{
    struct candidate top = s->heap[0], last = s->heap[--s->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < s->n_heap; i = child) {
        if (child + 1 < s->n_heap && before(&s->heap[child + 1], &s->heap[child])) child++;
        if (!before(&s->heap[child], &last)) break;
        s->heap[i] = s->heap[child];
    }
    if (s->n_heap) s->heap[i] = last;
    return top;
}

// --- pairs ---

static size_t slot_of(const struct training *s, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t mask = s->n_slots - 1, i = (size_t)((key * 0x9e3779b97f4a7c15u) >> 29) & mask;
    while (s->slots[i] && (s->pairs[s->slots[i] - 1].left != left || s->pairs[s->slots[i] - 1].right != right))
        i = (i + 1) & mask;
    return i;
}

static fm_status rehash(struct training *s)
{
    size_t n_slots = s->n_slots ? 2 * s->n_slots : 1 << 16;
    int32_t *slots = fm__calloc(n_slots, sizeof *slots);
    if (!slots) return fm__fail_nomem(s->err, "pairs", n_slots * sizeof *slots);
    fm__free(s->slots);
    s->slots = slots;
    s->n_slots = n_slots;
    for (size_t i = 0; i < s->n_pairs; i++) s->slots[slot_of(s, s->pairs[i].left, s->pairs[i].right)] = (int32_t)i + 1;
    return FM_OK;
}

static fm_status get_pair(struct training *s, int32_t left, int32_t right, int32_t *pair)
{
    if (s->n_pairs >= s->n_slots / 2) FM_TRY(rehash(s));
    size_t slot = slot_of(s, left, right);
    if (!s->slots[slot]) {
        if (s->n_pairs == s->cap_pairs) FM_TRY(grow(s, &s->pairs, &s->cap_pairs, sizeof *s->pairs));
        s->pairs[s->n_pairs++] = (struct pair){.left = left, .right = right, .words = NO_NODE};
        s->slots[slot] = (int32_t)s->n_pairs;
    }
    *pair = s->slots[slot] - 1;
    return FM_OK;
}

// The pair occurs `count` times more, in this word.
static fm_status add_occurrence(struct training *s, int32_t left, int32_t right, int32_t word, int64_t count)
{
    int32_t i;
    FM_TRY(get_pair(s, left, right, &i));
    struct pair *p = &s->pairs[i];
    p->count += count; // NOLINT(clang-analyzer-core.NullDereference): grow() made room, which the analyser does not see
    if (p->words == NO_NODE || // NOLINT(clang-analyzer-core.NullDereference)
        s->nodes[p->words].word != word) {
        if (s->n_nodes == s->cap_nodes) FM_TRY(grow(s, &s->nodes, &s->cap_nodes, sizeof *s->nodes));
        s->nodes[s->n_nodes] = (struct node){word, p->words};
        p->words = (int32_t)s->n_nodes++;
    }
    if (p->rounds == s->round) return FM_OK;
    p->rounds = s->round;
    if (s->n_grown == s->cap_grown) FM_TRY(grow(s, &s->grown, &s->cap_grown, sizeof *s->grown));
    s->grown[s->n_grown++] = i;
    return FM_OK;
}

static void lose_occurrence(struct training *s, int32_t left, int32_t right, int64_t count)
{
    s->pairs[s->slots[slot_of(s, left, right)] - 1].count -= count;
}

static fm_status push_grown(struct training *s)
{
    for (size_t i = 0; i < s->n_grown; i++)
        if (s->pairs[s->grown[i]].count > 0) FM_TRY(push(s, s->grown[i]));
    s->n_grown = 0;
    s->round++;
    return FM_OK;
}

// --- words ---

static fm_status make_words(struct training *s, const int32_t byte_token[256])
{
    const struct fm__strtab *pieces = &s->t->pieces;
    s->symbols = fm__malloc((pieces->n_bytes + 1) * sizeof *s->symbols);
    s->words = fm__calloc((size_t)pieces->n + 1, sizeof *s->words);
    if (!s->symbols || !s->words) return fm__fail_nomem(s->err, "words", pieces->n_bytes * sizeof *s->symbols);
    s->round = 1;
    for (uint32_t w = 0; w < pieces->n; w++) {
        s->words[w] = (struct word){pieces->at[w], pieces->len[w]};
        int32_t *symbols = s->symbols + pieces->at[w];
        for (uint32_t i = 0; i < pieces->len[w]; i++) {
            symbols[i] = byte_token[(unsigned char)pieces->bytes[pieces->at[w] + i]];
            if (i) FM_TRY(add_occurrence(s, symbols[i - 1], symbols[i], (int32_t)w, s->t->counts[w]));
        }
    }
    return push_grown(s);
}

// Joins left and right to merged wherever they stand side by side in the word, from the left.
static fm_status merge_word(struct training *s, int32_t w, const struct fm__tok_merge *m)
{
    int32_t *symbols = s->symbols + s->words[w].at;
    int64_t count = s->t->counts[w];
    uint32_t n = s->words[w].n, kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (symbols[i] != m->left || i + 1 >= n || symbols[i + 1] != m->right) {
            symbols[kept++] = symbols[i];
            continue;
        }
        if (kept) {
            lose_occurrence(s, symbols[kept - 1], m->left, count);
            FM_TRY(add_occurrence(s, symbols[kept - 1], m->merged, w, count));
        }
        if (i + 2 < n) {
            lose_occurrence(s, m->right, symbols[i + 2], count);
            FM_TRY(add_occurrence(s, m->merged, symbols[i + 2], w, count));
        }
        symbols[kept++] = m->merged;
        i++;
    }
    s->words[w].n = kept;
    return FM_OK;
}

// The token that the pair becomes: a new one, or one that other merges have made. *merged -1: it may not be merged,
// since it would spell a special token or become longer than a token may be.
static fm_status name_token(struct training *s, const struct pair *p, int32_t *merged)
{
    struct fm__strtab *tokens = &s->t->tokens;
    char bytes[FM__TOKEN_MAX];
    size_t left = tokens->len[p->left], right = tokens->len[p->right];
    *merged = -1;
    if (left + right > FM__TOKEN_MAX) return FM_OK;
    memcpy(bytes, tokens->bytes + tokens->at[p->left], left);
    memcpy(bytes + left, tokens->bytes + tokens->at[p->right], right);
    *merged = fm__strtab_find(tokens, bytes, left + right);
    if (*merged >= s->t->first_special && *merged < s->t->first_special + s->t->args.n_special)
        *merged = -1;
    else if (*merged < 0) {
        uint32_t same;
        if (!fm__strtab_add(tokens, bytes, left + right) || !fm__strtab_key(tokens, tokens->n - 1, &same))
            return fm__fail_nomem(s->err, "tokens", left + right);
        *merged = (int32_t)same;
    }
    return FM_OK;
}

static fm_status merge_pair(struct training *s, int32_t i)
{
    struct pair p = s->pairs[i];
    struct fm__tok_merge merge = {p.left, p.right, -1};
    FM_TRY(name_token(s, &p, &merge.merged));
    s->pairs[i].words = NO_NODE;
    if (merge.merged >= 0) {
        FM_TRY(fm__tok_train_add_merge(s->t, merge, s->err));
        for (int32_t node = p.words; node != NO_NODE; node = s->nodes[node].next)
            FM_TRY(merge_word(s, s->nodes[node].word, &merge));
    }
    s->pairs[i].count = 0;
    return push_grown(s);
}

static fm_status merge_all(struct training *s)
{
    struct fm__tok_trainer *t = s->t;
    int64_t least = t->args.min_count > 0 ? t->args.min_count : 2;
    uint32_t vocab = (uint32_t)t->args.vocab_size;
    while (t->tokens.n < vocab && s->n_heap) {
        struct candidate top = pop(s);
        int64_t count = s->pairs[top.pair].count;
        if (top.count != count) {
            if (count > 0) FM_TRY(push(s, top.pair));
            continue;
        }
        if (count < least) break;
        FM_TRY(merge_pair(s, top.pair));
        if (t->args.progress && t->n_merges % REPORT_EVERY == 0 &&
            !t->args.progress(t->args.context, t->tokens.n, vocab))
            return fm__fail(s->err, FM_E_CANCELLED, "cancelled");
    }
    return FM_OK;
}

fm_status fm__tok_train_bpe(struct fm__tok_trainer *t, const int32_t byte_token[256], struct fm_error *err)
{
    struct training s = {.t = t, .err = err};
    fm_status status = make_words(&s, byte_token);
    if (status == FM_OK) status = merge_all(&s);
    fm__free(s.symbols);
    fm__free(s.words);
    fm__free(s.pairs);
    fm__free(s.slots);
    fm__free(s.nodes);
    fm__free(s.heap);
    fm__free(s.grown);
    return status;
}
