// SPDX-License-Identifier: MIT
#include "graph/memory.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/error.h"

// By size, largest first; ties by position, so that the plan does not depend on qsort's whims.
static int larger_first(const void *a, const void *b)
{
    const struct fm__span *x = *(struct fm__span *const *)a, *y = *(struct fm__span *const *)b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x < y ? -1 : x > y;
}

static int by_offset(const void *a, const void *b)
{
    const struct fm__span *x = *(struct fm__span *const *)a, *y = *(struct fm__span *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

// placed[0 … n) in order of offset: the lowest gap among those alive together with `s`.
static size_t lowest_gap(struct fm__span **placed, int n, const struct fm__span *s, size_t alignment)
{
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        const struct fm__span *p = placed[i];
        if (p->last < s->first || p->first > s->last) continue;
        if (p->offset >= at && p->offset - at >= s->bytes) break;
        size_t end = fm__align_up(p->offset + p->bytes, alignment);
        if (end > at) at = end;
    }
    return at;
}

fm_status fm__memory_plan(struct fm__span *spans, int n, size_t alignment, size_t *total, struct fm_error *err)
{
    *total = 0;
    struct fm__span **order = fm__malloc((size_t)n * 2 * sizeof *order);
    if (!order) return fm__fail_nomem(err, "memory plan", (size_t)n * 2 * sizeof *order);
    struct fm__span **placed = order + n;
    for (int i = 0; i < n; i++) order[i] = &spans[i];
    qsort(order, (size_t)n, sizeof *order, larger_first);
    for (int i = 0; i < n; i++) {
        struct fm__span *s = order[i];
        s->offset = lowest_gap(placed, i, s, alignment);
        placed[i] = s;
        for (int k = i; k > 0 && by_offset(&placed[k - 1], &placed[k]) > 0; k--) {
            struct fm__span *swap = placed[k];
            placed[k] = placed[k - 1];
            placed[k - 1] = swap;
        }
        if (s->offset + s->bytes > *total) *total = s->offset + s->bytes;
    }
    *total = fm__align_up(*total, alignment);
    fm__free(order);
    return FM_OK;
}

size_t fm__memory_peak(const struct fm__span *spans, int n, int32_t *stage)
{
    size_t most = 0;
    int32_t at = 0;
    for (int i = 0; i < n; i++) { // a peak begins where something begins
        size_t alive = 0;
        for (int k = 0; k < n; k++)
            if (spans[k].first <= spans[i].first && spans[i].first <= spans[k].last) alive += spans[k].bytes;
        if (alive > most || (alive == most && spans[i].first < at)) most = alive, at = spans[i].first;
    }
    if (stage) *stage = at;
    return most;
}
