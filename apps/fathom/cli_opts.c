// SPDX-License-Identifier: MIT
// The option parser: walks argv once, finds each word in the command's tables, converts and range-checks its value.
// Help, man page section and completion words are three printings of the same tables (cli_help.c).
#include "cli_opts.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_help.h"
#include "fathom/status.h"

// True if `word` (of n bytes) spells one of the comma-separated names; '_' and '-' are one letter in long ones.
static bool names_have(const char *names, const char *word, size_t n)
{
    for (const char *p = names; *p;) {
        size_t len = strcspn(p, ",");
        bool same = len == n;
        for (size_t i = 0; same && i < n; i++) {
            char c = word[i] == '_' && i > 1 ? '-' : word[i];
            same = p[i] == c;
        }
        if (same) return true;
        p += len + (p[len] == ',');
    }
    return false;
}

static const struct fm_cli_opt *find_option(const struct fm_cli_spec *spec, const char *word, size_t n)
{
    for (size_t g = 0; g < FM_CLI_MAX_GROUPS; g++) {
        for (size_t i = 0; i < spec->groups[g].n; i++) {
            if (names_have(spec->groups[g].opts[i].names, word, n)) return &spec->groups[g].opts[i];
        }
    }
    return NULL;
}

static bool wrong(const struct fm_cli_spec *spec, const struct fm_cli_opt *opt, const char *value, const char *want)
{
    size_t len = strcspn(opt->names, ",");
    fprintf(stderr, "fathom %s: %.*s: \"%s\" is not %s\n", spec->name, (int)len, opt->names, value, want);
    return false;
}

static bool in_range(const struct fm_cli_spec *spec, const struct fm_cli_opt *opt, const char *value, double x)
{
    if (opt->min == 0 && opt->max == 0) return true;
    if (x >= opt->min && x <= opt->max) return true;
    char want[80];
    snprintf(want, sizeof want, "in the range %.10g … %.10g", opt->min, opt->max);
    return wrong(spec, opt, value, want);
}

static bool read_integer(const struct fm_cli_spec *spec, const struct fm_cli_opt *opt, const char *value, int64_t *x)
{
    char *end;
    errno = 0;
    long long v = strtoll(value, &end, 10);
    if (end == value || *end || errno) return wrong(spec, opt, value, "a whole number");
    if (opt->type == FM_CLI_INT && v != (int)v) return wrong(spec, opt, value, "a number of 32 bits");
    *x = v;
    return in_range(spec, opt, value, (double)v);
}

static bool read_number(const struct fm_cli_spec *spec, const struct fm_cli_opt *opt, const char *value, double *x)
{
    char *end;
    errno = 0;
    double v = strtod(value, &end);
    if (end == value || *end || errno == ERANGE || isnan(v)) return wrong(spec, opt, value, "a number");
    *x = v;
    return in_range(spec, opt, value, v);
}

static bool list_room(const struct fm_cli_spec *spec, const struct fm_cli_list *list, const char *what)
{
    if (list->n < list->cap) return true;
    fprintf(stderr, "fathom %s: %s: more than %zu values\n", spec->name, what, list->cap);
    return false;
}

static bool read_integers(const struct fm_cli_spec *spec, const struct fm_cli_opt *opt, const char *value)
{
    struct fm_cli_list *list = opt->out;
    char word[32];
    for (const char *p = value;;) {
        size_t len = strcspn(p, ",");
        if (!list_room(spec, list, opt->names)) return false;
        if (len == 0 || len >= sizeof word) return wrong(spec, opt, value, "a list of numbers like 0,512,4096");
        memcpy(word, p, len);
        word[len] = 0;
        if (!read_integer(spec, opt, word, &((int64_t *)list->items)[list->n])) return false;
        list->n++;
        if (!p[len]) return true;
        p += len + 1;
    }
}

// "f16|int8=q8_0": index 0 is f16; int8 and q8_0 are both index 1.
static bool read_choice(const struct fm_cli_spec *spec, const struct fm_cli_opt *opt, const char *value)
{
    int index = 0;
    size_t n = strlen(value);
    for (const char *p = opt->choices; *p;) {
        size_t len = strcspn(p, "|=");
        if (len == n && memcmp(p, value, n) == 0) {
            *(int *)opt->out = index;
            return true;
        }
        p += len;
        if (*p == '|') index++;
        if (*p) p++;
    }
    char want[200];
    snprintf(want, sizeof want, "one of %s", opt->choices);
    return wrong(spec, opt, value, want);
}

static bool store(const struct fm_cli_spec *spec, const struct fm_cli_opt *opt, const char *value)
{
    int64_t integer = 0;
    switch (opt->type) {
    case FM_CLI_FLAG:
        *(bool *)opt->out = true;
        return true;
    case FM_CLI_UNFLAG:
        *(bool *)opt->out = false;
        return true;
    case FM_CLI_STR:
        *(const char **)opt->out = value;
        return true;
    case FM_CLI_STRS: {
        struct fm_cli_list *list = opt->out;
        if (!list_room(spec, list, opt->names)) return false;
        ((const char **)list->items)[list->n++] = value;
        return true;
    }
    case FM_CLI_INT:
        if (!read_integer(spec, opt, value, &integer)) return false;
        *(int *)opt->out = (int)integer;
        return true;
    case FM_CLI_I64:
        if (!read_integer(spec, opt, value, &integer)) return false;
        *(int64_t *)opt->out = integer;
        return true;
    case FM_CLI_F64: {
        double number = 0;
        if (!read_number(spec, opt, value, &number)) return false;
        *(double *)opt->out = number;
        return true;
    }
    case FM_CLI_INTS:
        return read_integers(spec, opt, value);
    case FM_CLI_CHOICE:
        return read_choice(spec, opt, value);
    }
    return false;
}

// Edit distance, for words shorter than 40 bytes; 99 otherwise.
static int distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    if (n >= 40 || m >= 40) return 99;
    int row[40];
    for (size_t j = 0; j <= m; j++) row[j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            int above = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
            if (above + 1 < best) best = above + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = above;
            row[j] = best;
        }
    }
    return row[m];
}

const char *fm__cli_closest(const char *word, const char *const *words)
{
    const char *best = NULL;
    if (strlen(word) < 3) return NULL; // "-x" is near everything
    int limit = strlen(word) < 5 ? 2 : 3, best_distance = limit + 1;
    for (; *words; words++) {
        int d = distance(word, *words);
        if (d < best_distance && d < (int)strlen(*words)) {
            best_distance = d;
            best = *words;
        }
    }
    return best;
}

static void unknown_option(const struct fm_cli_spec *spec, const char *word, size_t n)
{
    char given[40], names[128][40];
    const char *words[132];
    size_t count = 0;
    snprintf(given, sizeof given, "%.*s", (int)n, word);
    for (size_t g = 0; g < FM_CLI_MAX_GROUPS; g++) {
        for (size_t i = 0; i < spec->groups[g].n; i++) {
            for (const char *p = spec->groups[g].opts[i].names; *p && count < 128;) {
                size_t len = strcspn(p, ",");
                snprintf(names[count], sizeof names[count], "%.*s", (int)len, p);
                words[count] = names[count];
                count++;
                p += len + (p[len] == ',');
            }
        }
    }
    static const char *const common[] = {"--json", "--stats", "--help", NULL};
    memcpy(words + count, common, sizeof common);
    const char *closest = fm__cli_closest(given, words);
    fprintf(stderr, "fathom %s: unknown option %s", spec->name, given);
    if (closest) fprintf(stderr, "; did you mean %s?", closest);
    fprintf(stderr, " (fathom %s --help lists the options)\n", spec->name);
}

static bool is_switch(const struct fm_cli_opt *opt)
{
    return opt->type == FM_CLI_FLAG || opt->type == FM_CLI_UNFLAG;
}

// One option word, *i its index; moves *i over the value it takes.
static bool parse_option(const struct fm_cli_spec *spec, int argc, char **argv, int *i)
{
    const char *word = argv[*i];
    size_t n = word[1] == '-' ? strcspn(word, "=") : strlen(word);
    const char *attached = word[n] == '=' ? word + n + 1 : NULL;
    if (!strcmp(word, "--json") || !strcmp(word, "--stats")) {
        *(word[2] == 'j' ? spec->json : spec->stats) = true;
        return true;
    }
    const struct fm_cli_opt *opt = find_option(spec, word, n);
    if (!opt) {
        unknown_option(spec, word, n);
        return false;
    }
    if (is_switch(opt)) {
        if (!attached) return store(spec, opt, NULL);
        fprintf(stderr, "fathom %s: %.*s takes no value\n", spec->name, (int)n, word);
        return false;
    }
    if (attached) return store(spec, opt, attached);
    if (*i + 1 >= argc) {
        fprintf(stderr, "fathom %s: %s needs a value: %s %s\n", spec->name, word, word, opt->arg ? opt->arg : "VALUE");
        return false;
    }
    return store(spec, opt, argv[++*i]);
}

static bool take_positional(const struct fm_cli_spec *spec, const char *word)
{
    struct fm_cli_list *list = spec->positionals;
    if (!list) {
        fprintf(stderr, "fathom %s: takes no argument, found \"%s\"\n", spec->name, word);
        return false;
    }
    if (!list_room(spec, list, spec->args)) return false;
    ((const char **)list->items)[list->n++] = word;
    return true;
}

bool fm__cli_parse(const struct fm_cli_spec *spec, int argc, char **argv, int *exit_code)
{
    bool options = true;
    *exit_code = fm_status_exit_code(FM_E_ARG);
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (options && strcmp(word, "--") == 0) {
            options = false;
        } else if (options && fm__cli_help_word(word)) {
            *exit_code = fm__cli_help(spec, word);
            return false;
        } else if (options && word[0] == '-' && word[1]) {
            if (!parse_option(spec, argc, argv, &i)) return false;
        } else if (!take_positional(spec, word)) {
            return false;
        }
    }
    if (spec->positionals && spec->positionals->n < spec->min_positionals) {
        fprintf(stderr, "fathom %s: needs %s (fathom %s --help)\n", spec->name, spec->args, spec->name);
        return false;
    }
    return true;
}
