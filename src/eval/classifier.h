// SPDX-License-Identifier: MIT
// A classifier's head: an adapter's (fathom/adapter.h), or one in the model file: tensor cls.output.weight [C, D],
// optional cls.output.bias [C], names of the classes in fathom.classifier.labels. Applied to the hidden state (after
// the final norm) of a text's last token.
#ifndef FM_EVAL_CLASSIFIER_H
#define FM_EVAL_CLASSIFIER_H

#include <stdint.h>

#include "fathom/adapter.h"
#include "fathom/gguf.h"
#include "fathom/status.h"

struct fm__classifier {
    int32_t n_classes, d_model; // n_classes 0: the file has no head
    float *weight, *bias;       // [C, D], [C] (zeros where the file has none); owned
    struct fm_str *labels;      // [C], or NULL: they have no names. Strings are the file's, or the adapter's
};

// Errors: FM_E_SHAPE (a head of another width than d_model, other counts of biases or labels), FM_E_IO, FM_E_NOMEM.
fm_status fm__classifier_read(const struct fm_gguf *gguf, int32_t d_model, struct fm__classifier *out,
                              struct fm_error *err);
// A copy of an adapter's head. Errors: FM_E_SHAPE, FM_E_NOMEM.
fm_status fm__classifier_of_head(const struct fm_adapter_head *head, int32_t d_model, struct fm__classifier *out,
                                 struct fm_error *err);
void fm__classifier_deinit(struct fm__classifier *classifier); // a zeroed one is fine

// scores [C] of a hidden state [D]; sums in f64, ascending.
void fm__classifier_scores(const struct fm__classifier *classifier, const float *hidden, double *scores);

#endif
