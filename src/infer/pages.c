// SPDX-License-Identifier: MIT
#include "infer/pages.h"

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "ops/kv_format.h"

struct page {
    int32_t refs;
    uint32_t generation; // counts contents: a child of an earlier content must not be found
    bool published;
    int32_t before; // published: the page before it, and the generation it had
    uint32_t before_generation;
    int32_t bucket, next_in_bucket;
    int32_t older, newer; // list of pages nobody holds, oldest first
    int32_t tokens[FM__KV_BLOCK];
};

struct fm__pages {
    int32_t n, n_held, n_held_most;
    int32_t oldest, newest; // of the unheld list: unpublished ones are put at its old end
    int32_t n_buckets;      // power of two
    int32_t *buckets;
    struct page *pages;
};

static void unlink_unheld(struct fm__pages *p, int32_t i)
{
    struct page *page = &p->pages[i];
    if (page->older >= 0)
        p->pages[page->older].newer = page->newer;
    else
        p->oldest = page->newer;
    if (page->newer >= 0)
        p->pages[page->newer].older = page->older;
    else
        p->newest = page->older;
}

static void link_unheld(struct fm__pages *p, int32_t i)
{
    struct page *page = &p->pages[i];
    bool at_old_end = !page->published;
    page->older = at_old_end ? -1 : p->newest;
    page->newer = at_old_end ? p->oldest : -1;
    if (page->older >= 0) p->pages[page->older].newer = i;
    if (page->newer >= 0) p->pages[page->newer].older = i;
    if (page->older < 0) p->oldest = i;
    if (page->newer < 0) p->newest = i;
}

fm_status fm__pages_new(int32_t n_pages, struct fm__pages **out, struct fm_error *err)
{
    *out = NULL;
    struct fm__pages *p = fm__calloc(1, sizeof *p);
    if (!p) return fm__fail_nomem(err, "page table", sizeof *p);
    p->n = n_pages;
    for (p->n_buckets = 16; p->n_buckets < n_pages; p->n_buckets *= 2) continue;
    p->pages = fm__calloc((size_t)n_pages, sizeof *p->pages);
    p->buckets = fm__malloc((size_t)p->n_buckets * sizeof *p->buckets);
    if (!p->pages || !p->buckets) {
        fm__pages_free(p);
        return fm__fail_nomem(err, "page table", (size_t)n_pages * sizeof *p->pages);
    }
    for (int32_t i = 0; i < p->n_buckets; i++) p->buckets[i] = FM__NO_PAGE;
    p->oldest = p->newest = -1;
    for (int32_t i = n_pages - 1; i >= 0; i--) link_unheld(p, i);
    *out = p;
    return FM_OK;
}

void fm__pages_free(struct fm__pages *p)
{
    if (!p) return;
    fm__free(p->pages);
    fm__free(p->buckets);
    fm__free(p);
}

static uint32_t generation_of(const struct fm__pages *p, int32_t page)
{
    return page < 0 ? 0 : p->pages[page].generation;
}

static int32_t bucket_of(const struct fm__pages *p, int32_t before, const int32_t *tokens)
{
    // FNV-1a over the words
    uint64_t hash = 0xcbf29ce484222325u;
    hash = (hash ^ (uint32_t)before) * 0x100000001b3u;
    hash = (hash ^ generation_of(p, before)) * 0x100000001b3u;
    for (int i = 0; i < FM__KV_BLOCK; i++) hash = (hash ^ (uint32_t)tokens[i]) * 0x100000001b3u;
    return (int32_t)((hash ^ hash >> 32) & (uint64_t)(p->n_buckets - 1));
}

// The content of the page is about to change: nobody may find it, or its children, any more.
static void withdraw(struct fm__pages *p, int32_t i)
{
    struct page *page = &p->pages[i];
    if (page->published) {
        int32_t *at = &p->buckets[page->bucket];
        while (*at != i) at = &p->pages[*at].next_in_bucket;
        *at = page->next_in_bucket;
        page->published = false;
    }
    page->generation++;
}

static void hold(struct fm__pages *p)
{
    if (++p->n_held > p->n_held_most) p->n_held_most = p->n_held;
}

int32_t fm__pages_take(struct fm__pages *p)
{
    int32_t i = p->oldest;
    if (i < 0) return FM__NO_PAGE;
    unlink_unheld(p, i);
    withdraw(p, i);
    p->pages[i].refs = 1;
    hold(p);
    return i;
}

int32_t fm__pages_available(const struct fm__pages *p)
{
    return p->n - p->n_held;
}

int32_t fm__pages_held(const struct fm__pages *p)
{
    return p->n_held;
}

int32_t fm__pages_held_most(const struct fm__pages *p)
{
    return p->n_held_most;
}

void fm__pages_ref(struct fm__pages *p, int32_t i)
{
    if (p->pages[i].refs++ == 0) {
        unlink_unheld(p, i);
        hold(p);
    }
}

void fm__pages_unref(struct fm__pages *p, int32_t i)
{
    if (--p->pages[i].refs) return;
    p->n_held--;
    link_unheld(p, i);
}

bool fm__pages_make_writable(struct fm__pages *p, int32_t i)
{
    if (p->pages[i].refs > 1) return false;
    withdraw(p, i);
    return true;
}

static int32_t lookup(const struct fm__pages *p, int32_t before, const int32_t *tokens)
{
    for (int32_t i = p->buckets[bucket_of(p, before, tokens)]; i != FM__NO_PAGE; i = p->pages[i].next_in_bucket) {
        const struct page *page = &p->pages[i];
        if (page->before == before && page->before_generation == generation_of(p, before) &&
            !memcmp(page->tokens, tokens, sizeof page->tokens))
            return i;
    }
    return FM__NO_PAGE;
}

void fm__pages_publish(struct fm__pages *p, int32_t i, int32_t before, const int32_t *tokens)
{
    struct page *page = &p->pages[i];
    if (page->published || lookup(p, before, tokens) != FM__NO_PAGE) return;
    page->published = true;
    page->before = before;
    page->before_generation = generation_of(p, before);
    memcpy(page->tokens, tokens, sizeof page->tokens);
    page->bucket = bucket_of(p, before, tokens);
    page->next_in_bucket = p->buckets[page->bucket];
    p->buckets[page->bucket] = i;
}

int32_t fm__pages_find(struct fm__pages *p, int32_t before, const int32_t *tokens)
{
    int32_t i = lookup(p, before, tokens);
    if (i != FM__NO_PAGE) fm__pages_ref(p, i);
    return i;
}
