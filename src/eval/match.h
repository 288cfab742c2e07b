// SPDX-License-Identifier: MIT
// Whether an answer that a model wrote is the right one.
#ifndef FM_EVAL_MATCH_H
#define FM_EVAL_MATCH_H

#include <stdbool.h>

#include "eval/examples.h"

// White space (of ASCII) at the ends never counts.
enum fm__match {
    FM__MATCH_EXACT,    // the same bytes
    FM__MATCH_PREFIX,   // the answer begins with the gold one
    FM__MATCH_CONTAINS, // the gold one occurs in it
    FM__MATCH_NUMBER,   // the last number in each is the same; commas between digits do not count
};

// ignore_case: letters of ASCII.
bool fm__match(enum fm__match how, bool ignore_case, const struct fm__text *answer, const struct fm__text *gold);

#endif
