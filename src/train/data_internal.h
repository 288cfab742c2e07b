// SPDX-License-Identifier: MIT
// What the files of the data layer share: an open dataset, and the builder that fills one.
//
// Life of a dataset: data.c hashes the files and looks for their store; where there is none, data_build.c walks the
// files with the reader of the kind (data_text.c, data_chat.c, data_table.c, data_images.c), which hands every sample
// to fm__build_emit*; then data.c splits it into parts. data_loader.c only reads.
#ifndef FM_TRAIN_DATA_INTERNAL_H
#define FM_TRAIN_DATA_INTERNAL_H

#include <jansson.h>

#include "base/sha256.h"
#include "text/tok_strtab.h"
#include "train/data.h"
#include "train/data_rows.h"
#include "train/data_store.h"

// A token of the store: its id, and whether the row before it is to predict it. In packed text every token is but the
// first of a document, so that the mark also says where documents begin.
#define FM__TOKEN_PREDICTED (1 << 30)
#define FM__TOKEN_ID(x) ((x) & (FM__TOKEN_PREDICTED - 1))

enum { FM__BAD_ROWS_KEPT = 16, FM__MAX_LABELS = 1 << 16 };

// One sample, as it stands in the store's index. Its payload is n[0] + n[1] tokens (i32), or n[0] bytes of an image.
struct fm__sample {
    uint64_t at;
    uint32_t n[2]; // n[1]: the rejected document of a pair, else 0
    uint32_t file, line;
    union {
        int32_t label;
        float value;
    };
    uint32_t check; // hash of the payload
};
_Static_assert(sizeof(struct fm__sample) == 32, "written as it lies in memory");

// What shows, without reading, that a file changed.
struct fm__stamp {
    uint64_t size, inode;
    int64_t seconds, nanoseconds; // of its last write
};

// A file the samples came from, as it was when it was read.
struct fm__data_file {
    char *path;
    struct fm__stamp then;
    char hex[FM__SHA256_HEX];
};

struct fm__bad_row {
    uint32_t file, line;
    char *reason;
    char *text; // "FILE:LINE: reason", made when the dataset is complete
};

struct fm__dataset {
    enum fm__data_kind kind;
    bool packed, one_slot; // text
    int64_t length;
    struct fm__data_file *files;
    size_t n_files;
    struct fm__store *store;
    struct fm__sample *index; // packed text: none
    size_t n_index;
    int64_t n_stream;  // packed text: tokens
    int64_t n_train;   // samples (packed text: tokens of the stream) for training
    uint32_t *part[2]; // ids of FM__DATA_TRAIN, then of FM__DATA_VALID, each ascending, in one block; packed text: none
    struct fm__strtab labels;
    char **label_names;    // zero-terminated copies
    int64_t *label_counts; // [2, labels]
    int64_t shape[3];      // images: channels, height, width
    struct fm__data_counts counts;
    struct fm__bad_row bad[FM__BAD_ROWS_KEPT];
    int n_bad;
    uint8_t key[FM__SHA256_BYTES]; // names the store
    uint64_t fingerprint;
    char note[512];
};

struct fm__ids { // tokens that grow
    int32_t *p;
    size_t n, cap;
};

struct fm__joined { // text that grows
    char *p;
    size_t n, cap;
};

// A dataset being made, and where its reader is.
struct fm__builder {
    const struct fm__data_opts *opts;
    struct fm__dataset *data;
    size_t cap_index;
    uint32_t file, line;                  // of the row in hand; line 0: none
    enum fm__data_skip skip;              // why the row in hand is bad; FM__SKIP_NONE: a failure is final
    int64_t n_bad;                        // rows so far that count against opts->skip_bad
    int64_t n_cut, n_turns, n_turns_lost; // of the row in hand, for the counts
    struct fm__ids ids, more;             // tokens of the document in hand, and of the second of a pair or of a prefix
    struct fm__joined joined;             // text of the row in hand
    int32_t end;                          // token that ends a text, -1: none
    struct fm_chat_template *tmpl;
    char bos[256], eos[256]; // their texts, for templates
    bool control_first[256]; // bytes that begin the text of a control token
};

// Marks the row in hand as bad and returns FM_E_FORMAT.
#define fm__bad(b, why, err, ...) ((b)->skip = (why), fm__fail((err), FM_E_FORMAT, __VA_ARGS__))

// --- data_files.c ---

fm_status fm__stamp_of(const char *path, struct fm__stamp *out, struct fm_error *err);
// FM_E_IO if the file's bytes are not those of the dataset any more. *seen: the stamp of the last look, which spares
// reading the file; it follows a file that was touched or replaced by an equal one.
fm_status fm__data_file_unchanged(const struct fm__data_file *file, struct fm__stamp *seen, struct fm_error *err);
// Fills data->files (hashed) and data->key from the options.
fm_status fm__data_identify(const struct fm__data_opts *opts, struct fm__dataset *data, struct fm_error *err);
fm_status fm__data_add_file(struct fm__dataset *data, const char *path, struct fm_error *err);

// --- data_description.c: the JSON part of a store ---

// Counts, labels, bad rows … as text (the caller frees), and back; FM_E_FORMAT where it is not what was written.
fm_status fm__data_describe(const struct fm__dataset *data, char **out, size_t *n, struct fm_error *err);
fm_status fm__data_restore(struct fm__dataset *data, const char *text, size_t n, struct fm_error *err);

// --- data_build.c ---

// Reads all files into data->store and data->index. Everything the builder holds is given back.
fm_status fm__build(const struct fm__data_opts *opts, struct fm__dataset *data, struct fm_error *err);

// What readers call:

// Ends the row in hand with the status its handler gave: counts it, keeps the reason of a bad one, and returns FM_OK if
// reading goes on.
fm_status fm__build_end_row(struct fm__builder *b, fm_status status, struct fm_error *err);
// Every row of a text file that is not blank (fm__rows_line, fm__rows_paragraph), each ended by fm__build_end_row.
typedef fm_status fm__next_fn(struct fm__rows *rows, struct fm_str *text, bool *got, struct fm_error *err);
typedef fm_status fm__row_fn(struct fm__builder *b, struct fm_str row, struct fm_error *err);
fm_status fm__build_each(struct fm__builder *b, const char *path, fm__next_fn *next, fm__row_fn *handle,
                         struct fm_error *err);
// FM_E_FORMAT with the reason if it is not UTF-8, or has a zero byte.
fm_status fm__build_check_text(struct fm__builder *b, struct fm_str text, struct fm_error *err);
// Tokens of a text into *ids (which grows) from *n on, without any end; flags as for fm_tokenizer_encode.
fm_status fm__build_encode(struct fm__builder *b, struct fm_str text, unsigned flags, struct fm__ids *ids,
                           struct fm_error *err);
void fm__ids_deinit(struct fm__ids *ids);
fm_status fm__ids_push(struct fm__ids *ids, int32_t id, struct fm_error *err);
// Cuts a document to at most `most` tokens, or refuses it, as the options say.
fm_status fm__build_fit(struct fm__builder *b, struct fm__ids *ids, size_t most, struct fm_error *err);
// A sample of b->ids (and b->more, where `pair`); label and value are taken from *sample.
fm_status fm__build_emit(struct fm__builder *b, const struct fm__sample *sample, bool pair, struct fm_error *err);
fm_status fm__build_emit_bytes(struct fm__builder *b, const struct fm__sample *sample, const void *bytes,
                               struct fm_error *err);
// The id of a label, new ones added unless the options name them all (then FM_E_FORMAT).
fm_status fm__build_label(struct fm__builder *b, struct fm_str name, int32_t *id, struct fm_error *err);
// A row of JSONL: an object (json_decref by the caller).
fm_status fm__build_object(struct fm__builder *b, struct fm_str line, json_t **out, struct fm_error *err);

// --- readers: all rows of file b->file ---
typedef fm_status fm__read_fn(struct fm__builder *b, const char *path, struct fm_error *err);
fm__read_fn fm__read_text, fm__read_chat, fm__read_completion, fm__read_table, fm__read_preference, fm__read_images;

// "FILE:LINE", or "FILE" for line 0.
void fm__data_place(const struct fm__dataset *data, uint32_t file, uint32_t line, char *out, size_t size);
// True if the name ends so (".jsonl"), whatever its case.
bool fm__ends_with(const char *path, const char *ending);

#endif
