// SPDX-License-Identifier: MIT
// The fathom binary: finds the command in commands.def and runs it. Exit codes are those of fm_status.
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli_help.h"
#include "cli_opts.h"
#include "commands.h"
#include "fathom/status.h"

struct command {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
};

static const struct command commands[] = {
#define X(name, summary) {#name, summary, fm_cmd_##name},
#include "commands.def"
#undef X
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static int help(FILE *to)
{
    fprintf(to, "fathom %s — runs, trains and serves models\n\nusage: fathom COMMAND [options]\n\ncommands:\n",
            FM_VERSION);
    for (int i = 0; i < N_COMMANDS; i++) fprintf(to, "  %-12s %s\n", commands[i].name, commands[i].summary);
    fprintf(to, "\nfathom COMMAND --help explains a command and gives examples.\n");
    return 0;
}

// The whole manual as one page: every command prints its own section from its tables.
static int help_man(void)
{
    printf(".TH FATHOM 1 \"\" \"fathom %s\" \"User commands\"\n.SH NAME\nfathom \\- runs, trains and serves models\n"
           ".SH SYNOPSIS\n.B fathom\n.I command\n[options]\n.SH COMMANDS\n",
           FM_VERSION);
    for (int i = 0; i < N_COMMANDS; i++) {
        char word[] = "--help=man";
        char *argv[] = {(char *)commands[i].name, word, NULL};
        commands[i].run(2, argv);
    }
    printf(".SH EXIT STATUS\n");
#define X(name, number, text, exit_code) printf(".TP\n%d\n%s\n", exit_code, text);
#include "fathom/status.def"
#undef X
    printf(".SH FILES\n.TP\n$XDG_CACHE_HOME/fathom/models\nmodels that fathom pull got (default: ~/.cache)\n"
           ".SH ENVIRONMENT\n.TP\nFATHOM_CPU\nhighest kernel level to use: ref, avx2, avx512, vnni, amx, neon, …\n");
    return 0;
}

static int help_words(void)
{
    for (int i = 0; i < N_COMMANDS; i++) puts(commands[i].name);
    return 0;
}

static int unknown(const char *word)
{
    const char *words[N_COMMANDS + 1];
    for (int i = 0; i < N_COMMANDS; i++) words[i] = commands[i].name;
    words[N_COMMANDS] = NULL;
    const char *closest = fm__cli_closest(word, words);
    fprintf(stderr, "fathom: unknown command \"%s\"", word);
    if (closest) fprintf(stderr, "; did you mean %s?", closest);
    fprintf(stderr, " (fathom --help lists the commands)\n");
    return fm_status_exit_code(FM_E_ARG);
}

static const struct command *find(const char *word)
{
    for (int i = 0; i < N_COMMANDS; i++) {
        if (strcmp(commands[i].name, word) == 0) return &commands[i];
    }
    return NULL;
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2) {
        help(stderr);
        return fm_status_exit_code(FM_E_ARG);
    }
    const char *word = argv[1];
    if (strcmp(word, "help") == 0 && argc > 2) {
        const struct command *c = find(argv[2]);
        char help_word[] = "--help";
        char *help_argv[] = {argv[2], help_word, NULL};
        return c ? c->run(2, help_argv) : unknown(argv[2]);
    }
    if (strcmp(word, "--help=man") == 0) return help_man();
    if (strcmp(word, "--help=words") == 0) return help_words();
    if (strcmp(word, "help") == 0 || fm__cli_help_word(word)) return help(stdout);
    if (strcmp(word, "--version") == 0) word = "version";
    const struct command *c = find(word);
    return c ? c->run(argc - 1, argv + 1) : unknown(word);
}

int main(int argc, char **argv)
{
    // a file that may not grow (ulimit -f) must be an error with a text, like a full disk, not a killed process
    signal(SIGXFSZ, SIG_IGN);
    int code = dispatch(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("fathom: cannot write the output");
        if (code == 0) code = fm_status_exit_code(FM_E_IO);
    }
    return code;
}
