// SPDX-License-Identifier: MIT
// Bookkeeping of key/value pages: who holds which, and which full pages may serve another session's prefix. No bytes
// here: a page is a number.
//
// A full, evaluated page can be published: it is then found by (the page before it, its 64 tokens), which names its
// whole prefix exactly, whoever made it. A published page without holders stays until its room is wanted (oldest
// first).
#ifndef FM_INFER_PAGES_H
#define FM_INFER_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "fathom/status.h"

struct fm__pages;

enum { FM__NO_PAGE = -1 };

fm_status fm__pages_new(int32_t n_pages, struct fm__pages **out, struct fm_error *err);
void fm__pages_free(struct fm__pages *pages); // NULL is fine

int32_t fm__pages_take(struct fm__pages *pages); // a page with one holder, contents undefined; FM__NO_PAGE: none left
int32_t fm__pages_available(const struct fm__pages *pages); // how many takes would succeed now
int32_t fm__pages_held(const struct fm__pages *pages);      // pages with holders
int32_t fm__pages_held_most(const struct fm__pages *pages); // and the most that there ever were
void fm__pages_ref(struct fm__pages *pages, int32_t page);
void fm__pages_unref(struct fm__pages *pages, int32_t page);

// Whether the holder may write into the page: nobody else holds it. A published page is withdrawn by this.
bool fm__pages_make_writable(struct fm__pages *pages, int32_t page);
// Publishes a full page that follows `before` (FM__NO_PAGE or any other negative number for the first: prefixes of
// different numbers are different) with these 64 tokens. A second page with the
// same prefix is not published: the first stays findable.
void fm__pages_publish(struct fm__pages *pages, int32_t page, int32_t before, const int32_t *tokens);
// A published page, with one more holder now; FM__NO_PAGE: none.
int32_t fm__pages_find(struct fm__pages *pages, int32_t before, const int32_t *tokens);

#endif
