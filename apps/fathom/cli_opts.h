// SPDX-License-Identifier: MIT
// Options of the commands: one table per command feeds the parser, --help, the man page and the shell completion.
//
//     struct fm_cli_opt opts[] = {
//         {.names = "-m,--model", .type = FM_CLI_STR, .arg = "FILE", .out = &model, .help = "model file or name"},
//         {.names = "-c,--ctx-size", .type = FM_CLI_I64, .arg = "N", .out = &ctx, .min = 1, .max = 1 << 24, .help =
//         "…"},
//     };
//     struct fm_cli_spec spec = {.name = "generate", .summary = "…", .examples = "…",
//                                .groups = {{"Model", opts, FM_CLI_N(opts)}}};
//     int code;
//     if (!fm__cli_parse(&spec, argc, argv, &code)) return code;
//
// Targets keep their value when the option is not given: set the defaults before. Spellings are llama.cpp's where it
// has one; '_' in a long option is read as '-', `--name=value` and `--name value` are the same, "--" ends options.
// -h and --help are always there. The parser prints what is wrong itself; it never exits.
#ifndef FM_APP_CLI_OPTS_H
#define FM_APP_CLI_OPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fm_cli_type {
    FM_CLI_FLAG,   // bool *: set to true
    FM_CLI_UNFLAG, // bool *: set to false ("--no-mmap" writes false to `mmap`)
    FM_CLI_STR,    // const char **: points into argv
    FM_CLI_STRS,   // struct fm_cli_list *: may be given several times; element type const char *
    FM_CLI_INT,    // int *
    FM_CLI_I64,    // int64_t *
    FM_CLI_F64,    // double *
    FM_CLI_INTS,   // struct fm_cli_list *: comma list ("0,4096"), may be given several times; element type int64_t
    FM_CLI_CHOICE, // int *: index into `choices`
};

// What repeated and comma options collect into. `items` is an array of the command's own, of `cap` elements.
struct fm_cli_list {
    void *items;
    size_t cap, n;
};

struct fm_cli_opt {
    const char *names; // "-c,--ctx-size": short and long spellings, the one to show first; no spaces
    enum fm_cli_type type;
    const char *arg;     // what --help calls the value ("N"); NULL for flags
    const char *choices; // FM_CLI_CHOICE: "f16|int8|f32"; a synonym shares an index by '=': "int8=q8_0|f16"
    void *out;
    double min, max;  // accepted range of numbers, both ends in; both 0: any number of the type
    const char *help; // one line, without a full stop; the default in brackets where there is one
    bool hidden;      // accepted, not listed: a spelling of another tool that means nothing here
};

struct fm_cli_group {
    const char *title; // heading in --help
    const struct fm_cli_opt *opts;
    size_t n;
};

#define FM_CLI_N(array) (sizeof(array) / sizeof((array)[0]))
#define FM_CLI_MAX_GROUPS 7

struct fm_cli_spec {
    const char *name;
    const char *summary;
    const char *args;     // positional arguments as --help shows them ("[PROMPT]"); NULL: none
    const char *text;     // paragraph under the usage line, or NULL
    const char *examples; // lines "fathom … # what it does", each ended by \n
    struct fm_cli_group groups[FM_CLI_MAX_GROUPS];
    bool *json;                      // --json
    bool *stats;                     // --stats
    struct fm_cli_list *positionals; // const char *; NULL: none are accepted
    size_t min_positionals;
};

// True: parsed, go on. False: leave with *exit_code (0 after --help, 2 after a mistake, which has been printed to
// stderr with the closest option that exists).
bool fm__cli_parse(const struct fm_cli_spec *spec, int argc, char **argv, int *exit_code);

// The word of `words` (NULL-terminated) closest to `word`, or NULL where none is close enough to be a slip.
const char *fm__cli_closest(const char *word, const char *const *words);

#endif
