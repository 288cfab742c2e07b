// SPDX-License-Identifier: MIT
// From files on disk to micro-batches of rows: everything between a user's data and the arrays a training plan reads.
//
// A *dataset* is a set of files read once: rows of the files become samples (tokens with a mark at each token that the
// model is to predict, a class, a number, or pixels), which lie in a store: a file in the user's cache folder under the
// hash of all that they depend on, or memory. A *loader* walks over the samples of one part of a dataset (training,
// validation, all), epoch after epoch, and packs whole samples into micro-batches; nothing is padded and no document
// is cut. A sample is one document, but for preference pairs (chosen, then rejected) and packed text (as many documents
// as fall into `length` tokens).
//
//     struct fm__data_opts opts = {.kind = FM__DATA_CHAT, .paths = &path, .n_paths = 1, .tok = tok, .length = 512,
//                                  .chat_template = text, .n_chat_template = n, .validation = 0.05};
//     struct fm__loader_opts walk = {.part = FM__DATA_TRAIN, .rows = 512, .batch = 16, .seed = 1};
//     struct fm__microbatch mb = {.cap = 512, .tokens = …, .targets = …, .weights = …, .rows = …};
//     fm__dataset_open(&opts, &data, err), fm__loader_new(data, &walk, &loader, err);
//     for (;;) {                                    // a step: the samples of one batch
//         do fm__loader_next(loader, &mb, err), …accumulate the gradient of mb.n_rows rows… while (!mb.ends_step);
//         …update; a checkpoint keeps fm__loader_position(loader)…
//     }
//
// Order: the samples of an epoch are a permutation that depends on seed and epoch alone, over an index of 32 bytes a
// sample; samples are read on demand. A step is `batch` samples of that order (the last one of an epoch may have
// fewer), the same ones whatever the number of ranks: a step's samples are dealt to the ranks so that all have about
// the same number of rows, then packed first-fit, longest first. Same files, options, seed and position give the same
// micro-batches, byte for byte, at any thread count and after a restore.
//
// Threads: a dataset is immutable once open and may serve any number of loaders; a loader belongs to one thread.
#ifndef FM_TRAIN_DATA_H
#define FM_TRAIN_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"
#include "fathom/tokenizer.h"

struct fm__dataset;
struct fm__loader;

enum fm__data_kind {
#define X(name, word, what) name,
#include "train/data_kinds.def"
#undef X
    FM__DATA_KIND_COUNT
};

// The word of a kind on a command line ("chat"), and back (-1: none such). Static.
const char *fm__data_kind_word(enum fm__data_kind kind);
int fm__data_kind_of(const char *word);

// What a document of plain text is.
enum fm__data_unit {
    FM__UNIT_FILE,      // each file, whole (at most 512 MiB); JSONL: each row's "text"
    FM__UNIT_PARAGRAPH, // what lies between empty lines
    FM__UNIT_LINE,
};

enum fm__data_header { FM__HEADER_AUTO, FM__HEADER_YES, FM__HEADER_NO };

// What a text that is no chat ends with.
enum fm__data_end {
    FM__END_EOS,  // the tokenizer's end of text (WordPiece: SEP), where it has one
    FM__END_NONE, // nothing
};

enum { FM__DATA_TEXT_COLUMNS = 4 };

// Columns of a table: a name (of the header, or a member of the JSON object) or a number from 1 ("2"). NULL: the one
// with a usual name (text, sentence, …; label, category, …), else the first for the text and the last for the label.
// Header AUTO: the first row is a header when it holds a name asked for, or, where none is, a usual name of a label or
// of a text in the column that is to hold it.
struct fm__data_columns {
    const char *text[FM__DATA_TEXT_COLUMNS]; // several are joined by `join`
    const char *join;                        // NULL: a newline
    const char *label;
    enum fm__data_header header;
    char delimiter; // 0: a tab for .tsv and .tab, else a comma
};

// How images become features. Zero means the default beside each field.
struct fm__data_images {
    int width, height; // folders: every image is scaled to this; 0: all must have the size of the first
    int channels;      // folders: 1 grey or 3 colours; 0: as the first image has
};

struct fm__data_opts {
    enum fm__data_kind kind;
    const char *const *paths; // files in this order; the format is that of the name's ending (.jsonl, .csv, .tsv; else
                              // text). images: IDX files of images (labels beside them: "images-idx3" → "labels-idx1";
                              // .gz too), or folders CLASS/NAME.png|jpg
    size_t n_paths;
    const struct fm_tokenizer *tok; // not for images; must outlive the call only
    const char *chat_template;      // chat, and pairs given as messages: the template's text; n bytes
    size_t n_chat_template;
    int64_t length;    // the most rows a document may take, ≤ the model's context; > 0 (images: unused)
    bool refuse_long;  // a longer one is a bad row; else it is cut and counted
    int64_t skip_bad;  // so many malformed rows are skipped and counted; -1: any number
    double validation; // the fraction of the samples set aside, 0 … below 1 (packed text: the end of the stream)
    uint64_t seed;     // of the choice of those
    const char *cache; // folder for stores (see fm__data_cache_folder); NULL: memory
    enum fm__data_end end;
    enum fm__data_unit unit;         // text
    bool whole;                      // text: a document a sample instead of samples of `length` rows across documents
    bool one_slot;                   // packed text: documents of a sample see and predict one another
    struct fm__data_columns columns; // classify, regress
    const char *const *labels;       // classify, images: names in the order of their ids; any other is a bad row. NULL:
    size_t n_labels;                 // those found, integers by value, else by name in byte order
    struct fm__data_images images;
};

// Why rows were left out.
enum fm__data_skip {
#define X(name, text) name,
#include "train/data_skips.def"
#undef X
    FM__SKIP_COUNT
};
const char *fm__data_skip_text(enum fm__data_skip skip); // "invalid UTF-8"; static

struct fm__data_counts {
    int64_t rows;                    // read from the files (documents for text, images)
    int64_t used;                    // rows that became samples (packed text: documents of the stream)
    int64_t skipped[FM__SKIP_COUNT]; // rows that did not, by reason
    int64_t truncated;               // documents that were cut to `length`
    int64_t tokens;                  // of all documents, as kept
    int64_t targets;                 // tokens, classes, numbers with a loss
    int64_t longest;                 // rows of the longest sample
    int64_t turns;                   // chat: assistant turns with a loss
    int64_t turns_lost;              // chat: … that the template's output does not show, so that they teach nothing
};

// Opens files: reads the store of the cache where there is a good one, else makes it. Errors, with file and line:
// FM_E_ARG (options), FM_E_NOT_FOUND, FM_E_FORMAT (more bad rows than allowed; no sample at all; a label that is not
// among `labels`), FM_E_IO (also a file that changed while it was read, a full disk), FM_E_NOMEM. *out: the caller's.
fm_status fm__dataset_open(const struct fm__data_opts *opts, struct fm__dataset **out, struct fm_error *err);
void fm__dataset_close(struct fm__dataset *data); // NULL is fine; after the loaders

// ${XDG_CACHE_HOME:-$HOME/.cache}/fathom/data, made if it is not there. *out: freed with fm__free.
fm_status fm__data_cache_folder(char **out, struct fm_error *err);

enum fm__data_part { FM__DATA_ALL, FM__DATA_TRAIN, FM__DATA_VALID };

enum fm__data_kind fm__dataset_kind(const struct fm__dataset *data);
const struct fm__data_counts *fm__dataset_counts(const struct fm__dataset *data);
int64_t fm__dataset_n_samples(const struct fm__dataset *data, enum fm__data_part part);
// What became of the cache, in a line for the user: "tokens read from FILE", "FILE is corrupted (…): made anew".
const char *fm__dataset_note(const struct fm__dataset *data);
// The first bad rows, "FILE:LINE: reason"; NULL behind the last that was kept (16). Lives as long as the dataset.
const char *fm__dataset_bad_row(const struct fm__dataset *data, int i);
// Labels by id; NULL outside. Counts are of one part.
int32_t fm__dataset_n_labels(const struct fm__dataset *data);
const char *fm__dataset_label(const struct fm__dataset *data, int32_t id);
int64_t fm__dataset_label_count(const struct fm__dataset *data, enum fm__data_part part, int32_t id);
// Features of one image, and its shape {channels, height, width}; 0 for other kinds.
int64_t fm__dataset_n_features(const struct fm__dataset *data);
void fm__dataset_image_shape(const struct fm__dataset *data, int32_t shape[3]);
// Hash of everything the samples depend on (file bytes, tokenizer, template, options): a checkpoint keeps it.
uint64_t fm__dataset_fingerprint(const struct fm__dataset *data);
// Where a sample (fm__microbatch.samples) came from: "FILE:LINE". Packed text has the token's number instead.
void fm__dataset_where(const struct fm__dataset *data, int64_t sample, char *out, size_t size);

enum fm__data_order {
    FM__ORDER_SHUFFLED,
    FM__ORDER_BUCKETED,   // shuffled, then steps made of samples of like length: fewer, fuller micro-batches
    FM__ORDER_SEQUENTIAL, // as in the files
};

struct fm__loader_opts {
    enum fm__data_part part;
    enum fm__data_order order;
    int64_t rows;  // the most rows of a micro-batch, N
    int64_t batch; // samples of a step, all ranks together; > 0
    uint64_t seed;
    int rank, n_ranks;          // n_ranks 0: one
    bool shift;                 // packed text: each epoch cuts its samples at another offset (the first is shorter)
    const float *class_weights; // a weight an id, or NULL: 1
    size_t n_class_weights;
    int image_shift; // images: each is moved by up to so many pixels either way, anew each epoch; black comes in
    bool balance;    // weights n / (classes · n of the class), times class_weights
    float feature_mean, feature_std; // images: (pixel / 255 − mean) / std; std 0: 1
};

// A micro-batch. The caller owns the arrays, each of `cap` entries (rows) and never touched behind n_rows; NULL where
// it does not want one. cap must be at least the loader's `rows`.
struct fm__microbatch {
    int64_t cap;
    int32_t *tokens;  // [cap]
    int32_t *targets; // [cap] the token or class to predict, -1: no loss
    float *values;    // [cap] regress: the number, at a document's last row (else 0)
    float *weights;   // [cap] of the row's loss; 0 where it has none
    int32_t *rows;    // [cap, 4] SLOT = document in the micro-batch, POS from 0, ADAPTER -1, KV = the row's own index
    float *features;  // [cap, D] images
    int64_t *samples; // [cap] of each *document*: its sample, for fm__dataset_where; ascending ids are the files' order
    int32_t *ends;    // [cap] of each document: the row behind its last
    // filled by fm__loader_next
    int64_t n_rows, n_documents, n_samples;
    int64_t n_targets; // rows with a loss
    double weight;     // sum of the weights
    int64_t epoch;     // that it belongs to, from 0
    bool ends_step, ends_epoch;
};

// Errors: FM_E_ARG (no sample in the part, a sample of more rows than `rows`: named with its number of rows, a rank
// outside, class weights that do not fit), FM_E_NOMEM. `data` must outlive the loader.
fm_status fm__loader_new(const struct fm__dataset *data, const struct fm__loader_opts *opts, struct fm__loader **out,
                         struct fm_error *err);
void fm__loader_free(struct fm__loader *loader); // NULL is fine
// The next micro-batch; goes on with the next epoch for ever. A rank that gets nothing of a step gets one micro-batch
// without rows, so that every rank sees every step end. Errors: FM_E_IO (a data file or the store changed since it was
// opened: named), FM_E_NOT_FOUND (gone), FM_E_NOMEM; the position is then as before.
fm_status fm__loader_next(struct fm__loader *loader, struct fm__microbatch *mb, struct fm_error *err);
int64_t fm__loader_n_steps(const struct fm__loader *loader, int64_t epoch); // of that epoch

// Where a loader stands: what the next call gives. At the end of a step (`micro` 0) it holds for any number of ranks.
struct fm__data_position {
    int64_t epoch;
    int64_t sample; // index in the epoch's order of the step's first sample
    int64_t micro;  // micro-batches of the step already given
    uint64_t data;  // of the dataset and of the loader's part, order, batch, seed, shift
    uint64_t share; // of rank, n_ranks and rows: they matter within a step only
};
struct fm__data_position fm__loader_position(const struct fm__loader *loader);
// Errors: FM_E_VERIFY (made with other data or another order of them), FM_E_ARG (a position this loader cannot have);
// nothing changes then.
fm_status fm__loader_seek(struct fm__loader *loader, const struct fm__data_position *position, struct fm_error *err);

#endif
