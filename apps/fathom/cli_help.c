// SPDX-License-Identifier: MIT
// Printing the option tables: aligned text, troff, bare words.
#include "cli_help.h"

#include <stdio.h>
#include <string.h>

#define STATS_HELP "time, first token, tokens/s, peak memory, operations, energy, when done"

bool fm__cli_help_word(const char *word)
{
    return strcmp(word, "-h") == 0 || strncmp(word, "--help", 6) == 0;
}

void fm__cli_troff(const char *text)
{
    bool at_start = true;
    for (; *text; text++) {
        if (at_start && (*text == '.' || *text == '\'')) fputs("\\&", stdout);
        if (*text == '\\') {
            fputs("\\e", stdout);
        } else if (*text == '-') {
            fputs("\\-", stdout);
        } else {
            putchar(*text);
        }
        at_start = *text == '\n';
    }
}

// "-c, --ctx-size N" from "-c,--ctx-size" and "N"
static void spelling(char *buf, size_t size, const struct fm_cli_opt *opt)
{
    size_t n = 0;
    for (const char *p = opt->names; *p && n + 3 < size; p++) {
        buf[n++] = *p;
        if (*p == ',') buf[n++] = ' ';
    }
    buf[n] = 0;
    if (opt->arg) snprintf(buf + n, size - n, " %s", opt->arg);
}

static void text_option(const char *left, const char *help, const char *choices)
{
    if (strlen(left) > 28) {
        printf("  %s\n  %28s", left, "");
    } else {
        printf("  %-28s", left);
    }
    printf("  %s", help);
    if (choices) printf(": %s", choices);
    putchar('\n');
}

static void help_text(const struct fm_cli_spec *spec)
{
    char left[120];
    printf("fathom %s — %s\n\nusage: fathom %s [options]%s%s\n", spec->name, spec->summary, spec->name,
           spec->args ? " " : "", spec->args ? spec->args : "");
    if (spec->text) printf("\n%s\n", spec->text);
    for (size_t g = 0; g < FM_CLI_MAX_GROUPS; g++) {
        if (!spec->groups[g].n) continue;
        printf("\n%s:\n", spec->groups[g].title);
        for (size_t i = 0; i < spec->groups[g].n; i++) {
            const struct fm_cli_opt *opt = &spec->groups[g].opts[i];
            if (opt->hidden) continue;
            spelling(left, sizeof left, opt);
            text_option(left, opt->help, opt->type == FM_CLI_CHOICE ? opt->choices : NULL);
        }
    }
    printf("\nCommon:\n");
    text_option("--json", "print JSON instead of text (docs/cli.md has the schema)", NULL);
    text_option("--stats", STATS_HELP, NULL);
    text_option("-h, --help", "print this", NULL);
    if (spec->examples) printf("\nexamples:\n%s", spec->examples);
}

static void man_option(const char *left, const char *help, const char *choices)
{
    printf(".TP\n.B ");
    fm__cli_troff(left);
    putchar('\n');
    fm__cli_troff(help);
    if (choices) {
        fputs(": ", stdout);
        fm__cli_troff(choices);
    }
    putchar('\n');
}

static void help_man(const struct fm_cli_spec *spec)
{
    char left[120];
    printf(".SS fathom %s\n", spec->name);
    fm__cli_troff(spec->summary);
    printf("\n.PP\n.B fathom %s\n[options] ", spec->name);
    if (spec->args) fm__cli_troff(spec->args);
    putchar('\n');
    if (spec->text) {
        printf(".PP\n");
        fm__cli_troff(spec->text);
        putchar('\n');
    }
    for (size_t g = 0; g < FM_CLI_MAX_GROUPS; g++) {
        for (size_t i = 0; i < spec->groups[g].n; i++) {
            const struct fm_cli_opt *opt = &spec->groups[g].opts[i];
            if (opt->hidden) continue;
            spelling(left, sizeof left, opt);
            man_option(left, opt->help, opt->type == FM_CLI_CHOICE ? opt->choices : NULL);
        }
    }
    man_option("--json", "print JSON instead of text", NULL);
    man_option("--stats", STATS_HELP, NULL);
    if (!spec->examples) return;
    printf(".PP\nExamples:\n.PP\n.nf\n");
    fm__cli_troff(spec->examples);
    printf(".fi\n");
}

static void help_words(const struct fm_cli_spec *spec)
{
    for (size_t g = 0; g < FM_CLI_MAX_GROUPS; g++) {
        for (size_t i = 0; i < spec->groups[g].n; i++) {
            const struct fm_cli_opt *opt = &spec->groups[g].opts[i];
            for (const char *p = opt->names; !opt->hidden && *p; p++) putchar(*p == ',' ? '\n' : *p);
            if (!opt->hidden) putchar('\n');
        }
    }
    puts("--json\n--stats\n--help");
}

int fm__cli_help(const struct fm_cli_spec *spec, const char *word)
{
    if (strcmp(word, "--help=man") == 0) {
        help_man(spec);
    } else if (strcmp(word, "--help=words") == 0) {
        help_words(spec);
    } else {
        help_text(spec);
    }
    return 0;
}
