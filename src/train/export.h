// SPDX-License-Identifier: MIT
// What a run leaves: an adapter, or a whole model file.
#ifndef FM_TRAIN_EXPORT_H
#define FM_TRAIN_EXPORT_H

#include "fathom/adapter.h"
#include "train/trainer.h"

#define FM__LABELS_KEY "fathom.classifier.labels" // strings, by class id

// The detours and the head as an adapter for the model that was trained. labels NULL: classes without names.
fm_status fm__export_adapter(struct fm__trainer *t, const char *base_name, const char *const *labels,
                             struct fm_adapter **out, struct fm_error *err);

// The model with its trained tensors in the place of the base's: metadata, tokenizer and what was not trained are the
// base's bytes. Matrices are written as `dtype` (FM_F16 or FM_F32), vectors as f32. A head is cls.output.weight and
// cls.output.bias, its labels FM__LABELS_KEY. All or nothing. FM_E_ARG: low-rank detours (an adapter is written
// instead).
fm_status fm__export_gguf(struct fm__trainer *t, const char *path, fm_dtype dtype, const char *const *labels,
                          struct fm_error *err);

#endif
