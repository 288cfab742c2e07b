// SPDX-License-Identifier: MIT
// The report of fathom eval: one page of HTML that needs nothing else.
#ifndef FM_APP_EVAL_REPORT_H
#define FM_APP_EVAL_REPORT_H

#include <stdio.h>

#include "eval_run.h"

// Scores with intervals, confusion matrix, the worst examples, the loss curve of e->log. All or nothing.
fm_status fm__eval_write_report(const struct fm_eval *e, const char *path, struct fm_error *err);

// Text as HTML: &, <, > and quotes are escaped, what is not UTF-8 becomes U+FFFD.
void fm__html_text(FILE *to, const char *text, size_t n);

// The loss over the steps of a training log as SVG: JSON lines with "step" and "loss", and where a validation was made
// "valid_loss" (or "val_loss", "eval_loss"). Errors: those of reading it; FM_E_FORMAT (no line has a loss).
fm_status fm__html_loss_curve(FILE *to, const char *log, struct fm_error *err);

#endif
