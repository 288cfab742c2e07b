// SPDX-License-Identifier: MIT
// JSON lines, error lines, byte counts, the progress bar.
#include "cli_out.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utf8proc.h>

#include "base/clock.h"

int fm__cli_json(json_t *value)
{
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(value);
    if (!text) {
        fprintf(stderr, "fathom: cannot build the JSON answer: out of memory or text that is not UTF-8\n");
        return fm_status_exit_code(FM_E_NOMEM);
    }
    puts(text);
    free(text);
    return 0;
}

json_t *fm__cli_text(const char *text, size_t n)
{
    json_t *plain = json_stringn(text, n);
    if (plain) return plain;
    char *clean = malloc(3 * n + 1); // a bad byte becomes U+FFFD, three bytes
    if (!clean) return NULL;
    size_t out = 0;
    for (size_t i = 0; i < n;) {
        utf8proc_int32_t point;
        utf8proc_ssize_t len = utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(n - i), &point);
        memcpy(clean + out, len > 0 ? text + i : "\xef\xbf\xbd", len > 0 ? (size_t)len : 3);
        out += len > 0 ? (size_t)len : 3;
        i += len > 0 ? (size_t)len : 1;
    }
    json_t *value = json_stringn(clean, out);
    free(clean);
    return value;
}

// For a terminal: control characters and bytes that are not UTF-8 (names out of a stranger's file) become '?'.
static void make_printable(char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0; i < n;) {
        utf8proc_int32_t point;
        utf8proc_ssize_t len = utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(n - i), &point);
        if (len <= 0 || point < 0x20 || (point >= 0x7f && point < 0xa0))
            memset(text + i, '?', len > 0 ? (size_t)len : 1);
        i += len > 0 ? (size_t)len : 1;
    }
}

int fm__cli_error(const char *cmd, const struct fm_error *err, bool json)
{
    if (json) {
        fm__cli_json(json_pack("{s:{s:s, s:s, s:o, s:s}}", "error", "command", cmd, "code", fm_status_text(err->code),
                               "text", fm__cli_text(err->text, strlen(err->text)), "where", err->where));
    } else {
        struct fm_error shown = *err;
        make_printable(shown.text);
        fprintf(stderr, "fathom %s: %s\n", cmd, shown.text);
    }
    return fm_status_exit_code(err->code);
}

const char *fm__cli_bytes(char buf[24], uint64_t bytes)
{
    static const char units[][3] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    double x = (double)bytes;
    size_t u = 0;
    for (; x >= 999.95 && u + 1 < sizeof units / sizeof *units; u++) x /= 1000;
    snprintf(buf, 24, u ? "%.1f %s" : "%.0f %s", x, units[u]);
    return buf;
}

static void draw(const struct fm_cli_progress *p, uint64_t done)
{
    char have[24], all[24], rate[24];
    double seconds = fm__seconds() - p->begun_s;
    uint64_t per_second = seconds > 0.2 && done > p->begun_at ? (uint64_t)((double)(done - p->begun_at) / seconds) : 0;
    fprintf(stderr, "\r%s ", p->label);
    if (p->total) {
        int filled = (int)(done >= p->total ? 30 : done * 30 / p->total);
        fprintf(stderr, "[%.*s%.*s] %3d %% ", filled, "##############################", 30 - filled,
                "..............................", (int)((double)done * 100 / (double)p->total));
    }
    if (p->count) {
        fprintf(stderr, "%llu of %llu, %.1f/s\033[K", (unsigned long long)done, (unsigned long long)p->total,
                seconds > 0 ? (double)(done - p->begun_at) / seconds : 0);
        return;
    }
    fprintf(stderr, "%s", fm__cli_bytes(have, done));
    if (p->total) fprintf(stderr, " of %s", fm__cli_bytes(all, p->total));
    if (per_second) fprintf(stderr, ", %s/s", fm__cli_bytes(rate, per_second));
    fprintf(stderr, "\033[K");
}

// One that can erase a line.
static bool terminal(void)
{
    const char *kind = getenv("TERM");
    return isatty(2) == 1 && kind && *kind && strcmp(kind, "dumb") != 0;
}

void fm__cli_progress_begin(struct fm_cli_progress *p, const char *label, uint64_t done, uint64_t total)
{
    *p = (struct fm_cli_progress){.label = label, .total = total, .begun_at = done, .on = terminal()};
    p->begun_s = fm__seconds();
}

void fm__cli_progress_update(struct fm_cli_progress *p, uint64_t done)
{
    if (!p->on) return;
    double t = fm__seconds();
    if (p->drawn_s > 0 && t - p->drawn_s < 0.1) return;
    p->drawn_s = t;
    draw(p, done);
}

void fm__cli_progress_end(struct fm_cli_progress *p)
{
    if (p->on && p->drawn_s > 0) fprintf(stderr, "\r\033[K");
    p->on = false;
}
