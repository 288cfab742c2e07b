// SPDX-License-Identifier: MIT
// Adapters: low-rank changes of a model's weights (LoRA, arXiv 2106.09685; rsLoRA, 2312.03732; DoRA, 2402.09353), and
// what was trained beside them. In memory an adapter speaks the model file's language: targets are named by GGUF tensor
// and their rows stand in that file's order. The readers and writers below turn what other programs hold otherwise.
//
// A target changes the product of its weight W [O, K]:
//     y = W x  becomes  y = g ⊙ (W x + s B (A x)),   A [r, K], B [O, r], s = alpha / r (rsLoRA: alpha / sqrt r)
// where g is 1, or with DoRA's magnitudes m [O]:  g = m / |rows of W + s B A|. Biases stay outside g. The target
// "token_embd.weight" [V, D] changes embeddings only, "output.weight" logits only, also where a model ties the two.
#ifndef FATHOM_ADAPTER_H
#define FATHOM_ADAPTER_H

#include <stddef.h>
#include <stdint.h>

#include "fathom/gguf.h"
#include "fathom/status.h"
#include "fathom/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { FM_ADAPTER_HASH = 65 };       // lower-case hex of SHA-256, zero terminated
enum { FM_ADAPTER_MAX_RANK = 1024 }; // of a target

struct fm_adapter_target {
    char *name; // "blk.0.attn_q.weight"
    int64_t r, n_in, n_out;
    float alpha;
    float *a, *b;     // [r, n_in], [n_out, r]
    float *magnitude; // DoRA's m [n_out]; NULL: plain
};

// A whole tensor that was trained (PEFT's modules_to_save): it replaces the model's. Only fm_adapter_merge applies it.
struct fm_adapter_tensor {
    char *name;
    int rank; // 1 or 2
    int64_t dims[2];
    float *data;
};

// Classification or regression on the hidden state h after the final norm of a text's last token: W h + bias.
struct fm_adapter_head {
    int64_t n_classes, n_in; // [C, D]; C 0: there is no head
    float *weight, *bias;    // bias [C]; NULL: none
    char **labels;           // [C]; NULL: they have no names
};

// Everything is owned by the adapter; read the fields, change them through the calls below.
struct fm_adapter {
    int rs_lora;
    float dropout;                   // in training; kept for the record
    char *base_name;                 // what the adapter says about its base, "" where it says nothing
    char base_hash[FM_ADAPTER_HASH]; // fm_adapter_base_hash of the model it was trained on; "": not known
    struct fm_adapter_target *targets;
    int n_targets;
    struct fm_adapter_tensor *tensors;
    int n_tensors;
    struct fm_adapter_head head;
};

// An empty adapter: base_name copied (NULL: ""), everything else set by the caller or the calls below.
FM_API fm_status fm_adapter_new(const char *base_name, struct fm_adapter **out, struct fm_error *err);
FM_API void fm_adapter_free(struct fm_adapter *adapter); // NULL is fine

// Adds a target or a tensor: everything is copied. Errors: FM_E_ARG (a name twice, a rank outside 1 …
// FM_ADAPTER_MAX_RANK, numbers that are not finite, empty dims), FM_E_NOMEM; the adapter is then as it was.
FM_API fm_status fm_adapter_add(struct fm_adapter *adapter, const struct fm_adapter_target *target,
                                struct fm_error *err);
FM_API fm_status fm_adapter_add_tensor(struct fm_adapter *adapter, const struct fm_adapter_tensor *tensor,
                                       struct fm_error *err);
FM_API fm_status fm_adapter_set_head(struct fm_adapter *adapter, const struct fm_adapter_head *head,
                                     struct fm_error *err);

FM_API const struct fm_adapter_target *fm_adapter_find(const struct fm_adapter *adapter, const char *name);
FM_API float fm_adapter_scale(const struct fm_adapter *adapter, const struct fm_adapter_target *target); // s

// Whether the adapter fits this model: its hash where known, every name and shape. Errors: FM_E_VERIFY (another
// model's), FM_E_NOT_FOUND and FM_E_SHAPE name the tensor.
FM_API fm_status fm_adapter_check(const struct fm_adapter *adapter, const struct fm_gguf *base, struct fm_error *err);

// Tells one model from another whatever types its weights are stored in: SHA-256 of architecture, names and shapes of
// all tensors, and the values of the one-dimensional ones (norms, biases), which quantisers leave alone. `base` must
// have been opened with its data.
FM_API fm_status fm_adapter_base_hash(const struct fm_gguf *base, char hex[FM_ADAPTER_HASH], struct fm_error *err);

// SHA-256 of all that changes results: equal adapters have equal hashes, whichever file they came from.
FM_API fm_status fm_adapter_hash(const struct fm_adapter *adapter, char hex[FM_ADAPTER_HASH], struct fm_error *err);

// Head scores [C] of a hidden state [D] (fm_session_hidden): one chain of fused multiply-adds a class, then the bias.
// FM_E_ARG where the adapter has no head or d_model is not its width.
FM_API fm_status fm_adapter_scores(const struct fm_adapter *adapter, const float *hidden, int64_t d_model,
                                   float *scores, struct fm_error *err);

// Reads an adapter for `base`: a folder as PEFT writes it (adapter_config.json, adapter_model.safetensors), either of
// the two files in it, or a GGUF adapter as llama.cpp's converter writes it. Checked against the base as by
// fm_adapter_check. Errors besides: those of the containers; FM_E_UNSUPPORTED (peft_type and settings that are not
// LoRA's, named), FM_E_FORMAT (half a pair, a name that no model has).
FM_API fm_status fm_adapter_open(const char *path, const struct fm_gguf *base, struct fm_adapter **out,
                                 struct fm_error *err);
// The same from bytes in memory: a GGUF file, or the two parts of PEFT's folder.
FM_API fm_status fm_adapter_from_gguf(const struct fm_gguf *file, const struct fm_gguf *base, struct fm_adapter **out,
                                      struct fm_error *err);
struct fm_adapter_peft {
    const char *config; // adapter_config.json
    size_t config_bytes;
    const void *weights; // adapter_model.safetensors
    size_t weights_bytes;
};
FM_API fm_status fm_adapter_from_peft(const struct fm_adapter_peft *parts, const struct fm_gguf *base,
                                      struct fm_adapter **out, struct fm_error *err);

// Writes PEFT's folder (made if there is none; each file all or nothing, the configuration last).
FM_API fm_status fm_adapter_write_peft(const struct fm_adapter *adapter, const struct fm_gguf *base, const char *dir,
                                       struct fm_error *err);
// Writes a GGUF adapter that llama.cpp takes: its one alpha over rank for all targets (rsLoRA's scale becomes an alpha;
// where targets differ, B takes up the difference). FM_E_UNSUPPORTED in words for what it has no place for: DoRA, whole
// tensors, heads.
FM_API fm_status fm_adapter_write_gguf(const struct fm_adapter *adapter, const struct fm_gguf *base, const char *path,
                                       struct fm_error *err);

// An adapter and the user's own factor on its s (1: as trained).
struct fm_adapter_use {
    const struct fm_adapter *adapter;
    float scale;
};

// --- merging ---

struct fm_adapter_merge_args {
    const struct fm_gguf *base;
    const struct fm_adapter_use *uses; // all apply together
    int n_uses;
    // Of the matrices in the result: any type of weights (fm_dtype); FM_DTYPE_COUNT: each stays what it is in the base.
    // One whose rows are no whole blocks of the type becomes f16. Vectors, and positions, stay as they are.
    fm_dtype type;
    void (*progress)(void *context, uint64_t done, uint64_t total); // bytes written; NULL: none
    void *context;
};

// Writes a model file that needs no adapter: W + s B A (DoRA: times g), whole tensors in the place of the model's. A
// model whose embeddings serve as its output gets an output of its own where the adapters tell the two apart. Values
// are formed in f32 and rounded once, to the nearest code of the type. All or nothing, as the writer of GGUF is.
// Errors: those of fm_adapter_check and of the files; FM_E_UNSUPPORTED for a head (a model file has no place for it);
// FM_E_ARG where two uses replace the same tensor; FM_E_LIMIT for a value beyond f16's range.
FM_API fm_status fm_adapter_merge(const struct fm_adapter_merge_args *args, const char *path, struct fm_error *err);

// --- running ---

struct fm_model;
struct fm_adapter_set;

// What a session may be given: the sum of the changes of these adapters.
struct fm_adapter_choice {
    const struct fm_adapter_use *uses;
    int n_uses;
};

enum { FM_ADAPTER_MAX_CHOICES = 256 };

// Puts the choices where the model's weights are, so that batchers of this model can offer them to their sessions
// (fm_batcher_opts.adapters, fm_session_set_adapter by index). Reads the weights that DoRA's targets have again, to
// measure their rows. The adapters are not needed afterwards; the model outlives the set, the set its batchers.
// Immutable, thread safe. Errors: those of fm_adapter_check; FM_E_UNSUPPORTED for whole tensors (named: merge such an
// adapter); FM_E_LIMIT for more than FM_ADAPTER_MAX_CHOICES or ranks beyond what kernels take; FM_E_NOMEM.
FM_API fm_status fm_adapter_set_new(const struct fm_model *model, const struct fm_adapter_choice *choices, int n,
                                    struct fm_adapter_set **out, struct fm_error *err);
FM_API void fm_adapter_set_free(struct fm_adapter_set *set); // NULL is fine
FM_API int fm_adapter_set_size(const struct fm_adapter_set *set);

#ifdef __cplusplus
}
#endif
#endif
