// SPDX-License-Identifier: MIT
// A training log as a curve: the training loss with its running mean, the validation loss as dots joined by a line.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "eval_report.h"

enum { WIDTH = 760, HEIGHT = 260, LEFT = 60, RIGHT = 16, TOP = 14, BOTTOM = 32, POINTS = 1500 };

struct point {
    double step, loss;
};

struct series {
    struct point *points;
    size_t n, cap;
};

struct curve {
    struct series training, validation;
    double first, last, low, high; // steps, losses
};

static fm_status add_point(struct series *s, double step, double loss, struct fm_error *err)
{
    if (s->n == s->cap) {
        size_t cap = 2 * s->cap + 256;
        struct point *points = realloc(s->points, cap * sizeof *points);
        if (!points) return fm__fail_nomem(err, "loss curve", cap * sizeof *points);
        s->points = points;
        s->cap = cap;
    }
    s->points[s->n++] = (struct point){step, loss};
    return FM_OK;
}

static bool get_number(const json_t *row, const char *const *names, double *out)
{
    for (; *names; names++) {
        const json_t *value = json_object_get(row, *names);
        if (!json_is_number(value) || !isfinite(json_number_value(value))) continue;
        *out = json_number_value(value);
        return true;
    }
    return false;
}

static fm_status add_row(struct curve *c, const json_t *row, struct fm_error *err)
{
    static const char *const steps[] = {"step", NULL}, *const losses[] = {"loss", "train_loss", NULL},
                             *const valid[] = {"valid_loss", "val_loss", "eval_loss", NULL};
    double step, loss;
    if (!get_number(row, steps, &step)) return FM_OK;
    if (get_number(row, losses, &loss)) FM_TRY(add_point(&c->training, step, loss, err));
    if (get_number(row, valid, &loss)) FM_TRY(add_point(&c->validation, step, loss, err));
    return FM_OK;
}

static fm_status read_log(struct curve *c, const char *path, struct fm_error *err)
{
    char *text;
    size_t n;
    FM_TRY(fm__file_read_all(path, (size_t)1 << 30, &text, &n, err));
    fm_status status = FM_OK;
    for (const char *at = text, *end = text + n; status == FM_OK && at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at)), *stop = newline ? newline : end;
        json_t *row;
        // the last line of a run that was killed may be cut: what is no JSON has no loss either
        if (stop > at && fm__json_parse(at, (size_t)(stop - at), NULL, &row, NULL) == FM_OK) {
            status = add_row(c, row, err);
            json_decref(row);
        }
        at = stop + 1;
    }
    fm__free(text);
    if (status == FM_OK && !c->training.n && !c->validation.n)
        status = fm__fail(err, FM_E_FORMAT, "%s: no line has \"step\" and \"loss\"", path);
    return status;
}

static void widen(struct curve *c, const struct series *s)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct point *p = &s->points[i];
        if (p->step < c->first) c->first = p->step;
        if (p->step > c->last) c->last = p->step;
        if (p->loss < c->low) c->low = p->loss;
        if (p->loss > c->high) c->high = p->loss;
    }
}

static double x_of(const struct curve *c, double step)
{
    return LEFT + (WIDTH - LEFT - RIGHT) * (c->last > c->first ? (step - c->first) / (c->last - c->first) : 0.5);
}

static double y_of(const struct curve *c, double loss)
{
    return TOP + (HEIGHT - TOP - BOTTOM) * (c->high > c->low ? (c->high - loss) / (c->high - c->low) : 0.5);
}

// At most POINTS points: each the mean of as many neighbours.
static void draw_line(FILE *to, const struct curve *c, const struct series *s, const char *class)
{
    size_t width = s->n / POINTS + 1;
    if (!s->n) return;
    fprintf(to, "<polyline class=\"%s\" points=\"", class);
    for (size_t i = 0; i < s->n; i += width) {
        double step = 0, loss = 0, n = 0;
        for (size_t j = i; j < i + width && j < s->n; j++) step += s->points[j].step, loss += s->points[j].loss, n++;
        fprintf(to, "%.1f,%.1f ", x_of(c, step / n), y_of(c, loss / n));
    }
    fprintf(to, "\"/>\n");
}

static void draw(FILE *to, const struct curve *c)
{
    fprintf(to, "<svg viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\">\n", WIDTH, HEIGHT, WIDTH, HEIGHT);
    for (int i = 0; i <= 4; i++) {
        double loss = c->low + (c->high - c->low) * i / 4, y = y_of(c, loss);
        fprintf(to, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, WIDTH - RIGHT, y, y);
        fprintf(to, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>\n", LEFT - 6, y + 4, loss);
        double step = c->first + (c->last - c->first) * i / 4;
        fprintf(to, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f</text>\n", x_of(c, step), HEIGHT - 12, step);
    }
    draw_line(to, c, &c->training, "training");
    draw_line(to, c, &c->validation, "validation");
    for (size_t i = 0; i < c->validation.n && c->validation.n <= POINTS; i++)
        fprintf(to, "<circle class=\"validation\" r=\"3\" cx=\"%.1f\" cy=\"%.1f\"/>\n",
                x_of(c, c->validation.points[i].step), y_of(c, c->validation.points[i].loss));
    fprintf(to, "</svg>\n<p class=\"note\">%zu training losses%s, %zu of validation.</p>\n", c->training.n,
            c->training.n > POINTS ? " (neighbours averaged)" : "", c->validation.n);
}

fm_status fm__html_loss_curve(FILE *to, const char *log, struct fm_error *err)
{
    struct curve c = {.first = INFINITY, .last = -INFINITY, .low = INFINITY, .high = -INFINITY};
    fm_status status = read_log(&c, log, err);
    if (status == FM_OK) {
        widen(&c, &c.training);
        widen(&c, &c.validation);
        draw(to, &c);
    }
    free(c.training.points);
    free(c.validation.points);
    return status;
}
