// SPDX-License-Identifier: MIT
// A run's log.
#include "train_log.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"

fm_status fm__train_log_begin(struct fm_train_log *log, const char *path, bool append, struct fm_error *err)
{
    const char *term = getenv("TERM");
    log->line = !log->json && isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
    log->loss = NAN;
    if (!path) return FM_OK;
    log->file = fopen(path, append ? "ae" : "we");
    return log->file ? FM_OK : fm__fail(err, FM_E_IO, "%s: cannot write: %s", path, strerror(errno));
}

static json_t *number(double x) // JSON has no infinities
{
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *step_json(const struct fm_train_log *log, const struct fm__loop_step *s)
{
    json_t *line = json_object();
    json_object_set_new(line, "step", json_integer((json_int_t)s->step));
    json_object_set_new(line, "epoch", json_integer(s->epoch));
    json_object_set_new(line, "loss", number(s->loss));
    json_object_set_new(line, "norm", number(s->norm));
    json_object_set_new(line, "rate", number(s->rate));
    json_object_set_new(line, "rows", json_integer(s->rows));
    json_object_set_new(line, "targets", json_integer(s->targets));
    json_object_set_new(line, "tokens", json_integer((json_int_t)s->tokens));
    json_object_set_new(line, "seconds", number(s->seconds));
    json_object_set_new(line, "tokens_per_s", number((double)s->rows / s->seconds));
    if (log->operations_per_row > 0 && log->peak_operations > 0)
        json_object_set_new(line, "share",
                            number((double)s->rows * log->operations_per_row / s->seconds / log->peak_operations));
    if (s->skipped) json_object_set_new(line, "skipped", json_true());
    if (s->evaluated) {
        json_object_set_new(line, "eval_loss", number(s->eval.loss));
        json_object_set_new(line, "eval_accuracy", number(s->eval.accuracy));
        json_object_set_new(line, "eval_rows", json_integer(s->eval.rows));
        json_object_set_new(line, "best", json_boolean(s->best));
    }
    if (s->checkpoint) json_object_set_new(line, "checkpoint", json_string(s->checkpoint));
    return line;
}

static void clear_line(struct fm_train_log *log)
{
    if (log->drawn) fputs("\r\033[K", stderr);
    log->drawn = false;
}

static void draw(struct fm_train_log *log, const struct fm__loop_step *s)
{
    const double now = fm__seconds(), left = s->seconds * (double)(s->n_steps - s->step);
    if (now - log->drawn_at < 0.1 && s->step < s->n_steps) return;
    log->drawn_at = now;
    fprintf(stderr, "\r\033[K%llu/%llu  loss %.4f  norm %.3g  rate %.2e  %.0f tokens/s", (unsigned long long)s->step,
            (unsigned long long)s->n_steps, log->loss, s->norm, s->rate, (double)s->rows / s->seconds);
    if (log->operations_per_row > 0 && log->peak_operations > 0)
        fprintf(stderr, " (%.0f %% of the peak)",
                100 * (double)s->rows * log->operations_per_row / s->seconds / log->peak_operations);
    fprintf(stderr, "  %.0f:%02.0f left", floor(left / 60), fmod(left, 60));
    log->drawn = true;
}

void fm__train_log_step(struct fm_train_log *log, const struct fm__loop_step *s)
{
    if (isfinite(s->loss)) log->loss = isnan(log->loss) ? s->loss : 0.9 * log->loss + 0.1 * s->loss;
    if (log->file || log->json) {
        json_t *line = step_json(log, s);
        char *text = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
        if (!text) log->failed = true;
        if (text && log->file && (fprintf(log->file, "%s\n", text) < 0 || fflush(log->file) != 0)) log->failed = true;
        if (text && log->json) puts(text), fflush(stdout);
        free(text);
        json_decref(line);
    }
    if (log->line) draw(log, s);
    if (!s->evaluated || log->json) return;
    clear_line(log);
    fprintf(stderr, "step %llu: loss %.4f, validation %.4f", (unsigned long long)s->step, log->loss, s->eval.loss);
    if (s->eval.accuracy > 0) fprintf(stderr, ", accuracy %.2f %%", 100 * s->eval.accuracy);
    fprintf(stderr, "%s\n", s->best ? " (best so far)" : "");
}

void fm__train_log_note(struct fm_train_log *log, const char *text)
{
    clear_line(log);
    fprintf(stderr, "fathom: %s\n", text);
}

fm_status fm__train_log_end(struct fm_train_log *log, struct fm_error *err)
{
    if (log->drawn) fputc('\n', stderr);
    log->drawn = false;
    const bool closed = !log->file || fclose(log->file) == 0;
    log->file = NULL;
    return closed && !log->failed ? FM_OK : fm__fail(err, FM_E_IO, "log: a line could not be written");
}
