// SPDX-License-Identifier: MIT
// The line editor is libedit. Ctrl-C must be a key there, not a signal: libedit restarts a read that a signal ended.
// Its own handling of signals is off: after a change of the window's size it writes outside its picture of the screen.
// Instead the function that gets a key sees what came: a new size is drawn afresh, an end is an end of the input first.
#include "chat_line.h"

#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "base/error.h"

enum { HISTORY_LINES = 1000 };

struct fm_chat_line {
    EditLine *el; // NULL: input is no terminal
    History *history;
    char *history_path;
    bool more, interrupted; // more: inside a text of several lines
    int ended;              // by this signal
    char *plain;            // getline's buffer
    size_t plain_size;
};

// What a signal handler can reach: which signal asked to end, and whether the window has another size.
static volatile sig_atomic_t signal_to_end, resized;

static void on_signal(int number)
{
    if (number == SIGWINCH)
        resized = 1;
    else
        signal_to_end = number;
}

enum { N_SIGNALS = 3 };
static const int signals[N_SIGNALS] = {SIGWINCH, SIGTERM, SIGHUP};

static void watch_signals(struct sigaction old[N_SIGNALS])
{
    struct sigaction action = {.sa_handler = on_signal}; // no SA_RESTART: the read for a key ends
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < N_SIGNALS; i++) sigaction(signals[i], &action, &old[i]);
}

// libedit's way of getting a key, in UTF-8 (open made sure of that): 1, 0 at the end.
static int get_key(EditLine *el, wchar_t *key)
{
    mbstate_t state = {0};
    for (;;) {
        unsigned char byte;
        if (signal_to_end) return 0;
        if (resized) {
            resized = 0;
            el_resize(el);
            el_set(el, EL_REFRESH);
        }
        ssize_t n = read(0, &byte, 1);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return 0;
        size_t used = mbrtowc(key, (const char *)&byte, 1, &state);
        if (used == (size_t)-2) continue; // more bytes of this character to come
        if (used != (size_t)-1) return 1;
        state = (mbstate_t){0}; // not UTF-8: dropped
    }
}

static const char *prompt(EditLine *el)
{
    void *self = NULL;
    el_get(el, EL_CLIENTDATA, &self);
    return ((struct fm_chat_line *)self)->more ? "… " : "> ";
}

static unsigned char on_ctrl_c(EditLine *el, wint_t key)
{
    (void)key;
    void *self = NULL;
    el_get(el, EL_CLIENTDATA, &self);
    const LineInfo *info = el_line(el);
    el_cursor(el, (int)(info->lastchar - info->cursor));
    info = el_line(el);
    el_deletestr(el, (int)(info->lastchar - info->buffer));
    ((struct fm_chat_line *)self)->interrupted = true;
    return CC_NEWLINE;
}

// $XDG_STATE_HOME/fathom/history, its folders made. NULL: no home, no history.
static char *history_path(void)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char *path = NULL;
    if (state && state[0] == '/') {
        if (asprintf(&path, "%s/fathom/history", state) < 0) return NULL;
    } else {
        if (!home || home[0] != '/' || asprintf(&path, "%s/.local/state/fathom/history", home) < 0) return NULL;
    }
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(path, 0700); // what cannot be made shows when the history is written: it is then lost, nothing else
        *slash = '/';
    }
    return path;
}

static fm_status open_editor(struct fm_chat_line *line, struct fm_error *err)
{
    HistEvent event;
    line->el = el_init("fathom", stdin, stdout, stderr);
    line->history = history_init();
    if (!line->el || !line->history) return fm__fail_nomem(err, "line editor", sizeof event);
    history(line->history, &event, H_SETSIZE, HISTORY_LINES);
    history(line->history, &event, H_SETUNIQUE, 1);
    line->history_path = history_path();
    if (line->history_path) history(line->history, &event, H_LOAD, line->history_path);
    el_set(line->el, EL_CLIENTDATA, line);
    el_set(line->el, EL_PROMPT, prompt);
    el_set(line->el, EL_EDITOR, "emacs");
    el_set(line->el, EL_HIST, history, line->history);
    el_wset(line->el, EL_ADDFN, L"fathom-interrupt", L"Drop the line", on_ctrl_c); // el_set would leak copies of both
    el_set(line->el, EL_BIND, "^C", "fathom-interrupt", NULL);
    el_set(line->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_wset(line->el, EL_GETCFN, get_key);
    el_set(line->el, EL_SETTY, "-d", "-isig", NULL);
    return FM_OK;
}

fm_status fm__chat_line_open(struct fm_chat_line **out, struct fm_error *err)
{
    *out = NULL;
    struct fm_chat_line *line = calloc(1, sizeof *line);
    if (!line) return fm__fail_nomem(err, "line editor", sizeof *line);
    fm_status status = FM_OK;
    if (isatty(0) && isatty(1)) {
        setlocale(LC_CTYPE, "");
        if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0) setlocale(LC_CTYPE, "C.UTF-8");
        status = open_editor(line, err);
    }
    if (status != FM_OK) {
        fm__chat_line_close(line);
        return status;
    }
    *out = line;
    return FM_OK;
}

void fm__chat_line_close(struct fm_chat_line *line)
{
    if (!line) return;
    HistEvent event;
    if (line->history && line->history_path) {
        mode_t mask = umask(0077); // what was asked is private
        history(line->history, &event, H_SAVE, line->history_path);
        umask(mask);
    }
    if (line->el) el_end(line->el);
    if (line->history) history_end(line->history);
    free(line->history_path);
    free(line->plain);
    int ended = line->ended;
    free(line);
    if (ended) raise(ended); // now that the terminal is as it was and the history is kept
}

// One line with its newline; NULL at the end or on an interrupt.
static const char *read_line(struct fm_chat_line *line, size_t *n)
{
    int count = 0;
    line->interrupted = false;
    if (line->el) {
        el_set(line->el, EL_PREP_TERM,
               1); // before the prompt is seen, else what is typed at once is read by the old mode
        struct sigaction old[N_SIGNALS];
        watch_signals(old);
        const char *text = el_gets(line->el, &count);
        for (int i = 0; i < N_SIGNALS; i++) sigaction(signals[i], &old[i], NULL);
        line->ended = signal_to_end;
        *n = text && count > 0 ? (size_t)count : 0;
        if (line->interrupted) puts("^C");
        return line->interrupted ? NULL : text;
    }
    ssize_t got = getline(&line->plain, &line->plain_size, stdin);
    *n = got > 0 ? (size_t)got : 0;
    return got > 0 ? line->plain : NULL;
}

static void remember(struct fm_chat_line *line, const struct fm_cli_text *text)
{
    HistEvent event;
    if (line->history && text->n && strspn(text->p, " \t\n") < text->n)
        history(line->history, &event, H_ENTER, text->p);
}

static bool is_fence(const char *text, size_t n)
{
    while (n && strchr(" \t\r\n", text[n - 1])) n--;
    return n == 3 && memcmp(text, "\"\"\"", 3) == 0;
}

static enum fm_chat_read read_text(struct fm_chat_line *line, struct fm_cli_text *text)
{
    bool block = false;
    for (;;) {
        size_t n;
        const char *got = read_line(line, &n);
        if (!got) return line->interrupted ? FM_CHAT_INTERRUPT : text->n || block ? FM_CHAT_TEXT : FM_CHAT_EOF;
        if (is_fence(got, n)) {
            if (block) return FM_CHAT_TEXT;
            block = line->more = true;
            continue;
        }
        while (n && (got[n - 1] == '\n' || got[n - 1] == '\r')) n--;
        bool goes_on = !block && n && got[n - 1] == '\\';
        if (text->n && !fm__cli_text_add(text, "\n", 1)) return FM_CHAT_EOF;
        if (!fm__cli_text_add(text, got, goes_on ? n - 1 : n)) return FM_CHAT_EOF;
        if (!block && !goes_on) return FM_CHAT_TEXT;
        line->more = true;
    }
}

enum fm_chat_read fm__chat_line_read(struct fm_chat_line *line, struct fm_cli_text *text)
{
    text->n = 0;
    line->more = false;
    enum fm_chat_read what = read_text(line, text);
    if (what == FM_CHAT_TEXT) remember(line, text);
    return what;
}
